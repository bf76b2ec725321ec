"""What people said of studies, as it is kept: a grade by a reader whom nobody here can name."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from agent.domain.errors import NotFoundError
from agent.domain.score import GRADES
from agent.worklist import tables as t
from agent.worklist.ledger import Ledger
from agent.worklist.study_parts import iso

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


def reader_hash(secret: bytes, name: str) -> str:
    """Name a reader by a keyed hash of a name or initials, whatever their case, spacing and order.

    Reports have the family name first (PS3.5 6.2.1), people at a page do not.
    """
    plain = " ".join(sorted(name.replace("^", " ").casefold().split()))
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
