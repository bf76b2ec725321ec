"""Instance files: encoded data sets exactly as received, named by digest, each a Part 10 file of our own making."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import math
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from agent.domain.errors import RequestorError, StorageFullError
from agent.domain.study import InstanceHeader, StoredFile
from agent.store.durable import publish_together, sync_directory
from agent.store.incoming_file import IncomingFile
from agent.store.layout import Layout
from agent.store.part_ten import read_part_ten_header

_PART: Final = ".part"
_INSTANCE: Final = ".dcm"
_STALE_SECONDS: Final = 3600.0
_CHUNK: Final = 1 << 20
_SPACE_SECONDS: Final = 0.02
"""For so long the free space is believed: at 3 GB/s that is 60 MB."""


def in_gigabytes(free_bytes: float) -> str:
    """Write bytes as GB, rounded down to two places: what lies below a limit must not read as the limit itself."""
    return f"{math.floor(free_bytes / 1e7) / 100:g} GB"


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
            there = set(os.listdir(self._layout.instances))  # noqa: PTH208 - names are all that is asked for
            for name in map("{:02x}".format, range(256)):
                if name not in there:
                    (self._layout.instances / name).mkdir(mode=0o700, exist_ok=True)
            sync_directory(self._layout.instances)  # in any case: whoever made them may have died before it

    def check_space(self) -> None:
        """Raise StorageFullError while there is too little room."""
        free = self._free_bytes()
        if free < self._min_free_bytes:
            raise StorageFullError(
                f"{in_gigabytes(free)} free in the data folder, {self._min_free_bytes / 1e9:g} GB are to stay free",
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

    def digests(self, unlisted: Callable[[Path, OSError], None] | None = None) -> Iterator[str]:
        """Digests of all files of the spool, by their names.

        Parameters
        ----------
        unlisted
            Is told of each folder that cannot be read; None: that raises OSError.
        """

        def names_in(folder: Path) -> list[str]:
            try:
                return os.listdir(folder)  # noqa: PTH208 - names are all that is asked for
            except NotADirectoryError:
                return []
            except OSError as error:
                if unlisted is None:
                    raise
                unlisted(folder, error)
                return []

        for folder in names_in(self._layout.instances):
            names = names_in(self._layout.instances / folder)
            yield from (name.removesuffix(_INSTANCE) for name in names if name.endswith(_INSTANCE))

    def path_of(self, sha256: str) -> Path:
        """Where the file of a digest lies."""
        return self._layout.instance(sha256)

    def read_back(self, sha256: str) -> StoredFile:
        """Read again what the ledger should know of a file.

        Raises
        ------
        RequestorError
            The file is not an instance that could have been accepted.
        OSError
            It cannot be read.
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
