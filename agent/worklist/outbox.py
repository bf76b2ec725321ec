"""The outbox: one row per (result object, archive), finished only when proved."""

from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType
from typing import Any, Final

import sqlalchemy as sa

from agent.domain.errors import LostLeaseError
from agent.domain.identifiers import is_message_address
from agent.domain.results import OPTIONAL_KINDS, Delivery, DeliveryState, Extras, Proof, ResultKind
from agent.domain.work_item import State, Step
from agent.worklist import blinding
from agent.worklist import tables as t
from agent.worklist.ledger import Ledger, Prepared

NO_EXTRAS: Final[Extras] = MappingProxyType({})
NOBODY: Final[frozenset[str]] = frozenset()
_ORDER: Final = {"structured-report": 0, "summary": 1, "heatmap": 2, "document": 3, "rejection-note": 4}
"""What replaces comes before the note that rejects what is replaced."""
_OPEN = (DeliveryState.PENDING, DeliveryState.SENT)
_ERROR_LENGTH = 512
_NOT_ASKED = {"transaction_uid": None, "commitment_status": None}


def deliveries(ledger: Ledger, work_item_id: int) -> tuple[Delivery, ...]:
    """All rows of a work item: the report first, then the summary and the heatmaps in order, archive by archive."""
    with ledger.read() as connection:
        return tuple(_delivery(row) for row in connection.execute(_DELIVERIES, {"work_item": work_item_id}))


def begin_delivery(ledger: Ledger, work_item_id: int, owner: str, now: float) -> float:
    """Say that objects are about to leave: from here on the work item can no longer be superseded.

    It is durable, with the score and the report's date that were committed before: were they lost to a power cut, other
    bytes would be made under the same UIDs.

    Returns
    -------
    float
        Since when that is so.

    Raises
    ------
    LostLeaseError
        The work item was superseded, canceled or taken over: send nothing.
    """
    mine = {"work_item": work_item_id, "owner": owner, "now": now}
    with ledger.write_prepared(durable=True) as connection:
        begun = _BEGIN.run(connection, mine).fetchone()
        if begun is None:
            raise LostLeaseError(f"work item {work_item_id} is no longer ours to deliver")
        return float(begun[0])


def require_ours(ledger: Ledger, work_item_id: int, owner: str) -> None:
    """Look before an object leaves whether a delivery that has begun is still ours; nothing is written.

    Raises
    ------
    LostLeaseError
        The work item was taken over: send nothing.
    """
    mine = {"work_item": work_item_id, "owner": owner}
    with ledger.read_prepared() as connection:
        if _OURS.run(connection, mine).fetchone() is None:
            raise LostLeaseError(f"work item {work_item_id} is no longer ours to deliver")


def was_proved(ledger: Ledger, sop_instance_uid: str, destination: str, proof: Proof) -> bool:
    """Whether an object is proved at a destination, by whichever work item."""
    o = t.outbox.c
    this = (o.sop_instance_uid == sop_instance_uid) & (o.destination == destination) & (o.proof == str(proof))
    with ledger.read() as connection:
        return connection.execute(sa.select(o.id).where(this).limit(1)).first() is not None


def mark_sent(ledger: Ledger, delivery_id: int, now: float) -> None:
    """Record that the archive answered Success; it is not proved yet."""
    with ledger.write_prepared() as connection:
        _SENT.run(connection, {"row": delivery_id, "now": now})


def mark_proved(ledger: Ledger, delivery_ids: Iterable[int], proof: Proof, now: float) -> None:
    """Record that the archive is known to hold these objects."""
    with ledger.write_prepared() as connection:
        for row in delivery_ids:
            _PROVED.run(connection, {"row": row, "proof": str(proof), "now": now})


def mark_retry(ledger: Ledger, delivery_id: int, *, error: str, not_before: float) -> None:
    """Record a fault that may pass, and when to try again; the object is sent anew."""
    values = {
        "state": DeliveryState.PENDING,
        "look_first": False,
        "not_before": not_before,
        "last_error": error[:_ERROR_LENGTH],
        **_NOT_ASKED,
    }
    _change(ledger, delivery_id, values | {"attempts": t.outbox.c.attempts + 1})


def mark_asked(ledger: Ledger, delivery_ids: Iterable[int], transaction_uid: str, *, until: float) -> None:
    """Record that storage commitment is about to be requested; until then, or a report, nothing need be done."""
    with ledger.write_prepared() as connection:
        for row in delivery_ids:
            _ASKED.run(connection, {"row": row, "transaction": transaction_uid, "until": until})


def mark_unproved(ledger: Ledger, delivery_id: int, *, error: str, not_before: float, ask_again: bool = False) -> None:
    """Record that a sent object could not be proved yet; look again before sending anything anew.

    Parameters
    ----------
    ask_again
        Request storage commitment anew, too; else C-FIND decides where it was requested before.
    """
    values: dict[str, Any] = {
        "state": DeliveryState.PENDING,
        "look_first": True,
        "not_before": not_before,
        "last_error": error[:_ERROR_LENGTH],
        "attempts": t.outbox.c.attempts + 1,
        **(_NOT_ASKED if ask_again else {}),
    }
    _change(ledger, delivery_id, values)


def mark_failed(ledger: Ledger, delivery_id: int, *, error: str) -> None:
    """Record a refusal that trying again cannot change."""
    values = {"state": DeliveryState.FAILED, "last_error": error[:_ERROR_LENGTH]}
    _change(ledger, delivery_id, values | {"attempts": t.outbox.c.attempts + 1})


