"""What a worker does besides its steps goes on whatever happens."""

from __future__ import annotations

import threading

import pytest
import structlog

from agent.domain.errors import LedgerError
from agent.serve import worker


@pytest.mark.parametrize("fault", [LedgerError("away"), OSError(5, "I/O error"), ValueError("odd"), TimeoutError()])
def test_no_fault_ends_what_is_done_again_and_again(monkeypatch: pytest.MonkeyPatch, fault: Exception) -> None:
    monkeypatch.setattr(worker, "_AFTER_FAULT_SECONDS", 0.01)
    done, stop, times = threading.Event(), threading.Event(), list[int]()

    def duty() -> None:
        times.append(1)
        if len(times) < 3:
            raise fault
        done.set()

    worker._every(0.01, duty, stop, structlog.get_logger())
    assert done.wait(5.0), f"ended by its first {type(fault).__name__}"
    stop.set()
