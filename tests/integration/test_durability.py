"""What survives: the n-th call fails, the power goes at any point, the disk fills, histories at random."""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import random
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from agent.receive.rebuild import rebuild
from agent.store.instance_files import InstanceFiles
from agent.store.layout import Layout
from agent.worklist import tables as t
from agent.worklist.grouping import GroupBy
from agent.worklist.ledger import Driver, Ledger
from tests.unit.receive.reception import (
    STUDY,
    Hand,
    Reception,
    encoded,
    instance,
    pdu,
    store_command,
    value,
    wait_for,
)

_CALLS = ("open", "writev", "fdatasync", "fsync", "close", "rename", "commit")


def digest(number: int, size: int = 64) -> str:
    return hashlib.sha256(encoded(instance(number, size=size))).hexdigest()


def uid_of(number: int) -> bytes:
    return f"{STUDY}.{number}".encode()


# 2. The n-th call fails


class Failing:
    """Counts calls of one kind on behalf of an instance, and makes one of them fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, reception: Reception, call: str, nth: int, error: int) -> None:
        self.nth, self.error, self.calls = nth, error, 0
        self._main = threading.current_thread()
        self._folder = str(reception.layout.data_dir)
        if call == "commit":
            self._fail_commits(monkeypatch)
        else:
            monkeypatch.setattr(os, call, self._wrapped(getattr(os, call)))

    def _fail_commits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real = Ledger._commit

        def commit(ledger: Ledger, driver: Driver) -> None:
            if self._counted():
                raise ledger._writer.dialect.loaded_dbapi.OperationalError(os.strerror(self.error))
            real(ledger, driver)

        monkeypatch.setattr(Ledger, "_commit", commit)

    def _wrapped(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(first: Any, *rest: Any, **more: Any) -> Any:
            if not self._is_ours(first) or not self._counted():
                return real(first, *rest, **more)
            if self.error == 0:  # a short write
                return real(first, [rest[0][0][: max(1, len(rest[0][0]) // 2)]])
            if real is os.close or real.__name__ == "close":
                real(first)  # Linux gives the descriptor back whatever close answers
            raise OSError(self.error, os.strerror(self.error))

        call.__name__ = real.__name__
        return call

    def _is_ours(self, what: Any) -> bool:
        if threading.current_thread() is self._main:
            return False
        if isinstance(what, int):
            try:
                what = Path(f"/proc/self/fd/{what}").readlink()
            except OSError:
                return False
        return any(room in str(what) for room in (f"{self._folder}/incoming", f"{self._folder}/instances"))

    def _counted(self) -> bool:
        if threading.current_thread() is self._main:
            return False
        self.calls += 1
        return self.calls == self.nth


_FAULTS = [
    (call, error)
    for call in _CALLS
    for error in ((0, errno.EIO, errno.ENOSPC, errno.EDQUOT) if call == "writev" else (errno.EIO, errno.ENOSPC))
]


@pytest.mark.parametrize("path", ["fast", "stock"])
@pytest.mark.parametrize(
    ("call", "error"), _FAULTS, ids=lambda v: errno.errorcode.get(v, str(v)) if isinstance(v, int) else v
)
@pytest.mark.parametrize("size", [9000, 900_000], ids=["small", "large"])
def test_the_nth_call_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, error: int, path: str, size: int
) -> None:
    """Every call on the way of an object in its turn: Success means durable, anything else leaves nothing behind."""
    with Reception(tmp_path, receive_path=path) as reception, Hand.associated(reception.port) as hand:
        assert hand.store(store_command(uid_of(9999)), encoded(instance(9999))) == 0  # makes what is made once
        for nth in itertools.count(1):
            with monkeypatch.context() as patch:
                failing = Failing(patch, reception, call, nth, error)
                status = hand.store(store_command(uid_of(nth)), encoded(instance(nth, size=size)))
            rows = {row.sha256 for row in reception.rows(t.instances)}
            name = digest(nth, size)
            assert reception.temporaries() == []
            if status == 0:
                assert name in rows
                assert reception.files.digest_of(name) == name
            else:
                assert status & 0xFF00 in (0xA700, 0x0100)
                assert name not in rows
                assert hand.store(store_command(uid_of(nth)), encoded(instance(nth, size=size))) == 0
                assert reception.files.digest_of(name) == name
            if failing.calls < nth:
                break
        assert nth > 1, "no call was ever met"


# 3. Crash states, in the manner of ALICE


@dataclass
class Tape:
    """What was asked of the file system, in order, and what was acknowledged meanwhile."""

    operations: list[tuple[str, str, Any]] = field(default_factory=list)

    def record(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        real_open, real_write, real_rename = os.open, os.writev, os.rename

        def named(descriptor: int) -> Path:
            return Path(f"/proc/self/fd/{descriptor}").readlink()

        def inside(path: Any) -> bool:
            return str(path).startswith((str(folder / "incoming"), str(folder / "instances")))

        def opened(path: Any, flags: int, mode: int = 0o777, **more: Any) -> int:
            descriptor = real_open(path, flags, mode, **more)
            if inside(path) and flags & os.O_CREAT:
                self.operations.append(("create", str(path), None))
            return descriptor

        def written(descriptor: int, parts: Any) -> int:
            count = real_write(descriptor, parts)
            if inside(path := named(descriptor)):
                self.operations.append(("write", str(path), b"".join(parts)[:count]))
            return count

        def syncing(real: Callable[[int], None]) -> Callable[[int], None]:
            def synced(descriptor: int) -> None:
                path = named(descriptor)
                real(descriptor)
                if inside(path):
                    self.operations.append(("sync folder" if path.is_dir() else "sync", str(path), None))

            return synced

        def renamed(path: Any, target: Any) -> None:
            real_rename(path, target)
            if inside(path):
                self.operations.append(("rename", str(path), str(target)))

        monkeypatch.setattr(os, "open", opened)
        monkeypatch.setattr(os, "writev", written)
        monkeypatch.setattr(os, "fsync", syncing(os.fsync))
        monkeypatch.setattr(os, "fdatasync", syncing(os.fdatasync))
        monkeypatch.setattr(os, "rename", renamed)

    def crash(self, stop: int, rng: random.Random) -> tuple[dict[str, bytes], list[str]]:
        """Say what a disk may hold if the power goes after `stop` operations: what was synced, and any of the rest."""
        content: dict[str, bytes] = {}
        firm: dict[str, bytes] = {}
        names: dict[str, str] = {}  # durable names, to the file first created under a name
        loose: dict[str, dict[str, str | None]] = {}
        identity: dict[str, str] = {}
        acknowledged = []
        for kind, path, more in self.operations[:stop]:
            folder = str(Path(path).parent)
            if kind == "create":
                identity[path] = path
                content[path] = b""
                loose.setdefault(folder, {})[path] = path
            elif kind == "write":
                content[identity[path]] += more
            elif kind == "sync":
                firm[identity[path]] = content[identity[path]]
            elif kind == "rename":
                identity[more] = identity.pop(path)
                loose.setdefault(folder, {})[path] = None
                loose.setdefault(str(Path(more).parent), {})[more] = identity[more]
            elif kind == "sync folder":
                for name, file in loose.pop(path, {}).items():
                    names[name] = file  # type: ignore[assignment]
            else:
                acknowledged.append(path)
        for changes in loose.values():
            for name, file in changes.items():
                if rng.random() < 0.5:
                    names[name] = file  # type: ignore[assignment]
        return {name: self._bytes(file, content, firm, rng) for name, file in names.items() if file}, acknowledged

    @staticmethod
    def _bytes(file: str, content: dict[str, bytes], firm: dict[str, bytes], rng: random.Random) -> bytes:
        """What is synced stays; what came after may be there, in part, or as zeros."""
        kept, rest = firm.get(file, b""), content[file][len(firm.get(file, b"")) :]
        part = rest[: rng.randrange(len(rest) + 1)]
        return kept + rng.choice((b"", part, rest, bytes(len(rest))))


def test_power_goes_at_any_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite may lose its last commits (synchronous NORMAL), and files what was not synced."""
    tape = Tape()
    with Reception(tmp_path / "first") as reception, monkeypatch.context() as patch:
        tape.record(patch, reception.layout.data_dir)
        with Hand.associated(reception.port) as hand:
            for number, size in ((1, 3000), (2, 3000), (1, 3000), (3, 3000), (5, 400_000)):
                data = encoded(instance(number, size=size))
                assert hand.store(store_command(uid_of(number)), data) == 0
                tape.operations.append(("acknowledge", digest(number, size), None))
            hand.send(pdu(4, value(store_command(uid_of(4)), command=True)), pdu(4, value(bytes(500), last=False)))
            wait_for(reception.temporaries)
    prefix, rng, states = str(tmp_path / "first"), random.Random(7), 0
    for stop in range(len(tape.operations) + 1):
        for _ in range(6):
            files, acknowledged = tape.crash(stop, rng)
            home = tmp_path / f"after-{states}"
            _recover(home, {name.replace(prefix, str(home)): data for name, data in files.items()}, acknowledged)
            shutil.rmtree(home)
            states += 1
    assert states > 100


