"""Associations that stay open a while after their work is done, because an archive may still report on them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final

from agent.domain.errors import AgentError
from agent.domain.identifiers import Archive

_LOOK_SECONDS: Final = 0.25
_LEAVE_SECONDS: Final = 3.0


class Parking:
    """Holds at most one association an archive, so that no delivery meets a limit of associations because of it."""

    def __init__(self) -> None:
        self._parked: dict[str, tuple[threading.Event, threading.Thread]] = {}
        self._lock = threading.Lock()

    def keep(self, archive: Archive, stack: ExitStack, *, done: Callable[[], bool], seconds: float) -> None:
        """Take an association over, and end it once `done`, or after `seconds`, or when its archive is called again.

        Parameters
        ----------
        stack
            Closing it releases the association.
        """
        leave = threading.Event()
        thread = threading.Thread(target=_hold, args=(stack, done, seconds, leave), daemon=True)
        self.leave(archive)
        with self._lock:
            self._parked[str(archive)] = (leave, thread)
        thread.start()

    def holds(self, archive: Archive) -> bool:
        """Whether an association is parked with an archive."""
        with self._lock:
            return str(archive) in self._parked

    def leave(self, archive: Archive) -> None:
        """End the association that is parked with an archive."""
        with self._lock:
            parked = self._parked.pop(str(archive), None)
        if parked is not None:
            parked[0].set()
            parked[1].join(_LEAVE_SECONDS)


def _hold(stack: ExitStack, done: Callable[[], bool], seconds: float, leave: threading.Event) -> None:
    end = time.monotonic() + seconds
    with stack:
        while time.monotonic() < end and not leave.wait(_LOOK_SECONDS):
            try:
                if done():
                    return
            except AgentError:  # the ledger is away: whoever proves the object will say so
                return
