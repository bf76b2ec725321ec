"""Work items: claimed by lease, moved by compare-and-set, so that any step may run twice or be killed anywhere."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

import sqlalchemy as sa

from agent.domain.errors import LostLeaseError
from agent.domain.work_item import LIVE_CAUSES, QUEUES, WITHHELD, Cause, State, Step, WorkItem
from agent.worklist import tables as t
from agent.worklist.ledger import Ledger

LEASE_SECONDS: Final = 15.0
"""A work item whose owner has not renewed for this long may be claimed by another."""
RENEW_SECONDS: Final = 3.0
MOST_ATTEMPTS: Final = 5
"""Of one step other than delivery; a view that crashes its worker must not come back for ever."""
BACKGROUND_AT_ONCE: Final = 8
"""Replays and retries of one queue that are woken and not yet begun."""
_ERROR_LENGTH: Final = 512
_STEPS_OF_QUEUE: Final = {queue: [step for step, of in QUEUES.items() if of == queue] for queue in QUEUES.values()}


def create(
    connection: sa.Connection,
    *,
    group_id: str,
    study_instance_uid: str,
    result_key: str,
    bundle_digest: str,
    cause: Cause,
    step: Step,
    now: float,
    instance_ids: tuple[int, ...] = (),
    replaces_key: str | None = None,
    reason: str | None = None,
    bundle_path: str | None = None,
    not_before: float = 0.0,
) -> int:
    """Insert a SCHEDULED work item within the caller's transaction; returns its row."""
    values = {
        "group_id": group_id,
        "study_instance_uid": study_instance_uid,
        "result_key": result_key,
        "bundle_digest": bundle_digest,
        "bundle_path": bundle_path,
        "cause": cause,
        "state": State.SCHEDULED,
        "reason": reason,
        "step": step,
        "created_at": now,
        "not_before": not_before,
        "woken_at": 0.0,
        "lease_until": 0.0,
        "attempts": 0,
        "replaces_key": replaces_key,
    }
    key = connection.execute(sa.insert(t.work_items).values(values)).inserted_primary_key
    if key is None:
        raise AssertionError("an insert of one row yields its key")
    set_instances(connection, int(key[0]), instance_ids)
    return int(key[0])


def set_instances(connection: sa.Connection, work_item_id: int, instance_ids: tuple[int, ...]) -> None:
    """Fix which instances a work item scores."""
    links = t.work_item_instances
    connection.execute(sa.delete(links).where(links.c.work_item_id == work_item_id))
    for instance_id in instance_ids:
        connection.execute(sa.insert(links).values(work_item_id=work_item_id, instance_id=instance_id))


def find(ledger: Ledger, work_item_id: int) -> WorkItem | None:
    """Read one work item."""
    with ledger.read() as connection:
        row = connection.execute(_ONE, {"item": work_item_id}).one_or_none()
    return None if row is None else as_work_item(row)


def find_all(ledger: Ledger, work_item_ids: list[int]) -> list[WorkItem]:
    """Read several work items, in the order of their rows."""
    query = sa.select(t.work_items).where(t.work_items.c.id.in_(work_item_ids)).order_by(t.work_items.c.id)
    with ledger.read() as connection:
        return [as_work_item(row) for row in connection.execute(query)]


def claim(ledger: Ledger, work_item_id: int, owner: str, now: float, *, step: Step | None = None) -> WorkItem | None:
    """Take the lease of a work item that is due, or None if it is finished, held, early or somebody else's.

    Parameters
    ----------
    step
        The only step at which it is wanted; None: any.
    """
    mine = {"item": work_item_id, "now": now, "owner": owner, "until": now + LEASE_SECONDS, "only": step}
    with ledger.write() as connection:
        if connection.execute(_CLAIM, mine).rowcount == 0:
            return None
        row = connection.execute(_ONE, mine).one()
        _end_step(connection, work_item_id, now, "abandoned")
        connection.execute(_STARTED, {"work_item_id": work_item_id, "step": row.step, "started_at": now})
        return as_work_item(row)


def renew(ledger: Ledger, owner: str, now: float, at_hand: Collection[int]) -> None:
    """Renew the leases of one process for the steps at hand; called from a thread of its own while they run.

    Those alone: a step whose end could not be recorded, since the ledger was away, must come back when its lease ends.
    """
    if not at_hand:
        return
    w = t.work_items.c
    mine = (w.lease_owner == owner) & (w.state == State.IN_PROGRESS) & w.id.in_(at_hand)
    with ledger.write() as connection:
        connection.execute(sa.update(t.work_items).where(mine).values(lease_until=now + LEASE_SECONDS))


