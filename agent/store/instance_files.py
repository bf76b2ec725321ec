"""Instance files: encoded data sets exactly as received, named by their digest, with a preamble and meta of our own.

A file on disk is a Part 10 file (PS3.10 section 7): 128 zero bytes, "DICM", file meta information that holds class, UID
and transfer syntax, then the data set. The meta is deterministic, so the same data set makes the same file. A preamble
is never taken from a sender: it could make the file executable (CVE-2019-11687).
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import itertools
import os
import shutil
import struct
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Final

from agent.domain.errors import RequestorError, StorageFullError
from agent.domain.identifiers import checked_uid
from agent.domain.study import InstanceHeader, StoredFile
from agent.store.durable import EARLY, publish_together, start_writing, sync_directory
from agent.store.header import header_at_hand, read_header
from agent.store.layout import Layout

IMPLEMENTATION_CLASS_UID: Final = "2.25.248531197263471593716022641385627154921"
IMPLEMENTATION_VERSION_NAME: Final = "STEATOSIS_AGENT"
_PREAMBLE: Final = b"\0" * 128 + b"DICM"
_PART: Final = ".part"
_STALE_SECONDS: Final = 3600.0
_CHUNK: Final = 1 << 20
_CHECK_BYTES: Final = 1 << 26
_BEGINNING: Final = 1 << 15
"""So much of a data set stays in memory until it is kept: the header need not be read back from disk."""
_SMALL: Final = 1 << 20
_MOST_PARTS: Final = 1000  # IOV_MAX is 1024
_SPACE_SECONDS: Final = 0.02
"""For so long the free space is believed: at 3 GB/s that is 60 MB."""


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
        try:
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            self._fail(error)
            return
        head = _PREAMBLE + file_meta(sop_class_uid, sop_instance_uid, transfer_syntax_uid)
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

    def settle(self, executor: Callable[[], Executor]) -> bool:
        """Write what was borrowed, and hash it; says whether another thread is still at it.

        What an earlier call left is done before this one returns: no more than one call's fragments are in use. A small
        data set is hashed here, which takes less time than to ask another thread.
        """
        self._flush()
        self._await_hashing()
        if self._unhashed and self.size < _SMALL:
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
                if self._descriptor < 0:
                    raise OSError(errno.EBADF, "the data set was discarded before it was whole")  # noqa: TRY301
                self._check_room(self.size)
                os.fdatasync(self._descriptor)  # with the length, and whatever else reading it back needs
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
        if self.error is not None or self._descriptor < 0:
            return False
        waiting, self._unwritten = self._unwritten, []
        try:
            if waiting:
                _write_all(self._descriptor, waiting)
            if self.size - self._started_at >= EARLY:
                self._started_at = self.size
                start_writing(self._descriptor)
        except OSError as error:
            self._fail(error)
            return False
        return True

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


class InstanceFiles:
    """The spool.

    Parameters
    ----------
    layout
        Of the data folder; its rooms exist.
    min_free_bytes
        Below this much free space nothing new is taken.
    max_object_bytes
        Longest data set that is taken; checked each 64 MiB.
    """

    def __init__(self, layout: Layout, min_free_bytes: int, max_object_bytes: int = 1 << 62) -> None:
        self._layout = layout
        self._min_free_bytes = min_free_bytes
        self._max_object_bytes = max_object_bytes
        self._free = (-_SPACE_SECONDS, 0)
        self._incoming = f"{layout.incoming}/{uuid.uuid4().hex}"
        self._numbers = itertools.count()

    def prepare(self) -> None:
        """Make every folder that a digest can name: two syncs now instead of two at the first instance of each.

        On a full disk the others are made when they are needed: whoever starts must answer, if only with A700.
        """
        with contextlib.suppress(OSError):
            for number in range(256):
                (self._layout.instances / f"{number:02x}").mkdir(mode=0o700, exist_ok=True)
            sync_directory(self._layout.instances)

    def check_space(self) -> None:
        """Raise StorageFullError while there is too little room."""
        free = self._free_bytes()
        if free < self._min_free_bytes:
            raise StorageFullError(
                f"{free / 1e9:.1f} GB free in the data folder, {self._min_free_bytes / 1e9:g} GB are to stay free",
                remedy="make room, or lower storage.min_free_gb",
            )

    def begin(self, *, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> IncomingFile:
        """Open a temporary file; its name holds nothing of the sender's."""
        return IncomingFile(
            f"{self._incoming}-{next(self._numbers):x}{_PART}",
            sop_class_uid=sop_class_uid,
            sop_instance_uid=sop_instance_uid,
            transfer_syntax_uid=transfer_syntax_uid,
            check_room=self._check_room,
        )

    def _check_room(self, size: int) -> None:
        """Stop an object that grows past its limit or the disk's, before it has filled the disk for all others."""
        if size > self._max_object_bytes:
            raise OSError(errno.EFBIG, f"over {self._max_object_bytes / 1e9:g} GB, dicom.max_object_gb")
        if self._free_bytes() < self._min_free_bytes:
            raise OSError(errno.ENOSPC, "less than storage.min_free_gb is free")

    def _free_bytes(self) -> int:
        """Free space, looked up again when what is known is old."""
        now, (known_at, free) = time.monotonic(), self._free
        if now - known_at >= _SPACE_SECONDS:
            free = shutil.disk_usage(self._layout.data_dir).free
            self._free = (now, free)
        return free

    def keep(self, incoming: IncomingFile, header: InstanceHeader) -> StoredFile:
        """Sync an instance and give it its final name; keeping the same bytes again changes nothing.

        Raises
        ------
        OSError
            The disk is full or broken; nothing is left under either name.
        """
        stored = self.seal(incoming, header)
        (error,) = self.name_together([(incoming, stored)])
        if error is not None:
            raise error
        return stored

    def seal(self, incoming: IncomingFile, header: InstanceHeader) -> StoredFile:
        """Sync the file of an instance, which has no name yet.

        Raises
        ------
        OSError
            The disk is full or broken; nothing is left.
        """
        try:
            sha256 = incoming.finish()
        except OSError:
            incoming.discard()
            raise
        return StoredFile(
            sha256=sha256, bytes=incoming.size, transfer_syntax_uid=incoming.transfer_syntax_uid, header=header
        )

    def name_together(self, sealed: Sequence[tuple[IncomingFile, StoredFile]]) -> list[OSError | None]:
        """Give sealed files their final names; returns for each what failed. Nothing is left of what did.

        Where a file of the same bytes and length has the name already, that one stays: the ledger knows it by the
        transfer syntax that it came with. Its directory is synced again, since whoever wrote it may have died before.
        """
        names = [self._layout.instance_name(stored.sha256) for _, stored in sealed]
        is_there = [_holds(final, stored.bytes) for final, (_, stored) in zip(names, sealed, strict=True)]
        new = [n for n, there in enumerate(is_there) if not there]
        errors: list[OSError | None] = [None] * len(sealed)
        for n, error in zip(new, publish_together([(sealed[n][0].name, names[n]) for n in new]), strict=True):
            errors[n] = error
        for n, there in enumerate(is_there):
            if there:
                errors[n] = _sync_error(os.path.dirname(names[n]))  # noqa: PTH120 - a text all the way
            if there or errors[n] is not None:
                sealed[n][0].discard()
        return errors

    def missing(self, sha256: str) -> bool:
        """Whether no file holds these bytes."""
        return not os.path.isfile(self._layout.instance_name(sha256))  # noqa: PTH113 - asked at every instance

    def check_kept(self, stored: StoredFile) -> None:
        """Look again after the row is committed: retention may have removed an older file of the same bytes meanwhile.

        Raises
        ------
        StorageFullError
            It has; the sender must send again.
        """
        if self.missing(stored.sha256):
            raise StorageFullError("the file was removed by retention while it came again", remedy="it is sent again")

    def collect_stale(self) -> int:
        """Remove temporary files that no living process can still be writing; returns how many."""
        before, stale = time.time() - _STALE_SECONDS, 0
        for path in self._layout.incoming.glob(f"*{_PART}"):
            with contextlib.suppress(FileNotFoundError):  # another listener starts and collects too
                if path.stat().st_mtime < before:
                    path.unlink()
                    stale += 1
        return stale

    def digests(self) -> Iterator[str]:
        """Digests of all files of the spool, by their names."""
        for path in self._layout.instances.glob("*/*.dcm"):
            yield path.stem

    def read_back(self, sha256: str) -> StoredFile:
        """Read again what the ledger should know of a file.

        Raises
        ------
        RequestorError
            The file is not an instance that could have been accepted.
        """
        path = self._layout.instance(sha256)
        header, transfer_syntax_uid, offset = read_part_ten_header(path)
        size = path.stat().st_size - offset
        return StoredFile(sha256=sha256, bytes=size, transfer_syntax_uid=transfer_syntax_uid, header=header)

    def received_at(self, sha256: str) -> float:
        """When a file was received, seconds since 1970."""
        return self._layout.instance(sha256).stat().st_mtime

    def digest_of(self, sha256: str) -> str:
        """Hash the data set of a file as it lies on disk."""
        path = self._layout.instance(sha256)
        _, _, offset = read_part_ten_header(path)
        digest = hashlib.sha256()
        with path.open("rb") as file:
            file.seek(offset)
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
        return digest.hexdigest()


