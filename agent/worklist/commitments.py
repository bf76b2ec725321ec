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
from agent.worklist.ledger import Ledger

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
    with ledger.write() as connection:
        rows = connection.execute(_ASKED, {"transaction": transaction_uid}).all()
        told = [{"row": row.id, "status": _status(row.sop_instance_uid, committed, failed)} for row in rows]
        if said := [one for one in told if one["status"] is not None]:
            connection.execute(_REPORTED, said)
        _hasten(connection, {row.work_item_id for row in rows}, now)
    return bool(rows)


def hasten(ledger: Ledger, work_item_id: int, now: float) -> None:
    """Have a work item that was just given back taken up again, if a report came in between."""
    with ledger.write() as connection:
        _hasten(connection, {work_item_id}, now)


def unanswered(ledger: Ledger, transaction_uid: str) -> int:
    """Count the objects of a transaction of which nothing was reported yet."""
    with ledger.read() as connection:
        return int(connection.execute(_UNANSWERED, {"transaction": transaction_uid}).scalar_one())


def _status(uid: str, committed: Collection[str], failed: Mapping[str, int]) -> int | None:
    if uid in failed:
        return failed[uid] or _UNSAID
    return 0 if uid in committed else None


def _hasten(connection: sa.Connection, work_item_ids: set[int], now: float) -> None:
    w, b = t.work_items.c, t.outbox.c
    reported = sa.select(b.work_item_id).where(
        b.work_item_id.in_(work_item_ids), b.state == DeliveryState.SENT, b.commitment_status.is_not(None)
    )
    idle = (w.state == State.IN_PROGRESS) & (w.step == Step.DELIVER) & (w.lease_until <= now) & (w.not_before > now)
    early = sa.update(t.work_items).where(w.id.in_(reported), idle)
    connection.execute(early.values(not_before=now, woken_at=0.0))


_ASKED: Final = sa.select(t.outbox.c.id, t.outbox.c.work_item_id, t.outbox.c.sop_instance_uid).where(
    t.outbox.c.transaction_uid == sa.bindparam("transaction")
)
_REPORTED: Final = (
    sa.update(t.outbox)
    .where(
        t.outbox.c.id == sa.bindparam("row"),
        (t.outbox.c.state == DeliveryState.PENDING) | (t.outbox.c.state == DeliveryState.SENT),
    )
    .values(commitment_status=sa.bindparam("status"), not_before=0.0)
)
_UNANSWERED: Final = sa.select(sa.func.count()).where(
    t.outbox.c.transaction_uid == sa.bindparam("transaction"), t.outbox.c.commitment_status.is_(None)
)
"""Built once: to build a statement takes SQLAlchemy longer than to run it."""
