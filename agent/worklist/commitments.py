"""Reports of storage commitment, matched by transaction UID: whichever process hears one, the ledger knows whose it is.

A Transaction UID holds 122 random bits, so knowing it is what entitles a caller to report; archives do call back under
AE titles and addresses other than those that they are called by.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

import sqlalchemy as sa

from agent.domain.results import DeliveryState
from agent.domain.work_item import State, Step
from agent.worklist import tables as t
from agent.worklist.ledger import Ledger, Prepared

_UNSAID: Final = 0x0110
"""Processing failure (PS3.3 C.14.1.1): stands for a Failure Reason that an archive leaves out."""


def record(
    ledger: Ledger, transaction_uid: str, *, committed: Collection[str], failed: Mapping[str, int], now: float
) -> bool:
    """Note what an archive reported, and have the delivery taken up again at once.

    Parameters
    ----------
    committed
        SOP Instance UIDs.
    failed
        SOP Instance UID to Failure Reason (0008,1197); it wins over `committed`.

    Returns
    -------
    bool
        False where nobody asked under this transaction.
    """
    with ledger.write_prepared() as connection:
        rows = _ASKED.run(connection, {"transaction": transaction_uid}).fetchall()
        for row, _, uid in rows:
            if (status := _status(uid, committed, failed)) is not None:
                _REPORTED.run(connection, {"row": row, "status": status})
        for work_item in {work_item for _, work_item, _ in rows}:
            _HASTEN.run(connection, {"work_item": work_item, "now": now})
    return bool(rows)


def hasten(ledger: Ledger, work_item_id: int, now: float) -> None:
    """Have a work item that was just given back taken up again, if a report came in between."""
    with ledger.write_prepared() as connection:
        _HASTEN.run(connection, {"work_item": work_item_id, "now": now})


def unanswered(ledger: Ledger, transaction_uid: str) -> int:
    """Count the objects of a transaction of which nothing was reported yet."""
    with ledger.read_prepared() as connection:
        return int(_UNANSWERED.run(connection, {"transaction": transaction_uid}).fetchone()[0])


def _status(uid: str, committed: Collection[str], failed: Mapping[str, int]) -> int | None:
    if uid in failed:
        return failed[uid] or _UNSAID
    return 0 if uid in committed else None


_B: Final = t.outbox.c
_W: Final = t.work_items.c
_ASKED: Final = Prepared(
    sa.select(_B.id, _B.work_item_id, _B.sop_instance_uid).where(_B.transaction_uid == sa.bindparam("transaction"))
)
_REPORTED: Final = Prepared(
    sa.update(t.outbox)
    .where(
        _B.id == sa.bindparam("row"),
        (_B.state == str(DeliveryState.PENDING)) | (_B.state == str(DeliveryState.SENT)),
    )
    .values(commitment_status=sa.bindparam("status"), not_before=0.0)
)
_IS_REPORTED: Final = sa.exists().where(
    _B.work_item_id == _W.id, _B.state == str(DeliveryState.SENT), _B.commitment_status.is_not(None)
)
_HASTEN: Final = Prepared(
    sa.update(t.work_items)
    .where(
        _W.id == sa.bindparam("work_item"),
        _W.state == str(State.IN_PROGRESS),
        _W.step == str(Step.DELIVER),
        _W.lease_until <= sa.bindparam("now"),
        _W.not_before > sa.bindparam("now"),
        _IS_REPORTED,
    )
    .values(not_before=sa.bindparam("now"), woken_at=0.0)
)
_UNANSWERED: Final = Prepared(
    sa.select(sa.func.count()).where(_B.transaction_uid == sa.bindparam("transaction"), _B.commitment_status.is_(None))
)