def _holds(path: str, size: int) -> bool:
    """Whether a file is there whole, by the length of its data set."""
    try:
        length = os.stat(path).st_size  # noqa: PTH116 - asked at every instance
        return length - read_part_ten_header(Path(path))[2] == size
    except (FileNotFoundError, RequestorError):
        return False


def _sync_error(directory: str) -> OSError | None:
    try:
        sync_directory(directory)
    except OSError as error:
        return error
    return None


@functools.lru_cache(maxsize=64)
def _classes(sop_class_uid: str, transfer_syntax_uid: str) -> tuple[bytes, bytes]:
    """Encode what stands before and after the instance UID; it alone differs from object to object."""
    before = struct.pack("<HH2sHL", 2, 0x0001, b"OB", 0, 2) + b"\0\1" + _element(0x0002, b"UI", sop_class_uid)
    after = (
        _element(0x0010, b"UI", transfer_syntax_uid),
        _element(0x0012, b"UI", IMPLEMENTATION_CLASS_UID),
        _element(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME),
    )
    return before, b"".join(after)


def file_meta(sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> bytes:
    """Encode file meta information (PS3.10 Table 7.1-1), always the same for the same UIDs."""
    before, after = _classes(sop_class_uid, transfer_syntax_uid)
    elements = before + _element(0x0003, b"UI", sop_instance_uid) + after
    return struct.pack("<HH2sHL", 2, 0, b"UL", 4, len(elements)) + elements


def _element(number: int, vr: bytes, text: str) -> bytes:
    value = text.encode("ascii")
    value += (b" " if vr == b"SH" else b"\0") * (len(value) % 2)
    return struct.pack("<HH2sH", 2, number, vr, len(value)) + value


def read_part_ten_header(path: Path) -> tuple[InstanceHeader, str, int]:
    """Read header, transfer syntax and where the data set begins, of a Part 10 file of anybody's."""
    with path.open("rb") as file:
        return read_header(file)


def read_file_header(path: Path) -> tuple[InstanceHeader, str]:
    """Read header and transfer syntax of a Part 10 file; its UIDs are checked.

    Raises
    ------
    RequestorError
        It is no DICOM file, or its UIDs are missing or impossible.
    """
    header, transfer_syntax_uid, _ = read_part_ten_header(path)
    checked_uid(header.study_instance_uid, "Study Instance UID")
    return header, transfer_syntax_uid
