"""Killed at every write to the ledger, and run again: each object reaches the archive under its one name."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from agent.deliver.deliver_result import DeliveryOutcome, deliver_result
from agent.domain.results import DeliveryState
from agent.domain.work_item import State
from tests.unit.deliver.outbox_fixture import LOG, OWNER, Desk, make_desk
from tests.unit.deliver.wayward_archive import SCU, WaywardArchive


class Killed(BaseException):
    """The process ends here."""


def deliver(desk: Desk, later: float, commitment_seconds: float) -> DeliveryOutcome:
    return deliver_result(
        desk.ledger,
        desk.layout,
        desk.item,
        OWNER,
        SCU,
        lambda: time.time() + later,
        random.SystemRandom(),
        LOG,
        commitment_seconds=commitment_seconds,
    )


@pytest.mark.parametrize("commits", [False, True])
@pytest.mark.parametrize("at", range(1, 14))
def test_killed_at_any_write_and_run_again(
    tmp_path: Path, at: int, commits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes, seconds = 0, 2.0 if commits else 0.0

    with WaywardArchive(commits=commits) as pacs:
        desk = make_desk(tmp_path, (pacs.name,))
        write = desk.ledger.write

        @contextmanager
        def killing() -> Iterator[sa.Connection]:
            nonlocal writes
            writes += threading.current_thread().name.startswith(("ThreadPool", "Main"))  # reports come on others
            if writes == at:
                raise Killed
            with write() as connection:
                yield connection

        monkeypatch.setattr(desk.ledger, "write", killing)
        try:
            deliver(desk, 0, seconds)
        except Killed:
            desk.claim(time.time() + 60)
            assert deliver(desk, 60, seconds).state is State.COMPLETED
        assert set(pacs.stored) == set(desk.encoded)
        assert {row.state for row in desk.rows()} == {DeliveryState.PROVED}
        assert len(pacs.received) <= len(desk.encoded) + 1
