"""The score step: instances of a work item go in, an outcome in the ledger and pictures in the store come out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from agent.domain.errors import NotFoundError
from agent.domain.identifiers import Archive
from agent.domain.result_uids import derived_uid
from agent.domain.results import Extras, ResultKind
from agent.domain.work_item import Step, WorkItem
from agent.report.envelope import content_moment
from agent.score.score_study import ScoreLimits, score_study
from agent.store.layout import Layout
from agent.store.result_files import object_path
from agent.tasks.look_ahead import LookAhead
from agent.tasks.pictures import Pictures
from agent.tasks.sources import existing
from agent.watch.observing import Observer
from agent.worklist import removed, replay, results
from agent.worklist.ledger import Ledger
from inference.predictor import Predictor


@dataclass(frozen=True, kw_only=True)
class ScoreStep:
    """Scores, unless the result key was scored and reported before."""

    ledger: Ledger
    layout: Layout
    owner: str
    limits: ScoreLimits
    destinations: tuple[Archive | str, ...]
    extras: Extras
    predictor: Callable[[str | None], Predictor]
    """Loads a bundle by its folder, once a process; None is the configured one."""
    observer: Observer
    pictures: Pictures
    ahead: LookAhead
    wake: Callable[[int, Step], None]
    now: Callable[[], float]
    withheld: bool = False
    """Studies are blinded: what is scored now is sent and shown once it is released."""
    blinded: frozenset[str] = frozenset()
    """Destinations that get released results only."""

    def __call__(self, item: WorkItem, log: Any) -> None:
        """Score the work item, or find its result known and go straight to delivery."""
        predictor = self.predictor(item.bundle_path)
        if predictor.identity.digest != item.bundle_digest:
            item = replay.rekey(self.ledger, item, self.owner, bundle_digest=predictor.identity.digest)
        if self._known(item):
            log.info("known result", result_key=item.result_key)
            self.wake(item.id, Step.DELIVER)
            return
        instances = results.instances_of(self.ledger, item.id)
        try:
            sources = tuple((instance, existing(self.layout, instance)) for instance in instances)
        except NotFoundError:
            if not removed.fetch_again(self.ledger, item, self.owner, now=self.now()):
                raise
            log.info("files were removed by retention: fetched first")
            self.wake(item.id, Step.RETRIEVE)
            return
        outcome, pictures = score_study(sources, predictor, self.limits, self.ahead.take)
        with ThreadPoolExecutor(1, thread_name_prefix="pictures") as disk:  # which is waited for
            written = disk.submit(self.pictures.keep, item.result_key, pictures)
            self.observer.keep(item, outcome, sources, self.now())
        written.result()
        dated, now = self._dated(item), self.now()
        results.keep_score(self.ledger, item, self.owner, outcome, now, withheld=self.withheld, content_at=dated)
        if predictor.fault is not None:
            log.warning("an engine failed, another stands in", cause=predictor.fault, engine=outcome.model.backend)
        if self.withheld:
            log.info("scored", withheld=True)
            return
        log.info("scored", refusal=outcome.refusal, grade=outcome.score and outcome.score.grade, views=len(pictures))

    def _dated(self, item: WorkItem) -> float | None:
        """Say when a report was made that is kept, though the ledger was lost since: the same bytes are made again."""
        report = derived_uid(item.result_key, ResultKind.STRUCTURED_REPORT)
        path = object_path(self.layout, item.result_key, report)
        return content_moment(path) if path.exists() else None

    def _known(self, item: WorkItem) -> bool:
        def intact(digests: dict[str, str]) -> bool:
            paths = {object_path(self.layout, item.result_key, uid): digest for uid, digest in digests.items()}
            return all(
                path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == digest
                for path, digest in paths.items()
            )

        destinations = tuple(map(str, self.destinations))
        return replay.skip_to_delivery(
            self.ledger,
            item,
            self.owner,
            destinations=destinations,
            intact=intact,
            now=self.now(),
            extras=self.extras,
            blinded=self.blinded,
        )
