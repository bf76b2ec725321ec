"""What a listener may offer besides verification and storage; the composition root says what is offered, and by whom.

None of it touches the fast path: whatever is no plain C-STORE goes to pynetdicom, which calls these handlers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Handler = tuple[Any, Callable[..., Any]]
"""A pynetdicom event and what answers it."""


@dataclass(frozen=True, kw_only=True)
class Services:
    """Further SOP classes that are accepted, and the handlers of their messages."""

    sop_classes: tuple[str, ...] = ()
    handlers: tuple[Handler, ...] = ()

    def __add__(self, other: Services) -> Services:
        """Offer both."""
        return Services(sop_classes=self.sop_classes + other.sop_classes, handlers=self.handlers + other.handlers)
