"""Waiting for something to happen instead of looking every millisecond.

pynetdicom's two threads of an association each look 1,000 times a second whether there is something to do: twenty idle
associations keep a core busy, and a hundred make every answer take 300 ms. Here each sleeps until it is told.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections.abc import Callable
from typing import Any, Final

LOOK_SECONDS: Final = 0.25
"""Timers and the death of the other thread are still looked for, this often."""


class WakeUp:
    """A descriptor that another thread makes readable, to end a `poll`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def fileno(self) -> int:
        """Descriptor for `poll`; -1 once closed."""
        return self._descriptor

    def ring(self) -> None:
        """Make it readable. After `close` nothing happens: the number may be somebody else's by then."""
        with self._lock:
            if self._descriptor >= 0:
                os.eventfd_write(self._descriptor, 1)

    def answer(self) -> None:
        """Make it unreadable again."""
        with self._lock, contextlib.suppress(BlockingIOError):
            if self._descriptor >= 0:
                os.eventfd_read(self._descriptor)

    def close(self) -> None:
        """Give the descriptor back; may be called again."""
        with self._lock:
            descriptor, self._descriptor = self._descriptor, -1
            if descriptor >= 0:
                os.close(descriptor)

    def __del__(self) -> None:
        self.close()


class RingingQueue(queue.Queue[Any]):
    """A queue that says when something was put into it."""

    def __init__(self, ring: Callable[[], None]) -> None:
        super().__init__()
        self._ring = ring

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Put, then ring."""
        super().put(item, block, timeout)
        self._ring()


class Checkpoint(threading.Event):
    """Stands for `Association._reactor_checkpoint`, at which the association's thread passes in each of its rounds.

    Parameters
    ----------
    pending
        Whether there is something for the association to do.
    """

    def __init__(self, pending: Callable[[], bool]) -> None:
        super().__init__()
        self._pending = pending
        self._bell = threading.Event()
        self.set()

    def set(self) -> None:
        """Let pass, at once."""
        super().set()
        self._bell.set()

    def ring(self) -> None:
        """Say that there is something to do."""
        self._bell.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for something to do, then until it may pass."""
        self._bell.clear()
        if not self._pending():  # asked after the bell was cleared, so that nothing is missed
            self._bell.wait(LOOK_SECONDS)
        return super().wait(timeout)
