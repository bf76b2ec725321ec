"""What associations borrow from their listener: memory to read into, and threads that hash what was read."""

from __future__ import annotations

import os
import threading
from collections import deque
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Final

_BYTES: Final = 1 << 19
"""Four PDUs of our maximum: large enough that system calls do not count, small enough for a core's second cache."""


class Buffers:
    """A store of buffers. What is kept is what was once needed at the same moment, not one for each association."""

    def __init__(self) -> None:
        self._free: deque[memoryview] = deque()  # its operations are atomic
        self._made = 0
        self._hashing: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()

    def hashing(self) -> Executor:
        """Threads that hash: one a core, from when they are first needed until `close`."""
        with self._lock:
            if self._hashing is None:
                self._hashing = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="hashing")
            return self._hashing

    @property
    def lent(self) -> int:
        """How many buffers are in use."""
        return self._made - len(self._free)

    def close(self) -> None:
        """End the threads when they are done."""
        with self._lock:
            hashing, self._hashing = self._hashing, None
        if hashing is not None:
            hashing.shutdown(wait=False)

    def take(self) -> memoryview:
        """Lend a buffer."""
        try:
            return self._free.pop()
        except IndexError:
            with self._lock:
                self._made += 1
            return memoryview(bytearray(_BYTES))

    def give_back(self, view: memoryview | None) -> None:
        """Take a buffer back that nobody uses any more."""
        if view is not None:
            self._free.append(view)
