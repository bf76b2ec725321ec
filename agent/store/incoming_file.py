"""A data set on its way to disk."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Final

from agent.domain.study import InstanceHeader
from agent.store.durable import EARLY, start_writing
from agent.store.header import header_at_hand
from agent.store.part_ten import PREAMBLE, file_meta, read_part_ten_header

_CHECK_BYTES: Final = 1 << 26
_BEGINNING: Final = 1 << 15
"""So much of a data set stays in memory until it is kept: the header need not be read back from disk."""
_SMALL: Final = 1 << 20
_MOST_PARTS: Final = 1000  # IOV_MAX is 1024


class IncomingFile:
    """A data set on its way to disk. `write` never raises: what went wrong is kept for the one who must answer.

    Parameters
    ----------
    path
        Temporary name, on the file system of the final one.
    sop_class_uid, sop_instance_uid, transfer_syntax_uid
        For the file meta information; checked before.
    check_room
        Asked with the size so far, each 64 MiB and at the first fragment; raises OSError where no more may come.
    """

    def __init__(
        self,
        path: str,
        *,
        sop_class_uid: str,
        sop_instance_uid: str,
        transfer_syntax_uid: str,
        check_room: Callable[[int], None] = lambda _size: None,
    ) -> None:
        self.name = path
        self.transfer_syntax_uid = transfer_syntax_uid
        self.error: OSError | None = None
        self.size = 0
        self.offset = 0
        self._check_room, self._checked_at = check_room, -_CHECK_BYTES
        self._beginning = b""
        self._unwritten: list[bytes | memoryview] = []
        self._unhashed: list[memoryview] = []
        self._hashing: Future[None] | None = None
        self._digest = hashlib.sha256()
        self._started_at = 0
        self._descriptor = -1
        self._lock = threading.Lock()
        """Nobody closes the descriptor while another thread uses it: its number may be another file's at once."""
        try:
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            self._fail(error)
            return
        head = PREAMBLE + file_meta(sop_class_uid, sop_instance_uid, transfer_syntax_uid)
        self._unwritten.append(head)
        self.offset = len(head)

    @property
    def path(self) -> Path:
        """Temporary name."""
        return Path(self.name)

    def write(self, data: bytes | memoryview) -> None:
        """Append a fragment of the data set."""
        if self._append(data) and self._flush():
            self._digest.update(data)

    def write_borrowed(self, data: memoryview) -> None:
        """Append a fragment that stays as it is until `settle` or `finish`: it is written and hashed then."""
        if self._append(data):
            self._unhashed.append(data)

    def settle(self, executor: Callable[[], Executor] | None) -> bool:
        """Write what was borrowed, and hash it; says whether another thread is still at it.

        What an earlier call left is done before this one returns: no more than one call's fragments are in use. A small
        data set is hashed here, which takes less time than to ask another thread; so is any without an `executor`.
        """
        self._flush()
        self._await_hashing()
        if executor is None or self.size < _SMALL:
            self._hash_borrowed()
        elif self._unhashed:
            borrowed, self._unhashed = self._unhashed, []
            self._hashing = executor().submit(self._hash, borrowed)
        return self._hashing is not None

    def start_sync(self) -> None:
        """Let the disk begin with all that came: what is left to do before the sync takes none of its time."""
        if self._flush():
            start_writing(self._descriptor)

    def header(self) -> InstanceHeader:
        """Read the header of what was written so far.

        Raises
        ------
        RequestorError
            It cannot be read, or a UID that names the instance is missing or impossible.
        OSError
            The file cannot be read back.
        """
        at_hand = header_at_hand(self._beginning, self.transfer_syntax_uid)
        if at_hand is not None:
            return at_hand
        if not self._flush() and self.error is not None:
            raise self.error
        return read_part_ten_header(self.path)[0]

    def finish(self) -> str:
        """Sync and close, once; returns the digest of the data set.

        Raises
        ------
        OSError
            Anything that went wrong since the beginning; nothing is left on disk.
        """
        self._flush()
        self._await_hashing()
        self._hash_borrowed()
        if self.error is None:
            try:
                self._check_room(self.size)
                self._sync()
            except OSError as error:
                self._fail(error)
        self._close()
        if self.error is not None:
            raise self.error
        return self._digest.hexdigest()

    def discard(self) -> None:
        """Close and remove, unless it has been given its final name; may be called at any time and again."""
        self._unwritten, self._unhashed = [], []
        with contextlib.suppress(OSError):  # of a broken disk; start-up collects what stays
            self._close()
            os.unlink(self.name)  # noqa: PTH108 - a text all the way

    def _append(self, data: bytes | memoryview) -> bool:
        if self.error is not None or self._descriptor < 0:
            return False
        size = self.size + len(data)
        try:
            if size - self._checked_at >= _CHECK_BYTES:
                self._checked_at = size
                self._check_room(size)
        except OSError as error:
            self._fail(error)
            return False
        self._unwritten.append(data)
        if self.size < _BEGINNING:
            self._beginning += data[: _BEGINNING - self.size]
        self.size = size
        return True

    def _flush(self) -> bool:
        """Write what waits, in one call; says whether it went well."""
        waiting, self._unwritten = self._unwritten, []
        try:
            with self._lock:
                if self.error is not None or self._descriptor < 0:
                    return False
                _write_all(self._descriptor, waiting)
                if self.size - self._started_at >= EARLY:
                    self._started_at = self.size
                    start_writing(self._descriptor)
        except OSError as error:
            self._fail(error)
            return False
        return True

    def _sync(self) -> None:
        with self._lock:
            if self._descriptor < 0:
                raise OSError(errno.EBADF, "the data set was discarded before it was whole")
            os.fdatasync(self._descriptor)  # with the length, and whatever else reading it back needs

    def _await_hashing(self) -> None:
        hashing, self._hashing = self._hashing, None
        if hashing is not None:
            hashing.result()

    def _hash_borrowed(self) -> None:
        borrowed, self._unhashed = self._unhashed, []
        self._hash(borrowed)

    def _hash(self, fragments: list[memoryview]) -> None:
        for fragment in fragments:
            self._digest.update(fragment)

    def _fail(self, error: OSError) -> None:
        self.error = error
        self.discard()

    def _close(self) -> None:
        with self._lock:
            descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


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
