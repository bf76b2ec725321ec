"""Writing a file so that it is either whole under its name, or not there at all, also after a power cut.

The order is write, fsync the file, rename, fsync the directory. After a failed fsync Linux may have dropped the
dirty pages, so a file whose sync failed is discarded and never synced again.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

EARLY: Final = 1 << 20
"""The disk begins with a large file after so many bytes each, so that its sync need not wait for all of it."""
_SYNC_FILE_RANGE_WRITE: Final = 2  # sync_file_range(2)


def start_writing(descriptor: int) -> None:
    """Let the disk begin with what a file holds so far. Promises nothing and takes no error away."""
    if _sync_file_range is not None:
        _sync_file_range(descriptor, ctypes.c_int64(0), ctypes.c_int64(0), _SYNC_FILE_RANGE_WRITE)


_sync_file_range = getattr(ctypes.CDLL(None), "sync_file_range", None)  # Linux has it


def sync_directory(directory: Path | str) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(directory: Path) -> None:
    """Make a directory and its missing parents, each durable in its own parent."""
    if directory.is_dir():
        return
    make_directory(directory.parent)
    directory.mkdir(mode=0o700, exist_ok=True)
    sync_directory(directory.parent)


def publish(temporary: Path, final: Path) -> None:
    """Give a file that is already synced its final name, durably."""
    make_directory(final.parent)
    temporary.replace(final)
    sync_directory(final.parent)


def publish_together(pairs: Sequence[tuple[str, str]]) -> list[OSError | None]:
    """Give synced files their final names, each directory synced once after all of them; returns what failed, in order.

    A directory's journal takes as long for one name as for ten. Names are texts here: this is done at every object.
    """
    failed: list[OSError | None] = []
    unsynced: dict[str, OSError | None] = {}
    for temporary, final in pairs:
        try:
            _rename(temporary, final)
        except OSError as error:
            failed.append(error)
        else:
            failed.append(None)
            unsynced[final.rpartition("/")[0]] = None
    for directory in unsynced:
        try:
            sync_directory(directory)
        except OSError as error:
            unsynced[directory] = error
    return [error or unsynced[final.rpartition("/")[0]] for (_, final), error in zip(pairs, failed, strict=True)]


def _rename(temporary: str, final: str) -> None:
    try:
        os.rename(temporary, final)  # noqa: PTH104
    except FileNotFoundError:  # the directory is made when it is needed, where it could not be made before
        make_directory(Path(final).parent)
        os.rename(temporary, final)  # noqa: PTH104


def write_file(final: Path, content: bytes) -> None:
    """Write `content` under its name, durably and all at once.

    Raises
    ------
    OSError
        The disk is full or broken; nothing is left under either name.
    """
    temporary = stage(final, content)
    try:
        publish(temporary, final)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def stage(final: Path, content: bytes, *, sync: bool = True) -> Path:
    """Write `content` beside its final place; returns where it lies, to be published.

    Parameters
    ----------
    sync
        Wait until it is durable but for its name; else the disk only begins with it.

    Raises
    ------
    OSError
        The disk is full or broken; nothing is left.
    """
    make_directory(final.parent)
    temporary = final.with_name(f".{final.name}.{os.getpid()}.part")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        try:
            write_all(descriptor, content)
            os.fsync(descriptor) if sync else start_writing(descriptor)
        finally:
            os.close(descriptor)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def sync_files(paths: Sequence[Path]) -> None:
    """Make files that lie under their names durable, and then their names.

    Raises
    ------
    OSError
        One is missing, or the disk is broken: none of them may be relied on.
    """
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    for directory in dict.fromkeys(path.parent for path in paths):
        sync_directory(directory)


def write_all(descriptor: int, content: bytes) -> None:
    """Write to the end, however much the kernel takes at a time."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
