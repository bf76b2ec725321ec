"""A data set on its way to disk, and who may touch its descriptor."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest

from agent.store.incoming_file import IncomingFile

_FLAGS = {"sop_class_uid": "1.2", "sop_instance_uid": "1.2.3", "transfer_syntax_uid": "1.2.840.10008.1.2.1"}


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

    incoming = IncomingFile(str(tmp_path / "file"), **_FLAGS)
    monkeypatch.setattr(os, "writev", slowly)
    monkeypatch.setattr(os, "close", closed)
    incoming.write_borrowed(memoryview(bytes(1_000_000)))
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
