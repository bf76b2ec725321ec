"""The reconciler: closes complete studies and schedules again whatever is unfinished. One at a time, by lease."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from agent.domain.completeness import Patience
from agent.domain.work_item import Step
from agent.worklist import arrivals, leases, setback, work_items
from agent.worklist.closing import Closed, close_complete_groups
from agent.worklist.ledger import Ledger

LEASE: Final = "reconciler"
LEASE_SECONDS: Final = 6.0
TICK_SECONDS: Final = 0.25
WAKE_AGAIN_SECONDS: Final = 5.0
"""A work item that nobody took this long after its wake-up is woken again."""


@dataclass(frozen=True, kw_only=True)
class Tick:
    """What one look did."""

    leading: bool
    closed: tuple[Closed, ...] = ()
    woken: int = 0
    lost_associations: int = 0
    mended: int = 0
    """Times that lay ahead since the clock was set back."""


def reconcile(
    ledger: Ledger,
    *,
    owner: str,
    patience: Patience,
    bundle_digest: str,
    wake: Callable[[int, Step], None],
    now: float,
) -> Tick:
    """Look once. Every worker calls it each `TICK_SECONDS`; only the holder of the lease does anything."""
    if not leases.hold(ledger, LEASE, owner, now=now, seconds=LEASE_SECONDS):
        return Tick(leading=False)
    mended = setback.mend(ledger, now)
    lost = arrivals.close_lost_associations(ledger, now)
    closed = close_complete_groups(ledger, patience=patience, bundle_digest=bundle_digest, now=now)
    due = work_items.due(ledger, now, patience=WAKE_AGAIN_SECONDS)
    for work_item_id, step in due:
        wake(work_item_id, step)
    return Tick(leading=True, closed=tuple(closed), woken=len(due), lost_associations=lost, mended=mended)
