"""Reading what was kept of scored studies: the latest days, and the first studies of every scanner and site."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import sqlalchemy as sa

from agent.worklist import blinding
from agent.worklist import tables as t
from agent.worklist.ledger import Ledger
from inference.reference import Value

UnitKind = Literal["scanner", "site"]
UNIT_KINDS: Final[tuple[UnitKind, ...]] = ("scanner", "site")


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What was kept of one study."""

    at: float
    scanner: str
    site: str
    accepted: bool
    figures: Mapping[str, Value]

    def unit(self, kind: UnitKind) -> str:
        """Name of its scanner or site."""
        return self.scanner if kind == "scanner" else self.site


def since(ledger: Ledger, bundle_digest: str, start: float) -> list[Observation]:
    """List the studies that came since a time and that the bundle scored, oldest first."""
    o = t.observations.c
    query = sa.select(t.observations).where(o.bundle_digest == bundle_digest, o.at >= start, _told()).order_by(o.at)
    with ledger.read() as connection:
        return _observations(connection.execute(query))


def first_of_each(ledger: Ledger, bundle_digest: str, kind: UnitKind, count: int) -> dict[str, list[Observation]]:
    """List, for each scanner or site, its first `count` accepted studies and those refused among them, oldest first."""
    o = t.observations.c
    unit = o.scanner if kind == "scanner" else o.site
    taken = sa.case((o.accepted.is_(True), 1), else_=0)
    order = [o.at, o.group_id]
    rank = sa.func.sum(taken).over(partition_by=unit, order_by=order, rows=(None, 0)).label("rank")
    ranked = sa.select(t.observations, rank).where(o.bundle_digest == bundle_digest, _told()).subquery()
    c = ranked.c
    whole = (c.rank < count) | ((c.rank == count) & c.accepted.is_(True))
    found: dict[str, list[Observation]] = {}
    with ledger.read() as connection:
        for one in _observations(connection.execute(sa.select(ranked).where(whole).order_by(c.at, c.group_id))):
            found.setdefault(one.unit(kind), []).append(one)
    return found


def _told() -> sa.ColumnElement[bool]:
    """Leave out what is blinded: where a scanner has one study a day, its distribution is its result."""
    o, k = t.observations.c, t.scores.c
    return ~sa.exists().where(k.group_id == o.group_id, blinding.hidden())


def _observations(rows: Iterable[Any]) -> list[Observation]:
    return [
        Observation(
            at=row.at,
            scanner=row.scanner,
            site=row.site,
            accepted=row.accepted,
            figures=json.loads(row.figures),
        )
        for row in rows
    ]
