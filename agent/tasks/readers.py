"""Reports that others sent are looked at once each for a reader's grade."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from agent.domain.eligibility import OWN_RESULT
from agent.domain.score import GRADES
from agent.store.layout import Layout
from agent.watch import reader_grades
from agent.watch.reader_grades import BY_REPORT, ReaderGrade, reader_hash
from agent.watch.reader_reports import REPORT_CLASSES, UNKNOWN_STUDY, Reading, read_report
from agent.worklist import tables as t
from agent.worklist.ledger import Ledger

_BATCH: Final = 50


@dataclass(frozen=True, kw_only=True)
class ReaderReports:
    """Takes readers' grades from received reports, one process at a time."""

    ledger: Ledger
    layout: Layout
    secret: Callable[[], bytes]
    log: Any

    def look(self, now: float) -> int:
        """Look at reports that are new; returns how many gave a grade. Repeating it changes nothing."""
        kept = 0
        for row in self._new():
            reading = read_report(self.layout.instance(row.sha256))
            kept += self._settled(row, reading, now)
        return kept

    def _new(self) -> list[Any]:
        i, r = t.instances.c, t.reader_reports.c
        query = (
            sa.select(i.id, i.sha256, i.received_at)
            .outerjoin(t.reader_reports, r.instance_id == i.id)
            .where(i.sop_class_uid.in_(REPORT_CLASSES), r.instance_id.is_(None), i.removed_at.is_(None))
            .where(sa.func.coalesce(i.not_scored_reason, "") != OWN_RESULT)
            .order_by(i.id)
            .limit(_BATCH)
        )
        with self.ledger.read() as connection:
            return list(connection.execute(query))

    def _settled(self, row: Any, reading: Reading, now: float) -> bool:
        """Keep the grade and the look as one, so that no crash keeps it twice."""
        with self.ledger.write() as connection:
            study = next((uid for uid in reading.studies if reader_grades.is_known(connection, uid)), None)
            graded = reading.outcome in GRADES and study is not None
            outcome = reading.outcome if graded or reading.outcome not in GRADES else UNKNOWN_STUDY
            values = {"instance_id": row.id, "looked_at": now, "outcome": outcome}
            connection.execute(sa.insert(t.reader_reports).values(values))
            if graded and study is not None:
                reader_grades.keep_in(connection, self._grade(study, reading, row.received_at or now), now)
        self.log.info("report looked at for a reader's grade", outcome=outcome, study=study)
        return graded

    def _grade(self, study: str, reading: Reading, came_at: float) -> ReaderGrade:
        return ReaderGrade(
            study_instance_uid=study,
            reader=reader_hash(self.secret(), reading.reader),
            grade=reading.outcome,
            source=BY_REPORT,
            graded_at=came_at if reading.graded_at is None else min(reading.graded_at, came_at),
            sop_instance_uid=reading.sop_instance_uid,
        )
