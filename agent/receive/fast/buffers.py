"""Buffers to read into: one for each thread that reads just now, not one for each association."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_BYTES: Final = 1 << 19
"""Four PDUs of our maximum: large enough that system calls do not count, small enough for a core's second cache."""


class Buffers:
    """A store of buffers. What is kept is what was once needed at the same moment."""

    def __init__(self) -> None:
        self._free: deque[memoryview] = deque()  # its operations are atomic

    @contextmanager
    def one(self) -> Iterator[memoryview]:
        """Lend a buffer."""
        try:
            view = self._free.pop()
        except IndexError:
            view = memoryview(bytearray(_BYTES))
        try:
            yield view
        finally:
            self._free.append(view)
