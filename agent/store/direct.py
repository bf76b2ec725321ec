"""Writing past the page cache: a large file goes to the disk from our own memory (O_DIRECT of open(2)).

What waits for the disk anyway gains nothing from the page cache, and pays for it: a page is found, cleared and filled
for every 4 KiB, which takes the kernel three to ten times as long as the same bytes in memory that is used again.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final

BLOCK: Final = 4096
"""Place, length and memory of a direct write are multiples of the device's block, which is 512 or 4096 bytes."""
LEAST_BYTES: Final = 1 << 18
"""A file that begins with so many bytes at once is large enough for it."""
_STAGE_BYTES: Final = (1 << 19) + BLOCK
"""A buffer of the fast path and what was left over before: one write for what was read."""
_MOST_KEPT: Final = 16
"""Stages that are kept when nobody writes; hundreds of threads may have written at once."""
_MOST_PARTS: Final = 1000  # IOV_MAX is 1024


class Stages:
    """Memory that lies as direct writes want it, lent while a thread writes."""

    def __init__(self) -> None:
        self._free: deque[memoryview] = deque(maxlen=_MOST_KEPT)  # its operations are atomic

    @contextlib.contextmanager
    def lend(self) -> Iterator[memoryview]:
        """Lend a stage."""
        try:
            stage = self._free.pop()
        except IndexError:
            stage = memoryview(mmap.mmap(-1, _STAGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        try:
            yield stage
        finally:
            self._free.append(stage)


class Writing:
    """A file that is written from its beginning to its end, past the page cache if it is large.

    Parameters
    ----------
    descriptor
        Of an empty file.
    stages
        Where direct writes are put together; None: everything goes through the page cache.
    """

    def __init__(self, descriptor: int, stages: Stages | None) -> None:
        self._descriptor, self._stages = descriptor, stages
        self._rest = b""
        """What does not fill a block yet."""
        self._is_empty = True
        self.is_direct = False

    def write(self, parts: list[bytes | memoryview]) -> None:
        """Append; of a large file up to a block less one byte may wait for `end`.

        Raises
        ------
        OSError
            The disk is full or broken.
        """
        if self._is_empty and self._stages is not None and sum(map(len, parts)) >= LEAST_BYTES:
            self.is_direct = self._switch(os.O_DIRECT)
        self._is_empty = False
        if self.is_direct and self._stages is not None:
            with self._stages.lend() as stage:
                self._write_staged(stage, parts)
        else:
            rest, self._rest = self._rest, b""
            _write_all(self._descriptor, [rest, *parts] if rest else parts)

    def end(self) -> None:
        """Append what waits: it fills no block, so that it goes through the page cache.

        Raises
        ------
        OSError
            The disk is full or broken.
        """
        if self.is_direct:
            self._leave()
        self.write([])

    def _write_staged(self, stage: memoryview, parts: Sequence[bytes | memoryview]) -> None:
        stage[: len(self._rest)] = self._rest
        filled = len(self._rest)
        for part in parts:
            view, at = memoryview(part), 0
            while at < len(view):
                count = min(len(view) - at, len(stage) - filled)
                stage[filled : filled + count] = view[at : at + count]
                at, filled = at + count, filled + count
                if filled == len(stage):
                    self._put(stage)
                    filled = 0
        whole = filled - filled % BLOCK if self.is_direct else filled
        self._put(stage[:whole])
        self._rest = bytes(stage[whole:filled])

    def _put(self, blocks: memoryview) -> None:
        """Write whole blocks; where the disk takes them no longer as such, through the page cache."""
        while blocks:
            try:
                written = os.writev(self._descriptor, [blocks])
            except OSError as error:
                if error.errno != errno.EINVAL or not self.is_direct:
                    raise
                self._leave()
                continue
            blocks = blocks[written:]
            if written % BLOCK and self.is_direct:
                self._leave()

    def _leave(self) -> None:
        self.is_direct = False
        self._switch(0)

    def _switch(self, flag: int) -> bool:
        """Say how the file is written; False where its file system has no such way."""
        try:
            fcntl.fcntl(self._descriptor, fcntl.F_SETFL, flag)
        except OSError:
            return False
        return True


def _write_all(descriptor: int, parts: list[bytes | memoryview]) -> None:
    """Write all parts, in one call if the kernel takes them."""
    while parts:
        written = os.writev(descriptor, parts[:_MOST_PARTS])
        done = 0
        while done < len(parts) and written >= len(parts[done]):
            written -= len(parts[done])
            done += 1
        parts = parts[done:]
        if written:
            parts[0] = memoryview(parts[0])[written:]