def check_lease(connection: sa.Connection, work_item_id: int, owner: str, step: Step) -> None:
    """Raise LostLeaseError unless `owner` still holds the work item at that step; locks its row for the transaction."""
    if connection.execute(_STILL_MINE, {"item": work_item_id, "owner": owner, "only": step}).rowcount == 0:
        raise LostLeaseError(f"work item {work_item_id} is no longer ours at step {step}")


def advance(
    connection: sa.Connection, work_item_id: int, owner: str, *, done: Step, step: Step, now: float, outcome: str
) -> None:
    """Move a work item from the step `done` to `step`, within the transaction that records what `done` made."""
    check_lease(connection, work_item_id, owner, done)
    _end_step(connection, work_item_id, now, outcome)
    connection.execute(_ADVANCE, {"item": work_item_id, "next": step})


def finish(
    connection: sa.Connection,
    work_item_id: int,
    owner: str,
    *,
    done: Step,
    state: State,
    reason: str | None,
    now: float,
) -> None:
    """End a work item as COMPLETED or CANCELED, within the transaction that records what the last step made."""
    check_lease(connection, work_item_id, owner, done)
    _end_step(connection, work_item_id, now, reason or "done")
    connection.execute(_FINISH, {"item": work_item_id, "ended": state, "why": reason, "now": now})


def lay_aside(connection: sa.Connection, work_item_id: int, *, reason: str, now: float) -> None:
    """Give a work item back as SCHEDULED for a reason that somebody must decide about, within a checked transaction."""
    _end_step(connection, work_item_id, now, reason)
    aside = {"state": State.SCHEDULED, "reason": reason, "lease_owner": None, "lease_until": 0.0, "attempts": 0}
    connection.execute(sa.update(t.work_items).where(t.work_items.c.id == work_item_id).values(aside))


def give_back(
    ledger: Ledger, work_item_id: int, owner: str, *, now: float, not_before: float, error: str | None
) -> None:
    """Release a work item to be claimed again from `not_before` on; a lost lease is nobody's loss."""
    w = t.work_items.c
    mine = (w.id == work_item_id) & (w.lease_owner == owner) & (w.state == State.IN_PROGRESS)
    values = {
        "lease_owner": None,
        "lease_until": 0.0,
        "not_before": not_before,
        "woken_at": 0.0,
        "last_error": error and error[:_ERROR_LENGTH],
    }
    with ledger.write() as connection:
        if connection.execute(sa.update(t.work_items).where(mine).values(values)).rowcount:
            _end_step(connection, work_item_id, now, error or "given back")


def release_leases(ledger: Ledger, owner_prefix: str, now: float) -> int:
    """Free what processes known to be dead still hold; returns how many work items that was."""
    w = t.work_items.c
    theirs = w.lease_owner.startswith(owner_prefix, autoescape=True) & (w.state == State.IN_PROGRESS)
    free = {
        "lease_owner": None,
        "lease_until": 0.0,
        "woken_at": 0.0,
        "not_before": sa.case((w.not_before > now, now), else_=w.not_before),
    }
    with ledger.write() as connection:
        connection.execute(sa.delete(t.leases).where(t.leases.c.owner.startswith(owner_prefix, autoescape=True)))
        return connection.execute(sa.update(t.work_items).where(theirs).values(free)).rowcount


def due(ledger: Ledger, now: float, *, patience: float, limit: int = 500) -> list[tuple[int, Step]]:
    """Find work items that wait for somebody and were not woken within `patience` seconds; marks them woken.

    Live work comes first. Of replays and retries only a few a queue are woken at a time: a thousand wake-ups in front
    of a new study's would keep it waiting.
    """
    w = t.work_items.c
    waits = _waits(now) & (w.not_before <= now)
    sleeping = waits & (w.woken_at <= now - patience)
    live = w.cause.in_(LIVE_CAUSES)
    with ledger.read() as connection:
        found = list(connection.execute(sa.select(w.id, w.step).where(sleeping & live).order_by(w.id).limit(limit)))
        for steps in _STEPS_OF_QUEUE.values():
            of_queue = ~live & w.step.in_(steps)
            woken = sa.select(sa.func.count()).where(waits & of_queue & (w.woken_at > now - patience))
            room = BACKGROUND_AT_ONCE - connection.execute(woken).scalar_one()
            if room > 0:
                query = sa.select(w.id, w.step).where(sleeping & of_queue).order_by(w.id).limit(room)
                found += connection.execute(query).all()
    rows = [(int(row.id), Step(row.step)) for row in found]
    if rows:
        ids = [work_item_id for work_item_id, _ in rows]
        with ledger.write() as connection:
            connection.execute(sa.update(t.work_items).where(w.id.in_(ids)).values(woken_at=now))
    return rows


