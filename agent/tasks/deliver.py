"""The delivery step: outbox rows are sent and proved."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from agent.deliver.deliver_result import deliver_result
from agent.deliver.storage_scu import ScuConfig
from agent.domain.work_item import WorkItem
from agent.store.layout import Layout
from agent.worklist.ledger import Ledger


@dataclass(frozen=True, kw_only=True)
class DeliverStep:
    """Sends what is due and asks for proof; what waits is taken up again when it is due."""

    ledger: Ledger
    layout: Layout
    owner: str
    scu: ScuConfig
    now: Callable[[], float]

    def __call__(self, item: WorkItem, log: Any) -> None:
        """Send and prove what is due of the work item."""
        outcome = deliver_result(
            self.ledger, self.layout, item, self.owner, self.scu, self.now, random.SystemRandom(), log
        )
        log.info("delivered" if outcome.state else "delivery waits", state=outcome.state, reason=outcome.reason)
