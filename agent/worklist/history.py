"""What of a finished study's way is no longer told after a while: associations, sending times and steps.

Each study, its results, proofs and who sent it first stay for good; so do the totals that metrics are read from, which
are kept as tallies when their rows go. Nothing goes that the audit trail has yet to tell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from agent.worklist import tables as t
from agent.worklist.ledger import Ledger

STEP_BOUNDS: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Upper bounds of the histogram of steps, in seconds. Kept tallies have these: other bounds need a migration."""
_PARTS: Final = (*map(str, STEP_BOUNDS), "count", "sum")
_BATCH: Final = 500
"""Rows of a transaction: listeners wait for its end."""
_ASSOCIATIONS: Final = "associations"
_STEPS: Final = "steps"

_Pass = Callable[[Ledger, float, bool], int]


@dataclass(frozen=True, kw_only=True)
class Forgotten:
    """How many rows went."""

    sending: int
    associations: int
    steps: int

    def __bool__(self) -> bool:
        """Whether any did."""
        return bool(self.sending or self.associations or self.steps)


def forget(
    ledger: Ledger, *, before: float, audited: bool, pause: Callable[[], None] = lambda: None, most: int = 40
) -> Forgotten:
    """Remove rows of what ended before a time (seconds since 1970), a few in each transaction.

    Parameters
    ----------
    audited
        Associations go only once the audit trail has them.
    pause
        Between transactions, so that others get their turn.
    most
        Transactions for each kind of row; what is left goes with the next call.
    """

    def repeated(one: _Pass) -> int:
        gone = 0
        for _ in range(most):
            count = one(ledger, before, audited)
            if count == 0:
                break
            gone += count
            pause()
        return gone

    # in this order: an association goes when nothing says any longer when it was sending
    return Forgotten(
        sending=repeated(_forget_sending), associations=repeated(_forget_associations), steps=repeated(_forget_steps)
    )


def tallied_associations(connection: sa.Connection) -> dict[str, int]:
    """Count the associations whose rows are gone, by outcome."""
    return {label: int(value) for label, _, value in _tallies(connection, _ASSOCIATIONS)}


def tallied_steps(connection: sa.Connection) -> dict[str, list[float]]:
    """Give the histogram of steps whose rows are gone, by step, as `histogram` of `STEP_BOUNDS` does."""
    found: dict[str, dict[str, float]] = {}
    for label, part, value in _tallies(connection, _STEPS):
        found.setdefault(label, {})[part] = value
    return {label: [parts.get(part, 0.0) for part in _PARTS] for label, parts in found.items()}


def histogram(value: sa.ColumnElement[Any], bounds: tuple[float, ...]) -> list[sa.ColumnElement[Any]]:
    """Count of values up to each bound, then of all, then their sum."""
    upto = [sa.func.coalesce(sa.func.sum(sa.case((value <= bound, 1), else_=0)), 0) for bound in bounds]
    return [*upto, sa.func.count(value), sa.func.coalesce(sa.func.sum(value), 0.0)]


def steps_taken(ended: sa.ColumnElement[bool] | None = None) -> sa.Select[Any]:
    """Ask for the histogram of steps that ended, by step; of those alone that `ended` says, if given."""
    s = t.steps.c
    query = sa.select(s.step, *histogram(s.ended_at - s.started_at, STEP_BOUNDS)).where(s.ended_at.is_not(None))
    return (query if ended is None else query.where(ended)).group_by(s.step)


def _forget_sending(ledger: Ledger, before: float, audited: bool) -> int:
    """Remove when associations that ended were sending to groups that no longer receive."""
    s, a, g = t.sending.c, t.associations.c, t.groups.c
    over = ~sa.exists().where(g.id == s.group_id, g.receiving)
    query = sa.select(s.association_id).join(t.associations, a.id == s.association_id)
    with ledger.read() as connection:
        chosen = query.where(_ended(before, audited), over).order_by(s.association_id).limit(_BATCH)
        ids = sorted(set(connection.execute(chosen).scalars()))
    if not ids:
        return 0
    with ledger.write() as connection:
        return connection.execute(sa.delete(t.sending).where(s.association_id.in_(ids), over)).rowcount


def _forget_associations(ledger: Ledger, before: float, audited: bool) -> int:
    """Remove associations, but for the first that brought a study, and the first that brought it images to score."""
    a, i = t.associations.c, t.instances.c
    earlier = t.instances.alias("earlier").c
    was_first = ~sa.exists().where(
        earlier.study_instance_uid == i.study_instance_uid,
        earlier.may_be_scored == i.may_be_scored,
        earlier.association_id < i.association_id,
    )
    needed = sa.exists().where(i.association_id == a.id, was_first)
    sends = sa.exists().where(t.sending.c.association_id == a.id)
    with ledger.read() as connection:
        query = sa.select(a.id).where(_ended(before, audited), ~sends, ~needed).order_by(a.id).limit(_BATCH)
        ids = list(connection.execute(query).scalars())
    if not ids:
        return 0
    with ledger.write() as connection:
        counted = sa.select(a.outcome, sa.func.count()).where(a.id.in_(ids), a.outcome.is_not(None)).group_by(a.outcome)
        for outcome, count in connection.execute(counted).all():
            _add(connection, _ASSOCIATIONS, outcome, {"count": count})
        connection.execute(sa.update(t.instances).where(i.association_id.in_(ids)).values(association_id=None))
        return connection.execute(sa.delete(t.associations).where(a.id.in_(ids))).rowcount


def _forget_steps(ledger: Ledger, before: float, _audited: bool) -> int:
    """Remove the steps of work items that ended, where nothing of their group is under way."""
    w, s, g = t.work_items.c, t.steps.c, t.groups.c
    other = t.work_items.alias("other").c
    under_way = sa.exists().where(other.group_id == w.group_id, other.finished_at.is_(None))
    receiving = sa.exists().where(g.id == w.group_id, g.receiving)
    has_steps = sa.exists().where(s.work_item_id == w.id)
    with ledger.read() as connection:
        query = sa.select(w.id).where(w.finished_at < before, has_steps, ~under_way, ~receiving).order_by(w.id)
        ids = list(connection.execute(query.limit(_BATCH)).scalars())
    if not ids:
        return 0
    with ledger.write() as connection:
        for step, *counted in connection.execute(steps_taken(s.work_item_id.in_(ids))).all():
            _add(connection, _STEPS, step, dict(zip(_PARTS, counted, strict=True)))
        return connection.execute(sa.delete(t.steps).where(s.work_item_id.in_(ids))).rowcount


def _ended(before: float, audited: bool) -> sa.ColumnElement[bool]:
    a = t.associations.c
    return (a.closed_at < before) & (a.audited_at.is_not(None) if audited else sa.true())


def _tallies(connection: sa.Connection, name: str) -> Iterator[tuple[str, str, float]]:
    c = t.tallies.c
    for row in connection.execute(sa.select(c.label, c.part, c.value).where(c.name == name)):
        yield row.label, row.part, row.value


def _add(connection: sa.Connection, name: str, label: str, parts: dict[str, Any]) -> None:
    for part, value in _worth_it(parts):
        key = {"name": name, "label": label, "part": part}
        more = sa.update(t.tallies).filter_by(**key).values(value=t.tallies.c.value + value)
        if connection.execute(more).rowcount == 0:
            connection.execute(sa.insert(t.tallies).values(**key, value=value))


def _worth_it(parts: dict[str, Any]) -> Iterable[tuple[str, float]]:
    return ((part, float(value)) for part, value in parts.items() if value)