def next_live(ledger: Ledger, queue: str, now: float) -> int | None:
    """Find the oldest live work item that a queue could do now."""
    with ledger.read() as connection:
        return connection.execute(_NEXT_LIVE, {"now": now, "steps": _STEPS_OF_QUEUE[queue]}).scalar_one_or_none()


def any_live_since(ledger: Ledger, since: float) -> bool:
    """Whether live work that was made since then is unfinished, in whatever step; what is held waits for a person."""
    w = t.work_items.c
    live = w.cause.in_(LIVE_CAUSES) & w.state.in_((State.SCHEDULED, State.IN_PROGRESS)) & ~is_held()
    with ledger.read() as connection:
        return connection.execute(sa.select(w.id).where(live & (w.created_at >= since)).limit(1)).first() is not None


def _waits(now: float | sa.BindParameter[float]) -> sa.ColumnElement[bool]:
    """Whether nobody does it and nobody must decide about it first."""
    w = t.work_items.c
    waiting = (w.state == State.SCHEDULED) & ~needs_a_person()
    return waiting | ((w.state == State.IN_PROGRESS) & (w.lease_until <= now))


def needs_a_person() -> sa.ColumnElement[bool]:
    """Condition on `work_items`: held for a decision, or withheld until a release."""
    return is_held() | (_reason() == WITHHELD)


def is_held() -> sa.ColumnElement[bool]:
    """Condition on `work_items`: held for a decision."""
    return _reason().startswith("held:", autoescape=True)


def _reason() -> sa.ColumnElement[str]:
    return sa.func.coalesce(t.work_items.c.reason, "")


def as_work_item(row: sa.Row[Any]) -> WorkItem:
    """Freeze one row."""
    return WorkItem(
        id=row.id,
        group_id=row.group_id,
        study_instance_uid=row.study_instance_uid,
        result_key=row.result_key,
        bundle_digest=row.bundle_digest,
        bundle_path=row.bundle_path,
        cause=Cause(row.cause),
        state=State(row.state),
        reason=row.reason,
        step=Step(row.step),
        created_at=row.created_at,
        attempts=row.attempts,
        replaces_key=row.replaces_key,
    )


def _end_step(connection: sa.Connection, work_item_id: int, now: float, outcome: str) -> None:
    connection.execute(_END_STEP, {"item": work_item_id, "now": now, "said": outcome[:256]})


_W: Final = t.work_items.c
_ITEM: Final[sa.BindParameter[int]] = sa.bindparam("item", type_=sa.Integer)
_NOW: Final[sa.BindParameter[float]] = sa.bindparam("now", type_=sa.Float)
_ONE: Final = sa.select(t.work_items).where(_W.id == _ITEM)
_CLAIM: Final = (
    sa.update(t.work_items)
    .where(
        _W.id == _ITEM,
        _W.not_before <= _NOW,
        _waits(_NOW),
        _W.step == sa.func.coalesce(sa.bindparam("only", type_=sa.String), _W.step),
    )
    .values(
        state=State.IN_PROGRESS,
        reason=None,
        lease_owner=sa.bindparam("owner"),
        lease_until=sa.bindparam("until"),
        attempts=_W.attempts + 1,
    )
)
_STARTED: Final = sa.insert(t.steps)
_STILL_MINE: Final = (
    sa.update(t.work_items)
    .where(
        _W.id == _ITEM,
        _W.lease_owner == sa.bindparam("owner"),
        _W.state == State.IN_PROGRESS,
        _W.step == sa.bindparam("only"),
    )
    .values(lease_owner=sa.bindparam("owner"))
)
_ADVANCE: Final = (
    sa.update(t.work_items)
    .where(_W.id == _ITEM)
    .values(step=sa.bindparam("next"), lease_owner=None, lease_until=0.0, attempts=0, woken_at=0.0, last_error=None)
)
_FINISH: Final = (
    sa.update(t.work_items)
    .where(_W.id == _ITEM)
    .values(
        state=sa.bindparam("ended"),
        reason=sa.bindparam("why"),
        finished_at=_NOW,
        lease_owner=None,
        lease_until=0.0,
    )
)
_NEXT_LIVE: Final = (
    sa.select(_W.id)
    .where(
        _waits(_NOW),
        _W.not_before <= _NOW,
        _W.cause.in_(LIVE_CAUSES),
        _W.step.in_(sa.bindparam("steps", expanding=True)),
    )
    .order_by(_W.id)
    .limit(1)
)
_END_STEP: Final = (
    sa.update(t.steps)
    .where(t.steps.c.work_item_id == _ITEM, t.steps.c.ended_at.is_(None))
    .values(ended_at=_NOW, outcome=sa.bindparam("said"))
)
"""Built once: to build a statement takes SQLAlchemy longer than to run it, and these run at every step."""
