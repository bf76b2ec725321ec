"""What people said of studies, and how well it agrees with what was reported, over all and month by month."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa

from agent.domain.errors import NotFoundError
from agent.domain.score import GRADES
from agent.watch.agreement import Agreement, Answer, Pair, agreement
from agent.watch.shadow import live_answer
from agent.worklist import tables as t
from agent.worklist.ledger import Ledger
from agent.worklist.reading import iso

BY_REPORT: Final = "sr"
BY_PAGE: Final = "page"


@dataclass(frozen=True, kw_only=True)
class ReaderGrade:
    """One person's grade of one study.

    Parameters
    ----------
    reader
        As `reader_hash` makes it: who it was is nobody's business here, that it was the same person is.
    before_result
        Whether it was given without knowing the result; None where nobody said.
    """

    study_instance_uid: str
    reader: str
    grade: str
    source: str
    graded_at: float
    sop_instance_uid: str | None = None
    before_result: bool | None = None


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


def reader_hash(secret: bytes, name: str) -> str:
    """Name a reader by a keyed hash of a name or initials, whatever their case and spacing."""
    plain = " ".join(name.replace("^", " ").split()).casefold()
    return "R-" + hmac.new(secret, b"reader\0" + plain.encode(), hashlib.sha256).hexdigest()[:10]


def keep(ledger: Ledger, grade: ReaderGrade, now: float) -> None:
    """Keep a grade; a later one of the same reader and study takes its place in every comparison.

    Raises
    ------
    NotFoundError
        The study is not in the ledger.
    """
    with ledger.write() as connection:
        keep_in(connection, grade, now)


def keep_in(connection: sa.Connection, grade: ReaderGrade, now: float) -> None:
    """Keep a grade within a transaction."""
    if grade.grade not in GRADES:
        raise ValueError(f"{grade.grade!r} is no grade")
    if not is_known(connection, grade.study_instance_uid):
        raise NotFoundError(f"study {grade.study_instance_uid} is not in the ledger", remedy="see `agent worklist`")
    connection.execute(sa.insert(t.reader_grades).values({**vars(grade), "kept_at": now}))


def is_known(connection: sa.Connection, study_instance_uid: str) -> bool:
    """Whether a study arrived here, or was fetched."""
    return any(
        connection.execute(
            sa.select(c.study_instance_uid).where(c.study_instance_uid == study_instance_uid).limit(1)
        ).first()
        for c in (t.studies.c, t.work_items.c)
    )


def of_study(ledger: Ledger, study_instance_uid: str) -> list[dict[str, Any]]:
    """List the grades that readers gave a study, oldest first."""
    g = t.reader_grades.c
    query = sa.select(t.reader_grades).where(g.study_instance_uid == study_instance_uid).order_by(g.id)
    with ledger.read() as connection:
        return [
            {
                "grade": row.grade,
                "reader": row.reader,
                "source": row.source,
                "graded_at": iso(row.graded_at),
                "before_result": row.before_result,
                "sop_instance_uid": row.sop_instance_uid,
            }
            for row in connection.execute(query)
        ]


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
    """Newest outcome of each group, and when the first was kept: a reader who was earlier knew none."""
    k = t.scores.c
    found: dict[str, tuple[float, dict[str, Any]]] = {}
    wanted = list(groups)
    for start in range(0, len(wanted), 500):
        query = sa.select(k.group_id, k.content_at, k.outcome).where(k.group_id.in_(wanted[start : start + 500]))
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
