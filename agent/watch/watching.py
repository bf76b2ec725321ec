"""Everything that is watched, as pages, metrics and commands ask for it; kept for a while, since looking takes time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from agent.watch import drift, shadow
from agent.watch.agreement import Agreement
from agent.watch.drift import DriftReport, Window
from agent.watch.readers import ReadersReport, readers_report
from agent.worklist.ledger import Ledger
from inference.reference import Reference

KEPT_SECONDS: Final = 300.0
_Made = TypeVar("_Made")


@dataclass(frozen=True, kw_only=True)
class Live:
    """The live bundle, as drift needs it.

    Parameters
    ----------
    reference, told
        Its reference distributions if it has any, and what they were made from, or why there are none.
    """

    digest: str
    reference: Reference | None = None
    told: str = "the bundle has no reference distribution"


@dataclass(frozen=True, kw_only=True)
class ShadowReport:
    """How the shadow bundle fares beside the live one."""

    live: str
    shadow: str
    """Digests."""
    name: str
    """Name and version of the shadow bundle."""
    waiting: int
    agreement: Agreement

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        named = {"live": self.live, "shadow": self.shadow, "name": self.name, "waiting": self.waiting}
        return named | self.agreement.as_dict()


@dataclass(frozen=True, kw_only=True)
class Watching:
    """Looks at the ledger.

    Parameters
    ----------
    live
        The live bundle; read when first asked for, since a page must start where a bundle is broken.
    shadow
        Digest and name of the shadow bundle, or None.
    """

    ledger: Ledger
    window: Window
    live: Callable[[], Live]
    shadow: Callable[[], tuple[str, str] | None] = lambda: None
    now: Callable[[], float] = time.time
    kept_seconds: float = KEPT_SECONDS
    _kept: dict[str, tuple[float, Any]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _lock: Any = field(default_factory=threading.RLock, init=False, repr=False, compare=False)

    def drift(self) -> DriftReport:
        """Compare scanners and sites with the bundle's reference and their own."""
        return self._once("drift", self._drift)

    def shadow_report(self) -> ShadowReport | None:
        """Compare the shadow bundle with the live one; None where there is no shadow bundle."""
        return self._once("shadow", self._shadow)

    def readers(self) -> ReadersReport:
        """Compare readers with results."""
        return self._once("readers", lambda: readers_report(self.ledger))

    def forget(self) -> None:
        """Look anew at the next call: something was just added."""
        with self._lock:
            self._kept.clear()

    def _drift(self) -> DriftReport:
        live = self.live()
        return drift.look(self.ledger, live.digest, live.reference, live.told, self.window, self.now())

    def _shadow(self) -> ShadowReport | None:
        found = self.shadow()
        if found is None:
            return None
        (digest, name), live = found, self.live().digest
        return ShadowReport(
            live=live,
            shadow=digest,
            name=name,
            waiting=shadow.count_waiting(self.ledger, live=live, shadow=digest, now=self.now()),
            agreement=shadow.shadow_agreement(self.ledger, live=live, shadow=digest),
        )

    def _once(self, name: str, make: Callable[[], _Made]) -> _Made:
        """Make it, unless it was made lately; two who ask at once wait for one."""
        with self._lock:
            kept = self._kept.get(name)
            if kept is None or self.now() - kept[0] >= self.kept_seconds:
                kept = self._kept[name] = (self.now(), make())
            made: _Made = kept[1]
            return made
