"""Associations that are requested before there is anything to send: delivery then finds them open.

Nothing is sent on them before. One that is not taken within seconds is released, and one that cannot be had is nobody's
loss: delivery requests its own, and tells what is the matter.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

from pydicom.uid import JPEGBaseline8Bit
from pynetdicom import evt

from agent.deliver.storage_scu import PLAIN, syntaxes
from agent.domain.errors import AgentError
from agent.domain.identifiers import Archive
from agent.scu.association import Context, OpenAssociation, associate
from agent.scu.commitment import COMMITMENT_CONTEXT
from agent.scu.config import ScuConfig
from agent.scu.find import FIND_CONTEXT

_HELD_SECONDS: Final = 3.0
_PATIENT_SECONDS: Final = 0.25
"""Delivery waits so long for one that is under way."""
CONTEXTS: Final = (
    FIND_CONTEXT,
    COMMITMENT_CONTEXT,
    Context("1.2.840.10008.5.1.4.1.1.88.34", (PLAIN,)),  # Comprehensive 3D SR Storage
    *(Context("1.2.840.10008.5.1.4.1.1.7", (one,)) for one in syntaxes(JPEGBaseline8Bit)),  # Secondary Capture
)
"""What a result needs that has no optional objects."""

Reported = Callable[[evt.Event], "tuple[int, None]"]


@dataclass(eq=False)
class _Held:
    """One association, from its request until it is taken or released."""

    stack: ExitStack = field(default_factory=ExitStack)
    opened: OpenAssociation | None = None
    settled: threading.Event = field(default_factory=threading.Event)
    """It is open, or will not be."""
    decided: threading.Event = field(default_factory=threading.Event)
    """It is taken, or no longer wanted."""
    is_taken: bool = False


class Ahead:
    """Requests associations before they are needed; one a process.

    Parameters
    ----------
    on_report
        Answers N-EVENT-REPORTs.
    """

    def __init__(self, scu: ScuConfig, on_report: Reported | None = None) -> None:
        self._scu, self._on_report = scu, on_report
        self._held: dict[str, list[_Held]] = {}
        self._lock = threading.Lock()

    def request(self, archive: Archive, count: int) -> None:
        """Begin to open so many associations with an archive, unless some are held."""
        with self._lock:
            if self._held.get(str(archive)):
                return
            held = self._held[str(archive)] = [_Held() for _ in range(count)]
        for one in held:
            threading.Thread(target=self._hold, args=(archive, one), name="ahead", daemon=True).start()

    @contextmanager
    def associated(
        self, archive: Archive, scu: ScuConfig, contexts: Iterable[Context], *, on_report: Reported | None = None
    ) -> Iterator[tuple[OpenAssociation, bool]]:
        """Hold an association as `associate` does, one that is open already where there is one that will do.

        Yields
        ------
        tuple
            The association, and whether it was opened ahead: it may have ended meanwhile, without anybody's fault.
        """
        proposed = list(contexts)
        if set(proposed) <= set(CONTEXTS):
            held = self._taken(archive)
        else:
            held = None
            self._let_go(archive)
        if held is not None and held.opened is not None:
            held.opened.rest(is_idle=False)
            with held.stack:
                yield held.opened, True
        else:
            with associate(archive, scu, proposed, on_report=on_report) as association:
                yield association, False

    def _taken(self, archive: Archive) -> _Held | None:
        """Take one that is open; those that did not come about are passed over, as the archive may take but one."""
        while (held := self._next(archive)) is not None:
            held.settled.wait(_PATIENT_SECONDS)
            with self._lock:
                is_open = held.opened is not None and held.opened.raw.is_established
                held.is_taken = is_open and not held.decided.is_set()
                held.decided.set()
            if held.is_taken:
                return held
        return None

    def _next(self, archive: Archive) -> _Held | None:
        with self._lock:
            waiting = self._held.get(str(archive))
            return waiting.pop(0) if waiting else None

    def _let_go(self, archive: Archive) -> None:
        while (held := self._next(archive)) is not None:
            held.decided.set()

    def _hold(self, archive: Archive, held: _Held) -> None:
        with suppress(Exception):
            opened = held.stack.enter_context(associate(archive, self._scu, CONTEXTS, on_report=self._on_report))
            opened.rest(is_idle=True)
            held.opened = opened
        held.settled.set()
        held.decided.wait(_HELD_SECONDS)
        with self._lock:
            held.decided.set()
            waiting: list[Any] = self._held.get(str(archive), [])
            if held in waiting:
                waiting.remove(held)
        if not held.is_taken:
            with suppress(AgentError, OSError):
                held.stack.close()