def fill(
    connection: sa.Connection,
    work_item_id: int,
    result_key: str,
    destinations: tuple[str, ...],
    *,
    look_first: bool,
    extras: Extras = NO_EXTRAS,
    blinded: frozenset[str] = NOBODY,
) -> None:
    """Make the rows of a work item, within the transaction that moves it to delivery. Repeating it adds none.

    Objects of optional kinds go to the destinations that `extras` names, and to no other; what is not DICOM (an address
    with a scheme) is told of the report alone. Rows of a blinded score, and of destinations among `blinded`, wait for
    the release of the study.
    """
    objects = sa.select(t.result_objects.c.sop_instance_uid, t.result_objects.c.kind).where(
        t.result_objects.c.result_key == result_key
    )
    known = sa.select(t.outbox.c.sop_instance_uid).where(t.outbox.c.work_item_id == work_item_id)
    if connection.execute(known.limit(1)).first() is not None:
        return
    order = sa.case(_ORDER, value=t.result_objects.c.kind, else_=len(_ORDER))
    made = list(connection.execute(objects.order_by(order, t.result_objects.c.position)))
    kept = {"state": DeliveryState.KEPT, "proof": Proof.KEPT}
    rows: list[dict[str, Any]] = []
    for destination in destinations or (None,):
        waits = blinding.withheld_from(connection, work_item_id, result_key, blinded & {destination or ""})
        for uid, kind in made:
            if not _wanted(kind, destination, extras):
                continue
            values: dict[str, Any] = {
                "work_item_id": work_item_id,
                "sop_instance_uid": uid,
                "destination": destination,
                "state": DeliveryState.PENDING,
                "attempts": 0,
                "not_before": 0.0,
                "look_first": look_first,
            }
            values |= kept if destination is None else {}
            values |= {"state": DeliveryState.WITHHELD, "proof": None} if waits else {}
            rows.append(values)
    if rows:
        connection.execute(sa.insert(t.outbox), rows)


def _wanted(kind: str, destination: str | None, extras: Extras) -> bool:
    if destination is not None and is_message_address(destination):
        return kind == ResultKind.STRUCTURED_REPORT
    return kind not in OPTIONAL_KINDS or destination in extras.get(ResultKind(kind), frozenset())


def is_open(delivery: Delivery) -> bool:
    """Whether something remains to be done for the row."""
    return delivery.state in _OPEN


def _change(ledger: Ledger, delivery_id: int, values: dict[str, Any]) -> None:
    with ledger.write() as connection:
        connection.execute(sa.update(t.outbox).where(t.outbox.c.id == delivery_id).values(values))


def _deliveries_query() -> sa.Select[Any]:
    objects = t.result_objects.c
    joined = t.outbox.join(t.result_objects, t.outbox.c.sop_instance_uid == objects.sop_instance_uid)
    columns = (objects.sop_class_uid, objects.series_instance_uid, objects.study_instance_uid, objects.sha256)
    return sa.select(t.outbox, *columns).select_from(joined)


def _delivery(row: sa.Row[Any]) -> Delivery:
    return Delivery(
        id=row.id,
        work_item_id=row.work_item_id,
        sop_class_uid=row.sop_class_uid,
        sop_instance_uid=row.sop_instance_uid,
        series_instance_uid=row.series_instance_uid,
        study_instance_uid=row.study_instance_uid,
        sha256=row.sha256,
        destination=row.destination,
        state=DeliveryState(row.state),
        proof=Proof(row.proof) if row.proof else None,
        attempts=row.attempts,
        not_before=row.not_before,
        look_first=row.look_first,
        last_error=row.last_error,
        transaction_uid=row.transaction_uid,
        commitment_status=row.commitment_status,
    )


_DELIVERIES: Final = (
    _deliveries_query().where(t.outbox.c.work_item_id == sa.bindparam("work_item")).order_by(t.outbox.c.id)
)
"""Built once: to build a statement takes SQLAlchemy longer than to run it."""
_IS_OURS: Final = (
    t.work_items.c.id == sa.bindparam("work_item"),
    t.work_items.c.lease_owner == sa.bindparam("owner"),
    t.work_items.c.state == str(State.IN_PROGRESS),
    t.work_items.c.step == str(Step.DELIVER),
)
_BEGIN: Final = Prepared(
    sa.update(t.work_items)
    .where(*_IS_OURS)
    .values(delivering_since=sa.func.coalesce(t.work_items.c.delivering_since, sa.bindparam("now")))
    .returning(t.work_items.c.delivering_since)
)
_OURS: Final = Prepared(sa.select(t.work_items.c.id).where(*_IS_OURS, t.work_items.c.delivering_since.is_not(None)))
_ROW: Final = sa.update(t.outbox).where(t.outbox.c.id == sa.bindparam("row"))
_SENT: Final = Prepared(
    _ROW.values(
        state=str(DeliveryState.SENT),
        sent_at=sa.bindparam("now"),
        last_error=None,
        attempts=t.outbox.c.attempts + 1,
        **_NOT_ASKED,
    )
)
_ASKED: Final = Prepared(
    _ROW.values(
        state=str(DeliveryState.SENT),
        transaction_uid=sa.bindparam("transaction"),
        commitment_status=None,
        not_before=sa.bindparam("until"),
    )
)
_PROVED: Final = Prepared(
    _ROW.values(
        state=str(DeliveryState.PROVED), proof=sa.bindparam("proof"), proved_at=sa.bindparam("now"), last_error=None
    )
)
