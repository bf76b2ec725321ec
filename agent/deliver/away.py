"""Archives that let us wait: while one is away, no other work item waits for it too.

A worker delivers one work item after another. Without this memory, fifty results for an archive that hangs would each
hold up for half a minute what another archive is to get. One that refuses at once costs nothing and is not noted.
"""

from __future__ import annotations

from typing import Final

from agent.deliver.backoff import YOUNG_CAP_SECONDS
from agent.domain.identifiers import Archive
from agent.worklist import leases
from agent.worklist.ledger import Ledger

SLOW_SECONDS: Final = 1.0
"""A fault that took longer than this makes its archive one to leave alone."""
_PREFIX: Final = "away:"


def leave_alone(ledger: Ledger, archive: Archive | str, owner: str, *, now: float, seconds: float) -> None:
    """Note that an archive need not be called for some seconds, at most as long as a young outage may wait."""
    leases.hold(ledger, f"{_PREFIX}{archive}", owner, now=now, seconds=min(seconds, YOUNG_CAP_SECONDS))


def left_alone(ledger: Ledger, now: float) -> frozenset[str]:
    """Destinations that need not be called now."""
    return frozenset(name.removeprefix(_PREFIX) for name in leases.active(ledger, _PREFIX, now))
