"""Writing past the page cache, and all the ways in which a file system does without."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.store.direct import BLOCK, LEAST_BYTES, Stages, Writing
from agent.store.incoming_file import IncomingFile

SIZES = [0, 1, BLOCK, LEAST_BYTES - 1, LEAST_BYTES, LEAST_BYTES + 1, 700_000, 3 * (1 << 20) + 7]
_FLAGS = {"sop_class_uid": "1.2", "sop_instance_uid": "1.2.3", "transfer_syntax_uid": "1.2.840.10008.1.2.1"}


def content_of(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def written(path: Path, content: bytes, cuts: list[int], stages: Stages | None = None) -> list[bool]:
    """Write `content` in one call for each cut; returns whether it was direct after each."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    writing, was_direct = Writing(descriptor, Stages() if stages is None else stages), []
    for start, end in zip([0, *cuts], [*cuts, len(content)], strict=True):
        writing.write([content[start : (start + end) // 2], memoryview(content)[(start + end) // 2 : end]])
        was_direct.append(writing.is_direct)
    writing.end()
    os.close(descriptor)
    return was_direct


def takes_direct(folder: Path) -> bool:
    descriptor = os.open(folder / "probe", os.O_WRONLY | os.O_CREAT)
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETFL, os.O_DIRECT)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("cut", [[], [300_000], [1 << 19, 1 << 20], [1000]], ids=str)
def test_every_byte_in_its_place(tmp_path: Path, size: int, cut: list[int]) -> None:
    content, cuts = content_of(size), [at for at in cut if at < size]
    was_direct = written(tmp_path / "file", content, cuts)
    assert (tmp_path / "file").read_bytes() == content
    first = cuts[0] if cuts else size
    assert was_direct[0] == (first >= LEAST_BYTES and takes_direct(tmp_path))


def test_a_file_system_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(_descriptor: int, command: int, flag: int) -> None:
        assert (command, flag) == (fcntl.F_SETFL, os.O_DIRECT)
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(fcntl, "fcntl", refuses)
    content = content_of(2_000_001)
    assert written(tmp_path / "file", content, [700_000]) == [False, False]
    assert (tmp_path / "file").read_bytes() == content


def misbehaving(monkeypatch: pytest.MonkeyPatch, nth: int, what: Callable[[Any, int, Any], int]) -> None:
    """Let the n-th write past the page cache be what the kernel may make of it."""
    real, calls = os.writev, [0]

    def writev(descriptor: int, parts: Any) -> int:
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_DIRECT:
            calls[0] += 1
            if calls[0] == nth:
                return what(real, descriptor, parts)
        return real(descriptor, parts)

    monkeypatch.setattr(os, "writev", writev)


def _refused(_real: Any, _descriptor: int, _parts: Any) -> int:
    raise OSError(errno.EINVAL, "Invalid argument")


def _short(real: Any, descriptor: int, parts: Any) -> int:
    return int(real(descriptor, [parts[0][: 3 * BLOCK]]))


def _short_of_a_block(real: Any, descriptor: int, parts: Any) -> int:
    return int(real(descriptor, [parts[0][: BLOCK + 512]]))


@pytest.mark.parametrize("nth", [1, 2, 3])
@pytest.mark.parametrize("what", [_refused, _short, _short_of_a_block])
def test_what_the_disk_may_make_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nth: int, what: Callable[[Any, int, Any], int]
) -> None:
    """Blocks of another size than ours, and writes that end before their end: nothing is lost, nothing moves."""
    misbehaving(monkeypatch, nth, what)
    content = content_of(2_000_001)
    was_direct = written(tmp_path / "file", content, [500_003, 1_000_000, 1_500_000])
    assert (tmp_path / "file").read_bytes() == content
    if what is not _short and takes_direct(tmp_path):
        assert was_direct == [n < nth for n in range(1, 5)]


def test_a_full_disk_is_told_and_the_stage_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int, _parts: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    stages = Stages()
    with stages.lend() as stage:
        assert len(stage) % BLOCK == 0
    monkeypatch.setattr(os, "writev", full)
    with pytest.raises(OSError, match="No space"):
        written(tmp_path / "file", content_of(1_000_000), [], stages)
    with stages.lend() as again:
        assert again is stage


def test_nobody_closes_what_another_thread_writes_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection may end while its data set is written; the descriptor's number would be another file's at once."""
    real_write, real_close = os.writev, os.close
    writes, goes_on, order = threading.Event(), threading.Event(), []

    def slowly(descriptor: int, parts: Any) -> int:
        writes.set()
        goes_on.wait(10)
        order.append("written")
        return real_write(descriptor, parts)

    def closed(descriptor: int) -> None:
        order.append("closed")
        real_close(descriptor)

    incoming = IncomingFile(str(tmp_path / "file"), **_FLAGS, stages=Stages())
    monkeypatch.setattr(os, "writev", slowly)
    monkeypatch.setattr(os, "close", closed)
    incoming.write_borrowed(memoryview(content_of(1_000_000)))
    sender = threading.Thread(target=incoming.settle, args=(None,))
    sender.start()
    assert writes.wait(10)
    ended = threading.Thread(target=incoming.discard)
    ended.start()
    ended.join(0.2)
    goes_on.set()
    sender.join()
    ended.join()
    assert order.index("closed") > order.index("written")
    assert order.count("closed") == 1
    assert list(tmp_path.iterdir()) == []
