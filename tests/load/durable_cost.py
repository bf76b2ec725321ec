"""What a durable file costs on a disk, by recipe, no listener in it: `python -m tests.load.durable_cost FOLDER [SIZE]`.

Prints for 1 and 4 threads the median, lowest and highest wall time an object, and processor time of this process. Files
are emptied and left, not removed: ext4 passes over recently deleted inodes when it makes a file.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import random
import statistics
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections import defaultdict
from pathlib import Path
from typing import Final

_SIZE: Final = int(sys.argv[2]) if len(sys.argv) > 2 else 138_000
_DATA: Final = os.urandom(_SIZE)
_ALIGNED: Final = memoryview(mmap.mmap(-1, _SIZE))
_ALIGNED[:] = _DATA
_BLOCK, _AT_ONCE = 4096, 1 << 19
_OBJECTS, _TURNS, _TOGETHER = 160, 5, 4
_START, _AND_WAIT = 2, 7  # sync_file_range(2)
_libc: Final = ctypes.CDLL(None)


def sync_range(descriptor: int, flags: int) -> None:
    _libc.sync_file_range(descriptor, ctypes.c_int64(0), ctypes.c_int64(0), flags)


def sync_folder(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(descriptor)
    os.close(descriptor)


class Recipe(ABC):
    """A way to keep object number `k`."""

    def __init__(self, home: Path) -> None:
        self.home = home
        for number in range(256):
            (home / f"{number:02x}").mkdir(parents=True)
        (home / "incoming").mkdir()

    def prepare(self, count: int) -> None:  # noqa: B027 - most need nothing
        """What is not timed."""

    @abstractmethod
    def keep(self, k: int) -> None:
        """Write one object."""

    def temporary(self, k: int) -> str:
        return f"{self.home}/incoming/{k}"

    def created(self, k: int) -> int:
        descriptor = os.open(self.temporary(k), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        os.write(descriptor, _DATA)
        return descriptor

    def name(self, k: int, *, sync: bool = True) -> None:
        folder = f"{self.home}/{k * 37 % 256:02x}"
        os.rename(self.temporary(k), f"{folder}/{k}")  # noqa: PTH104 - as the listener does it
        if sync:
            sync_folder(folder)


class NoSync(Recipe):
    """write, rename: nothing is durable"""

    def keep(self, k: int) -> None:
        os.close(self.created(k))
        self.name(k, sync=False)


class FileOnly(Recipe):
    """write, fdatasync, rename: the name is not durable"""

    is_name_synced = False

    def keep(self, k: int) -> None:
        descriptor = self.created(k)
        os.fdatasync(descriptor)
        os.close(descriptor)
        self.name(k, sync=self.is_name_synced)


class Ours(Recipe):
    """the listener's: write, sync_file_range, fdatasync, rename, fsync of the folder"""

    def keep(self, k: int) -> None:
        descriptor = self.created(k)
        sync_range(descriptor, _START)
        os.fdatasync(descriptor)
        os.close(descriptor)
        self.name(k)


class PastTheCache(Recipe):
    """whole blocks past the page cache (O_DIRECT), the rest through it, fdatasync, rename, fsync of the folder"""

    def keep(self, k: int) -> None:
        descriptor = os.open(self.temporary(k), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_DIRECT, 0o600)
        whole = _SIZE - _SIZE % _BLOCK
        for at in range(0, whole, _AT_ONCE):
            os.write(descriptor, _ALIGNED[at : min(at + _AT_ONCE, whole)])
        fcntl.fcntl(descriptor, fcntl.F_SETFL, 0)
        os.write(descriptor, _DATA[whole:])
        os.fdatasync(descriptor)
        os.close(descriptor)
        self.name(k)


class NotEarly(FileOnly):
    """the same without sync_file_range"""

    is_name_synced = True


class Nameless(Recipe):
    """O_TMPFILE, fdatasync, linkat, fsync of the folder"""

    def keep(self, k: int) -> None:
        folder = f"{self.home}/{k * 37 % 256:02x}"
        descriptor = os.open(f"{self.home}/incoming", os.O_WRONLY | os.O_TMPFILE, 0o600)
        os.write(descriptor, _DATA)
        sync_range(descriptor, _START)
        os.fdatasync(descriptor)
        os.link(f"/proc/self/fd/{descriptor}", f"{folder}/{k}", src_dir_fd=descriptor, follow_symlinks=True)
        os.close(descriptor)
        sync_folder(folder)


class RangeOnly(Recipe):
    """data written and awaited by sync_file_range, rename, fsync of the folder: durable by ext4's own order alone"""

    def keep(self, k: int) -> None:
        descriptor = self.created(k)
        sync_range(descriptor, _AND_WAIT)
        os.close(descriptor)
        self.name(k)


class Pool(Recipe):
    """over a file of a pool, whose filling is not timed: write, fdatasync, truncate, rename, fsync of the folder"""

    def prepare(self, count: int) -> None:
        for k in range(count):
            os.close(self.created(k))
        os.sync()

    def keep(self, k: int) -> None:
        descriptor = os.open(self.temporary(k), os.O_WRONLY)
        os.write(descriptor, _DATA)
        os.fdatasync(descriptor)
        os.ftruncate(descriptor, _SIZE - 1)
        os.close(descriptor)
        self.name(k)


class FilledPool(Pool):
    """the same, filling timed, four files at once"""

    def prepare(self, count: int) -> None:
        pass

    def keep(self, k: int) -> None:
        if k % _TOGETHER == 0:
            fresh = [self.created(n) for n in range(k, k + _TOGETHER)]
            for descriptor in fresh:
                sync_range(descriptor, _START)
            for descriptor in fresh:
                os.fdatasync(descriptor)
                os.close(descriptor)
        super().keep(k)


def measure(kind: type[Recipe], home: Path, threads: int) -> tuple[float, float]:
    """Wall and processor time an object, ms."""
    recipe, each = kind(home), _OBJECTS // threads
    recipe.prepare(_OBJECTS)
    os.sync()
    time.sleep(0.2)

    def work(first: int) -> None:
        for k in range(first, first + each):
            recipe.keep(k)

    workers = [threading.Thread(target=work, args=(n * each,)) for n in range(threads)]
    wall, processor = time.perf_counter(), time.process_time()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    for path in home.rglob("*"):
        if path.is_file():
            os.truncate(path, 0)
    return wall / _OBJECTS * 1000, processor / _OBJECTS * 1000


def main() -> None:
    kinds = (NoSync, FileOnly, Ours, PastTheCache, NotEarly, Nameless, RangeOnly, Pool, FilledPool)
    taken: dict[tuple[int, type[Recipe]], list[tuple[float, float]]] = defaultdict(list)
    for turn in range(_TURNS):
        for threads in (1, 4):
            for kind in random.Random(turn).sample(kinds, len(kinds)):
                home = Path(sys.argv[1]) / f"{kind.__name__}-{time.time_ns()}"
                taken[threads, kind].append(measure(kind, home, threads))
    for (threads, kind), found in sorted(taken.items(), key=lambda item: (item[0][0], kinds.index(item[0][1]))):
        walls, median = [wall for wall, _ in found], statistics.median(wall for wall, _ in found)
        processor = statistics.median(own for _, own in found)
        spread = f"{min(walls):.2f}-{max(walls):.2f}"
        print(f"{threads} | {median:.2f} ms ({spread}) | processor {processor:.2f} | {kind.__doc__}")


if __name__ == "__main__":
    main()