def _recover(home: Path, files: dict[str, bytes], acknowledged: list[str]) -> None:
    """Start on what the disk holds, with a ledger that lost everything."""
    layout = Layout(home)
    for folder in (layout.incoming, layout.instances):
        folder.mkdir(parents=True)
    for name, data in files.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(data)
        os.utime(name, (1, 1))
    ledger, spool = Ledger.in_folder(layout.ledger), InstanceFiles(layout, 0)
    with ledger.write() as connection:
        t.metadata.create_all(connection)
    rebuild(ledger, spool, group_by=GroupBy.STUDY, now=2e9)
    with ledger.read() as connection:
        rows = {row.sha256 for row in connection.execute(t.instances.select())}
    ledger.close()
    for name in acknowledged:
        assert spool.digest_of(name) == name
        assert name in rows
    for name in spool.digests():
        assert spool.digest_of(name) == name, "a half-written file under a final name"


# 5. A full disk


@pytest.fixture(params=["size=3m", "nr_inodes=340"])
def small_disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A file system of its own, with few bytes or few files."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", request.param, "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a small file system")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("path", ["fast", "stock"])
def test_disk_full_in_mid_object(small_disk: Path, path: str) -> None:
    """A700, earlier objects intact, and it recovers by itself when space returns, on the same association."""
    with Reception(small_disk, receive_path=path) as reception, Hand.associated(reception.port) as hand:
        kept, status, number = [], 0, 0
        ballast = small_disk / "ballast"
        while status == 0:
            number += 1
            status = hand.store(store_command(uid_of(number)), encoded(instance(number, size=60_000)))
            if status == 0:
                kept.append(number)
            if number == 5 and small_disk.stat().st_dev:
                _fill(ballast)
        assert status == 0xA700
        assert len(kept) >= 5
        assert reception.temporaries() == []
        assert all(reception.files.digest_of(digest(n, 60_000)) == digest(n, 60_000) for n in kept)
        _empty(ballast)
        assert hand.store(store_command(uid_of(number)), encoded(instance(number, size=60_000))) == 0
        assert {row.sha256 for row in reception.rows(t.instances)} == {digest(n, 60_000) for n in [*kept, number]}


