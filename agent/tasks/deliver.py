"""The delivery step: outbox rows are sent and proved."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from agent.deliver.ahead import Ahead
from agent.deliver.away import left_alone
from agent.deliver.deliver_result import deliver_result
from agent.deliver.kept_objects import KeptBytesError
from agent.deliver.messages import Senders
from agent.deliver.parking import Parking
from agent.deliver.second_lane import Lanes
from agent.domain.identifiers import Archive
from agent.domain.work_item import Step, WorkItem
from agent.orders.check_order import OrderChecker
from agent.scu.config import ScuConfig
from agent.store.layout import Layout
from agent.worklist import replay, work_items
from agent.worklist.ledger import Ledger

_NOT_WHOLE: Final = "objects not whole"


@dataclass(frozen=True, kw_only=True)
class DeliverStep:
    """Sends what is due and asks for proof; what waits is taken up again when it is due."""

    ledger: Ledger
    layout: Layout
    owner: str
    scu: ScuConfig
    commitment_seconds: float
    wake: Callable[[int, Step], None]
    now: Callable[[], float]
    parking: Parking = field(default_factory=Parking)
    lanes: Lanes = field(default_factory=Lanes)
    senders: Senders = field(default_factory=dict)
    ahead: Ahead | None = None
    archives: tuple[Archive, ...] = ()
    """To which associations are opened while a report is made: those that get every result at once."""
    orders: OrderChecker | None = None
    """Compares with the Modality Worklist before anything leaves; None: nobody is asked."""

    def __call__(self, item: WorkItem, log: Any) -> None:
        """Send and prove what is due of the work item."""
        if self.orders is not None and not self.orders.may_leave(item, log):
            return
        try:
            outcome = deliver_result(
                self.ledger,
                self.layout,
                item,
                self.owner,
                self.scu,
                self.now,
                random.SystemRandom(),
                log,
                commitment_seconds=self.commitment_seconds,
                parking=self.parking,
                lanes=self.lanes,
                ahead=self.ahead,
                senders=self.senders,
            )
        except KeptBytesError as error:
            log.warning("kept objects are not whole: built again", cause=error.cause)
            self._build_again(item, error)
            return
        log.info("delivered" if outcome.state else "delivery waits", state=outcome.state, reason=outcome.reason)

    def prepare(self) -> None:
        """Open associations for a result that is about to be there; begins only, and sends nothing."""
        if self.ahead is None or not self.archives:
            return
        away = left_alone(self.ledger, self.now())
        for archive in self.archives:
            if str(archive) not in away and not self.parking.holds(archive):
                self.ahead.request(archive, self.lanes.count(archive))

    def _build_again(self, item: WorkItem, error: KeptBytesError) -> None:
        """Go back to the score step; the same key yields the same bytes. Where that does not help, it is told."""
        if replay.ended_so(self.ledger, item.id, _NOT_WHOLE) >= work_items.MOST_ATTEMPTS:
            reason = f"built {work_items.MOST_ATTEMPTS} times: {error.cause}"
            replay.fail(self.ledger, item, self.owner, step=Step.DELIVER, reason=reason, now=self.now())
            return
        with self.ledger.write() as connection:
            work_items.advance(
                connection,
                item.id,
                self.owner,
                done=Step.DELIVER,
                step=Step.SCORE,
                now=self.now(),
                outcome=_NOT_WHOLE,
            )
        self.wake(item.id, Step.SCORE)
