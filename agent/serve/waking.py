"""Wake-ups that a worker sends to its own queue and to others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError

from agent.domain.work_item import Step
from agent.serve.broker_watch import StepsAtHand
from agent.worklist.celery_app import announce, wake


@dataclass(frozen=True)
class Waker:
    """Wakes the queue of a step; nothing is lost where the broker is away."""

    app: Celery
    at_hand: StepsAtHand
    log: Any

    def __call__(self, work_item_id: int, step: Step) -> None:
        """Ask that queue to look at a work item."""
        self._send(lambda: wake(self.app, work_item_id, step), work_item=work_item_id)

    def announce(self) -> None:
        """Tell delivery that a result is about to be there."""
        self._send(lambda: announce(self.app))

    def _send(self, send: Callable[[], None], **what: int) -> None:
        if self.at_hand.are_last:
            return
        try:
            send()
        except (OperationalError, OSError) as error:
            self.log.warning("wake-up not sent: the reconciler sends it again", **what, cause=str(error))
