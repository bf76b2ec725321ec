"""The report step: an outcome and its pictures go in, DICOM objects in the store and outbox rows come out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from agent.domain.errors import NotFoundError
from agent.domain.identifiers import Archive
from agent.domain.results import Extras, ResultObject
from agent.domain.work_item import Step, WorkItem
from agent.report.envelope import ReportedStudy
from agent.report.errors import GateError
from agent.report.report_study import ReportRequest, build_report, composed
from agent.store.layout import Layout
from agent.store.result_files import LostPicturesError, ObjectFiles, ViewPicture, quarantine
from agent.tasks.pictures import Pictures
from agent.tasks.sources import existing
from agent.worklist import results, work_items
from agent.worklist.ledger import Ledger


@dataclass(frozen=True, kw_only=True)
class ReportStep:
    """Builds the result objects; building again makes the same bytes."""

    ledger: Ledger
    layout: Layout
    owner: str
    destinations: tuple[Archive | str, ...]
    extras: Extras
    station_name: str
    pictures: Pictures
    wake: Callable[[int, Step], None]
    now: Callable[[], float]
    blinded: frozenset[str] = frozenset()
    """Destinations that get released results only."""
    announce: Callable[[], None] = lambda: None
    """Tells delivery that a result is about to be there."""
    compose: Callable[[ReportedStudy], ResultObject] = composed
    """Makes the Structured Report."""

    def __call__(self, item: WorkItem, log: Any) -> None:
        """Build, keep and record the objects, then wake the delivery."""
        kept = results.score_of(self.ledger, item.result_key)
        if kept is None:
            raise NotFoundError(f"the score of work item {item.id} is not in the ledger", remedy="replay the study")
        try:
            pictures = self.pictures.take(item.result_key)
        except (FileNotFoundError, LostPicturesError):
            log.warning("the pictures are lost: scored again")
            self._score_again(item)
            return
        if not kept.withheld:
            self.announce()
        objects, were_there = self._built(item, kept, pictures)
        destinations = tuple(map(str, self.destinations))
        now, extras, blinded = self.now(), self.extras, self.blinded
        results.keep_objects(
            self.ledger, item, self.owner, objects, destinations, now, extras, blinded, look_first=were_there
        )
        if kept.withheld:
            log.info("reported", withheld=True)  # how many objects there are tells a refusal
        else:
            log.info("reported", objects=len(objects), bytes=sum(len(made.encoded) for made in objects))
        self.wake(item.id, Step.DELIVER)

    def _score_again(self, item: WorkItem) -> None:
        """Go back to the score step; the same key yields the same pictures."""
        now, lost = self.now(), "pictures lost"
        with self.ledger.write() as connection:
            work_items.advance(
                connection, item.id, self.owner, done=Step.REPORT, step=Step.SCORE, now=now, outcome=lost
            )
        self.wake(item.id, Step.SCORE)

    def _built(
        self, item: WorkItem, kept: results.KeptScore, pictures: tuple[ViewPicture, ...]
    ) -> tuple[tuple[ResultObject, ...], bool]:
        """Build and keep the objects; says of them whether some were kept before."""
        request = ReportRequest(
            result_key=item.result_key,
            outcome=kept.outcome,
            pictures=pictures,
            evidence=tuple(existing(self.layout, i) for i in results.instances_of(self.ledger, item.id)),
            content_at=datetime.fromtimestamp(kept.content_at, UTC),
            predecessor=results.predecessor_of(self.ledger, kept.replaces_key),
            study_instance_uid=item.study_instance_uid,
            extras=frozenset(self.extras),
            replaced=results.replaced_objects(self.ledger, kept.replaces_key),
            station_name=self.station_name,
        )
        with ObjectFiles(self.layout, item.result_key) as files:
            return self._passed(request, files), files.were_there

    def _passed(self, request: ReportRequest, files: ObjectFiles) -> tuple[ResultObject, ...]:
        """Build the objects; one that breaks a rule goes to the quarantine, and none of them is sent."""

        def keep(made: ResultObject) -> None:
            files.add(made.sop_instance_uid, made.encoded)
            _ = made.sha256  # while the next is drawn; the ledger asks for it under its lock

        try:
            objects = build_report(request, keep, self.compose)
        except GateError as error:
            quarantine(self.layout, error.made.sop_instance_uid, error.made.encoded, str(error))
            raise
        results.require_unchanged(self.ledger, request.result_key, objects)
        return objects