def _fill(folder: Path) -> None:
    """Leave room for some files and bytes, but not for many."""
    folder.mkdir()
    free = os.statvfs(folder)
    (folder / "bytes").write_bytes(
        bytes(max(0, free.f_bavail * free.f_frsize - 400_000) if free.f_bavail < 10_000 else 0)
    )
    for number in range(max(0, os.statvfs(folder).f_favail - 8) if free.f_favail < 1000 else 0):
        (folder / str(number)).touch()


def _empty(folder: Path) -> None:
    shutil.rmtree(folder)


# 6. Histories at random


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("path", ["fast", "stock"])
def test_random_history(tmp_path: Path, seed: int, path: str) -> None:
    """Sends, repeats, other bytes under a UID, aborts, and restarts: acknowledged is a part of durable, unchanged."""
    rng, acknowledged = random.Random(seed), dict[str, bytes]()
    for _ in range(4):
        with Reception(tmp_path, receive_path=path) as reception:
            for _ in range(8):
                _act(rng, reception, acknowledged)
            wait_for(lambda: not reception.temporaries())
            rows = {row.sha256: row for row in reception.rows(t.instances)}
            first = {row.sop_instance_uid: row.sha256 for row in rows.values() if not row.conflict}
            assert set(acknowledged) == set(rows)
            assert len(first) == len({row.sop_instance_uid for row in rows.values()}), "one version is scored"
            for name, data in acknowledged.items():
                assert reception.layout.instance(name).read_bytes().endswith(data)
                assert reception.files.digest_of(name) == name


def _act(rng: random.Random, reception: Reception, acknowledged: dict[str, bytes]) -> None:
    number = rng.randint(1, 6)
    data = encoded(instance(number, size=rng.choice((10, 2000, 70_000)), Rows=rng.randint(1, 2)))
    kind = rng.choice(("store", "store", "again", "abort", "close"))
    with Hand.associated(reception.port) as hand:
        if kind in ("store", "again"):
            for _ in range(2 if kind == "again" else 1):
                assert hand.store(store_command(uid_of(number)), data) == 0
            acknowledged[hashlib.sha256(data).hexdigest()] = data
            return
        hand.send(pdu(4, value(store_command(uid_of(number)), command=True)))
        hand.send(pdu(4, value(data[: rng.randrange(1, min(len(data), 60_000))], last=False)))
        if kind == "abort":
            hand.send(pdu(7, bytes(4)))
