"""Running work items: claim by lease, do the step, move on; whatever goes wrong ends in the ledger and the log."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import structlog

from agent.deliver.backoff import gives_up, wait_seconds
from agent.domain.errors import AgentError, LostLeaseError
from agent.domain.work_item import LIVE_CAUSES, QUEUES, State, Step, WorkItem
from agent.tasks.solitude import SUSPECT_ATTEMPTS, Solitude
from agent.worklist import replay, work_items
from agent.worklist.ledger import Ledger

_RETRY_SECONDS: Final = (1.0, 5.0, 20.0, 60.0)
_LIVE_A_WAKE_UP: Final = 16
"""Steps; a worker that is told to stop must come to an end within seconds."""
FRESH_SECONDS: Final = 3.0
"""For so long after it closed a study has the processor to itself, but for steps that had begun."""
BEFORE_SECONDS: Final = 0.5
"""Nor does a replay begin a step so shortly before a study closes: longer than a step takes on most machines."""
_LONGEST_YIELD: Final = 5.0
"""A replay waits no longer for its turn, however many studies close one after another."""
_LOOK_SECONDS: Final = 0.02


class StepFunction(Protocol):
    """Does one step of a claimed work item, moves it on in one transaction and wakes the next step's queue."""

    def __call__(self, item: WorkItem, log: Any) -> None:
        """Do the step; raises AgentError where it cannot be done."""


@dataclass(frozen=True, kw_only=True)
class Runner:
    """What one queue's process needs to run work items.

    Parameters
    ----------
    closes_soon
        Whether a study closes about now, in so many seconds at most.
    """

    ledger: Ledger
    owner: str
    queue: str
    steps: Mapping[Step, StepFunction]
    wake: Callable[[int, Step], None]
    now: Callable[[], float]
    sleep: Callable[[float], None] = time.sleep
    closes_soon: Callable[[float, float], bool] = lambda _now, _seconds: False
    is_ending: Callable[[], bool] = lambda: False
    """No step is to begin any more."""
    at_hand: set[int] = field(default_factory=set)
    """Work items whose step runs now: their leases are to be renewed."""
    solitude: Solitude = field(default_factory=Solitude)

    def run(self, work_item_id: int) -> None:
        """Do every step of a work item that belongs to this queue, then wake the queue of the next one.

        A wake-up is an occasion, not an order: live work that is due goes before a replay or a retry, and between its
        steps, so that a new study waits for one step of theirs at most. What is not done is woken again.
        """
        found, begun = self._found(work_item_id), False
        while found is not None:
            if found.cause not in LIVE_CAUSES:
                may_begin = self._its_turn(besides=work_item_id)
            else:
                may_begin = begun or self._live_is_done(besides=work_item_id)
            if not may_begin or not self._does(found):
                return
            found, begun = self._looked_at(work_item_id), True  # the step itself has woken another queue

    def _its_turn(self, *, besides: int) -> bool:
        """Wait while a study closes, or one that just has is on its way through any queue: they share the processor.

        False where live work of this queue is left.
        """
        asked = self.now()
        while self._live_is_done(besides=besides):
            now = self.now()
            expected = work_items.any_live_since(self.ledger, now - FRESH_SECONDS)
            if now - asked >= _LONGEST_YIELD or not (expected or self.closes_soon(now, BEFORE_SECONDS)):
                return True
            self.sleep(_LOOK_SECONDS)
        return False

    def _live_is_done(self, *, besides: int) -> bool:
        """Do live work that is due; False where some is left after what one wake-up may do before it ends."""
        for _ in range(_LIVE_A_WAKE_UP):
            live = work_items.next_live(self.ledger, self.queue, self.now())
            if live is None or live == besides:
                return True
            found = self._looked_at(live)
            if found is not None:
                self._does(found)
        return False

    def _does(self, found: WorkItem) -> bool:
        """Claim a work item and do its step; False where it is not ours or did not come to its end."""
        with self.solitude.room(alone=found.attempts >= SUSPECT_ATTEMPTS and found.step is not Step.DELIVER):
            item = self._claimed(found)
            return item is not None and self._did(item)

    def _did(self, item: WorkItem) -> bool:
        """Do one step; False where it did not come to its end."""
        log = structlog.get_logger("work").bind(
            work_item=item.id, study=item.study_instance_uid, step=str(item.step), attempt=item.attempts
        )
        started = self.now()
        self.at_hand.add(item.id)
        try:
            self.steps[item.step](item, log)
        except LostLeaseError as error:
            log.info("step given up", cause=error.cause)
            return False
        except Exception as error:  # noqa: BLE001 - the boundary that must survive: it logs, and moves the state
            self._after_fault(item, error, log)
            return False
        finally:
            self.at_hand.discard(item.id)
        log.info("step done", seconds=round(self.now() - started, 3))
        return True

    def _found(self, work_item_id: int) -> WorkItem | None:
        """Look at a work item that was woken; what another queue must do next is woken there."""
        found = work_items.find(self.ledger, work_item_id)
        if found is None or found.state in (State.COMPLETED, State.CANCELED):
            return None
        if QUEUES[found.step] != self.queue:
            self.wake(work_item_id, found.step)
            return None
        return found

    def _looked_at(self, work_item_id: int) -> WorkItem | None:
        """Look at a work item; None where nothing is for this queue to do."""
        found = work_items.find(self.ledger, work_item_id)
        if found is None or found.state in (State.COMPLETED, State.CANCELED) or QUEUES[found.step] != self.queue:
            return None
        return found

    def _claimed(self, found: WorkItem) -> WorkItem | None:
        if self.is_ending():
            return None
        # another thread or process may move it on at this moment: what it needs then is not for this queue
        item = work_items.claim(self.ledger, found.id, self.owner, self.now(), step=found.step)
        if item is not None and item.step is not Step.DELIVER and item.attempts > work_items.MOST_ATTEMPTS:
            reason = f"{item.step} ended its worker {item.attempts - 1} times"
            replay.fail(self.ledger, item, self.owner, step=item.step, reason=reason, now=self.now())
            return None
        return item

    def _after_fault(self, item: WorkItem, error: Exception, log: Any) -> None:
        """Try again later if that can help, else end the work item as a dead letter with its true cause."""
        named = isinstance(error, AgentError)
        cause = str(error) if named else f"{type(error).__name__} in {item.step}"
        hopeless = named and not getattr(error, "retriable", False)
        now = self.now()
        tried_enough, wait = _patience(item, now, named=named)
        log.error("step failed", cause=cause, again=not (hopeless or tried_enough), exc_info=None if named else error)
        try:
            if hopeless or tried_enough:
                replay.fail(self.ledger, item, self.owner, step=item.step, reason=cause, now=now)
            else:
                work_items.give_back(self.ledger, item.id, self.owner, now=now, not_before=now + wait, error=cause)
        except AgentError as second:
            # the ledger itself is away, or the lease is lost: it expires and the work item comes back
            log.warning("fault not recorded", cause=second.cause)


def _patience(item: WorkItem, now: float, *, named: bool) -> tuple[bool, float]:
    """Say whether a step was tried often enough, and how many seconds to wait before it is tried again."""
    if item.step is Step.DELIVER and not named:  # as for every other fault of delivery
        age = now - item.created_at
        return gives_up(item.attempts, age), wait_seconds(item.attempts, age, random.SystemRandom())
    enough = item.attempts >= work_items.MOST_ATTEMPTS and item.step is not Step.DELIVER
    return enough, _RETRY_SECONDS[min(item.attempts, len(_RETRY_SECONDS)) - 1]
