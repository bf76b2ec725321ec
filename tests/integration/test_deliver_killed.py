"""Killed at every write to the ledger, and run again: each object reaches the archive under its one name."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from agent.deliver.deliver_result import deliver_result
from agent.domain.results import DeliveryState
from agent.domain.work_item import State
from tests.unit.deliver.outbox_fixture import LOG, OWNER, make_desk
from tests.unit.deliver.wayward_archive import SCU, WaywardArchive


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("at", range(1, 13))
def test_killed_at_any_write_and_run_again(tmp_path: Path, at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    writes = 0

    with WaywardArchive() as pacs:
        desk = make_desk(tmp_path, (pacs.name,))
        write = desk.ledger.write

        @contextmanager
        def killing() -> Iterator[sa.Connection]:
            nonlocal writes
            writes += 1
            if writes == at:
                raise Killed
            with write() as connection:
                yield connection

        monkeypatch.setattr(desk.ledger, "write", killing)
        try:
            deliver_result(desk.ledger, desk.layout, desk.item, OWNER, SCU, time.time, random.Random(1), LOG)
        except Killed:
            desk.claim(time.time() + 60)
            outcome = deliver_result(
                desk.ledger, desk.layout, desk.item, OWNER, SCU, lambda: time.time() + 60, random.Random(1), LOG
            )
            assert outcome.state is State.COMPLETED
        assert set(pacs.stored) == set(desk.encoded)
        assert {row.state for row in desk.rows()} == {DeliveryState.PROVED}
        assert len(pacs.received) <= len(desk.encoded) + 1
