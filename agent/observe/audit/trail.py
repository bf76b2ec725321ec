"""The audit trail as kept: lines that are only ever appended, each bound to the one before by its hash.

Whoever changes, removes, inserts or reorders a line breaks the chain from there on. Who may write the folder could
compute a whole new chain, or cut its end off: against that the trail is sent elsewhere as it grows (`audit.syslog`), or
the head that `agent audit verify` prints is noted elsewhere.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.store.durable import make_directory, sync_directory, write_all

_ZERO: Final = "0" * 64
_MOST_BYTES: Final = 1 << 26
_TAIL_BYTES: Final = 1 << 18
_PATTERN: Final = "audit-*.jsonl"


@dataclass(frozen=True, kw_only=True)
class Record:
    """One line."""

    number: int
    previous: str
    sha256: str
    message: str
    """XML of PS3.15 section A.5."""

    @property
    def is_true(self) -> bool:
        """Whether its hash is that of what it says."""
        return self.sha256 == _chained(self.previous, self.number, self.message)

    def line(self) -> bytes:
        """Encode."""
        return (
            json.dumps(
                {"n": self.number, "previous": self.previous, "sha256": self.sha256, "message": self.message}
            ).encode()
            + b"\n"
        )


@dataclass(frozen=True, kw_only=True)
class Verified:
    """What a look over the whole trail found."""

    records: int
    torn: int
    """Lines that a crash left unfinished; the chain goes on after them."""
    first: int
    """Number of the oldest record kept here."""
    head: str
    """Hash of the newest: noted elsewhere, it proves everything before."""
    fault: str | None
    """Where the chain breaks first."""


class AuditTrail:
    """A folder of chained lines; several processes may append.

    Parameters
    ----------
    most_bytes
        A file that is longer is followed by a new one. None is ever removed.
    """

    def __init__(self, folder: Path, most_bytes: int = _MOST_BYTES) -> None:
        self.folder, self._most_bytes = folder, most_bytes

    def append(self, messages: Sequence[str]) -> None:
        """Write messages durably, all or, after a crash, the first of them.

        Raises
        ------
        OSError
            The disk is full or broken; nothing counts as written.
        """
        if not messages:
            return
        make_directory(self.folder)
        with self._locked():
            last, path = self._last()
            following = list(_following(last, messages))
            if path is None or path.stat().st_size > self._most_bytes:
                path = self.folder / f"audit-{following[0].number:012d}.jsonl"
            self._write(path, b"".join(record.line() for record in following))

    def records(self, after: int = 0) -> Iterator[Record]:
        """Yield the records behind a number, oldest first; torn lines are left out."""
        files = self._files()
        begun = [path for path in files if _first_number(path) <= after + 1]
        for path in files[max(0, len(begun) - 1) :]:
            yield from (record for record in _read(path) if record is not None and record.number > after)

    def verify(self) -> Verified:
        """Follow the whole chain."""
        count = torn = first = 0
        last: Record | None = None
        fault: str | None = None
        for path in self._files():
            for record in _read(path):
                if record is None:
                    torn += 1
                    continue
                fault = fault or _fault(last, record, path.name)
                first, count, last = first or record.number, count + 1, record
        return Verified(records=count, torn=torn, first=first, head=last.sha256 if last else _ZERO, fault=fault)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob(_PATTERN))

    def _last(self) -> tuple[Record | None, Path | None]:
        """Find the newest record, and the file to go on with."""
        files = self._files()
        for path in reversed(files):
            found = [record for record in _read(path, tail=True) if record is not None]
            found = found or [record for record in _read(path) if record is not None]
            if found:
                return found[-1], files[-1]
        return None, files[-1] if files else None

    def _write(self, path: Path, lines: bytes) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                lines = b"\n" + lines  # a crash tore the last line: it stays, and the chain goes on behind it
            write_all(descriptor, lines)
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
        if not size:
            sync_directory(self.folder)


def _following(last: Record | None, messages: Sequence[str]) -> Iterator[Record]:
    previous, number = (_ZERO, 0) if last is None else (last.sha256, last.number)
    for message in messages:
        number += 1
        sha256 = _chained(previous, number, message)
        yield Record(number=number, previous=previous, sha256=sha256, message=message)
        previous = sha256


def _chained(previous: str, number: int, message: str) -> str:
    return hashlib.sha256(f"{previous}\n{number}\n{message}".encode()).hexdigest()


def _fault(last: Record | None, record: Record, name: str) -> str | None:
    if not record.is_true:
        return f"record {record.number} in {name} was changed"
    if last is None:
        return None if record.number > 1 or record.previous == _ZERO else f"record 1 in {name} follows something"
    if (record.number, record.previous) != (last.number + 1, last.sha256):
        return f"record {record.number} in {name} does not follow record {last.number}"
    return None


def _first_number(path: Path) -> int:
    return int(path.stem.removeprefix("audit-"))


def _read(path: Path, *, tail: bool = False) -> Iterator[Record | None]:
    """Yield the records of a file, None for a torn line; of its end only where asked."""
    with path.open("rb") as file:
        if tail:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        for line in file:
            yield _parsed(line)


def _parsed(line: bytes) -> Record | None:
    try:
        found = json.loads(line)
        return Record(
            number=int(found["n"]), previous=found["previous"], sha256=found["sha256"], message=found["message"]
        )
    except (ValueError, KeyError, TypeError):
        return None
