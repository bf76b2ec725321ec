"""How well what people said of studies agrees with what was reported, over all and month by month."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from agent.watch.agreement import Agreement, Answer, Pair, agreement
from agent.watch.shadow import live_answer
from agent.worklist import blinding
from agent.worklist import tables as t
from agent.worklist.ledger import Ledger


@dataclass(frozen=True, kw_only=True)
class Graded(Pair):
    """A reader's grade (second) beside the reported result (first)."""

    reader: str
    before_result: bool


@dataclass(frozen=True, kw_only=True)
class ReadersReport:
    """Everything of one look."""

    grades: int
    """Kept, with or without a score to compare with."""
    every: Agreement
    independent: Agreement
    """Of grades given before, or without seeing, the result: who has seen one tends to agree with it."""
    months: tuple[tuple[str, Agreement], ...]
    """YYYY-MM, oldest first."""
    readers: tuple[tuple[str, Agreement], ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "grades": self.grades,
            "every": self.every.as_dict(),
            "independent": self.independent.as_dict(),
            "months": [{"month": name, **found.as_dict()} for name, found in self.months],
            "readers": [{"reader": name, **found.as_dict()} for name, found in self.readers],
        }


def readers_report(ledger: Ledger, since: float = 0.0) -> ReadersReport:
    """Compare the newest grade of each reader and study with the newest result of the study."""
    count, pairs = _graded(ledger, since)
    months: dict[str, list[Graded]] = defaultdict(list)
    readers: dict[str, list[Graded]] = defaultdict(list)
    for pair in pairs:
        months[datetime.fromtimestamp(pair.at, UTC).strftime("%Y-%m")].append(pair)
        readers[pair.reader].append(pair)
    return ReadersReport(
        grades=count,
        every=agreement(pairs),
        independent=agreement(pair for pair in pairs if pair.before_result),
        months=_each(months),
        readers=_each(readers),
    )


def _each(parts: dict[str, list[Graded]]) -> tuple[tuple[str, Agreement], ...]:
    return tuple((name, agreement(pairs)) for name, pairs in sorted(parts.items()))


def _graded(ledger: Ledger, since: float) -> tuple[int, list[Graded]]:
    g, s = t.reader_grades.c, t.studies.c
    query = (
        sa.select(t.reader_grades, sa.func.coalesce(s.group_id, g.study_instance_uid).label("group_id"))
        .outerjoin(t.studies, s.study_instance_uid == g.study_instance_uid)
        .where(g.graded_at >= since)
        .order_by(g.id)
    )
    with ledger.read() as connection:
        rows = list(connection.execute(query))
        outcomes = _outcomes(connection, {row.group_id for row in rows})
    newest = {(row.reader, row.group_id): row for row in rows}
    pairs = [_pair(row, *outcomes[row.group_id]) for row in newest.values() if row.group_id in outcomes]
    return len(newest), pairs


def _outcomes(connection: sa.Connection, groups: Iterable[str]) -> dict[str, tuple[float, dict[str, Any]]]:
    """Newest outcome of each group that is not blinded, and when the first was kept: an earlier reader knew none."""
    k = t.scores.c
    found: dict[str, tuple[float, dict[str, Any]]] = {}
    wanted = list(groups)
    for start in range(0, len(wanted), 500):
        these = k.group_id.in_(wanted[start : start + 500])
        query = sa.select(k.group_id, k.content_at, k.outcome).where(these, ~blinding.hidden())
        for row in connection.execute(query.order_by(k.content_at)):
            first = found.get(row.group_id, (row.content_at, {}))[0]
            found[row.group_id] = (first, json.loads(row.outcome))
    return found


def _pair(row: Any, first_at: float, outcome: dict[str, Any]) -> Graded:
    return Graded(
        study_instance_uid=row.study_instance_uid,
        at=row.graded_at,
        first=live_answer(outcome),
        second=Answer(grade=row.grade),
        reader=row.reader,
        before_result=bool(row.before_result) or row.kept_at < first_at,
    )
