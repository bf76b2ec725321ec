"""What associations borrow from their listener: memory to read into, and threads that hash what was read."""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Final

_BYTES: Final = 1 << 19
"""Four PDUs of our maximum: large enough that system calls do not count, small enough for a core's second cache."""


class Buffers:
    """A store of buffers. What is kept is what was once needed at the same moment, not one for each association."""

    def __init__(self) -> None:
        self._free: deque[memoryview] = deque()  # its operations are atomic
        self.hashing: Executor = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="hashing")

    def take(self) -> memoryview:
        """Lend a buffer."""
        try:
            return self._free.pop()
        except IndexError:
            return memoryview(bytearray(_BYTES))

    def give_back(self, view: memoryview | None) -> None:
        """Take a buffer back that nobody uses any more."""
        if view is not None:
            self._free.append(view)
