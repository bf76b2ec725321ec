"""One study scored by the shadow bundle: what the live one scored, with the same limits; only its answer is kept."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from agent.domain.errors import NotFoundError
from agent.score.score_study import ScoreLimits, score_study
from agent.store.layout import Layout
from agent.tasks.sources import existing
from agent.watch import shadow
from agent.worklist import results
from agent.worklist.ledger import Ledger
from inference.backends.interface import BackendError
from inference.predictor import Predictor


@dataclass(frozen=True, kw_only=True)
class ShadowScoring:
    """Scores beside the live bundle, while nothing live waits.

    Parameters
    ----------
    live
        Digest of the live bundle.
    predictor
        The shadow bundle, loaded.
    """

    ledger: Ledger
    layout: Layout
    limits: ScoreLimits
    live: str
    predictor: Predictor
    now: Callable[[], float]
    log: Any

    def once(self) -> bool:
        """Score the newest study that waits; False where none does, or live work goes first.

        Raises
        ------
        LedgerError
            The ledger is away.
        """
        digest = self.predictor.identity.digest
        if shadow.is_busy(self.ledger):
            return False
        waiting = shadow.next_waiting(self.ledger, live=self.live, shadow=digest, now=self.now())
        if waiting is None:
            return False
        shadow.begin(self.ledger, waiting, shadow=digest, now=self.now())
        started = time.monotonic()
        try:
            instances = results.instances_of(self.ledger, waiting.work_item_id)
            sources = tuple((instance, existing(self.layout, instance)) for instance in instances)
            outcome, _pictures = score_study(sources, self.predictor, self.limits)
        except (NotFoundError, BackendError) as error:
            shadow.fail(self.ledger, waiting, str(error), shadow=digest, now=self.now())
            self.log.warning("not scored by the shadow bundle", study=waiting.study_instance_uid, cause=str(error))
            return True
        seconds = time.monotonic() - started
        shadow.keep(self.ledger, waiting, outcome, shadow=digest, seconds=seconds, now=self.now())
        self.log.info("scored by the shadow bundle", study=waiting.study_instance_uid, seconds=round(seconds, 3))
        return True
