"""Associations that are opened while a report is made serve its delivery, and do no harm where they do not."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.deliver import ahead as module
from agent.deliver import second_lane
from agent.deliver.ahead import Ahead
from agent.deliver.deliver_result import DeliveryOutcome, deliver_result
from agent.deliver.rehearsal import rehearse
from agent.deliver.second_lane import Lanes
from agent.domain.work_item import State
from tests.support.agent_process import wait_until
from tests.unit.deliver.outbox_fixture import LOG, OWNER, Desk, make_desk
from tests.unit.deliver.wayward_archive import SCU, WaywardArchive


@pytest.fixture
def pacs(monkeypatch: pytest.MonkeyPatch) -> Iterator[WaywardArchive]:
    monkeypatch.setattr(second_lane, "LEAST_BYTES", 1)
    with WaywardArchive() as archive:
        yield archive


def deliver(desk: Desk, ahead: Ahead, lanes: Lanes | None = None) -> DeliveryOutcome:
    return deliver_result(
        desk.ledger, desk.layout, desk.item, OWNER, SCU, time.time, random.Random(1), LOG, lanes=lanes, ahead=ahead
    )


def opened(pacs: WaywardArchive, count: int) -> Ahead:
    ahead = Ahead(SCU)
    ahead.request(pacs.archive, count)
    wait_until(lambda: len(pacs.open) == count, 5, "opened ahead", every=0.01)
    time.sleep(0.1)  # the requestor knows of it, too
    return ahead


def test_delivery_takes_what_is_open(tmp_path: Path, pacs: WaywardArchive) -> None:
    desk = make_desk(tmp_path, (pacs.name,), objects=6)
    ahead = opened(pacs, 2)
    assert pacs.received == []
    assert deliver(desk, ahead).state is State.COMPLETED
    assert pacs.associations == 2
    assert Counter(pacs.received) == Counter(list(desk.encoded))


def test_what_is_under_way_is_waited_for(tmp_path: Path, pacs: WaywardArchive) -> None:
    pacs.manners.hang_association = 0.1
    desk = make_desk(tmp_path, (pacs.name,), objects=1)
    ahead = Ahead(SCU)
    ahead.request(pacs.archive, 1)
    ahead.request(pacs.archive, 1)  # no second time
    assert deliver(desk, ahead).state is State.COMPLETED
    assert pacs.associations == 1


def test_an_archive_that_takes_one_association_gets_all_on_it(tmp_path: Path, pacs: WaywardArchive) -> None:
    pacs.manners.most_associations = 1
    desk = make_desk(tmp_path, (pacs.name,), objects=6)
    ahead = Ahead(SCU)
    ahead.request(pacs.archive, 2)
    assert deliver(desk, ahead).state is State.COMPLETED
    assert Counter(pacs.received) == Counter(list(desk.encoded))
    assert {row.attempts for row in desk.rows()} == {1}


def test_one_that_ended_meanwhile_blames_no_object(tmp_path: Path, pacs: WaywardArchive) -> None:
    desk = make_desk(tmp_path, (pacs.name,), objects=3)
    ahead = opened(pacs, 1)
    for association in pacs.open:
        association.abort()
    assert deliver(desk, ahead).state is State.COMPLETED
    assert {row.attempts for row in desk.rows()} == {1}


def test_one_that_ends_at_the_first_object_blames_no_object(
    tmp_path: Path, pacs: WaywardArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = make_desk(tmp_path, (pacs.name,), objects=3)
    ahead = opened(pacs, 1)
    taken = ahead._taken

    def taken_too_late(archive: module.Archive) -> module._Held | None:
        held = taken(archive)
        for association in pacs.open if held is not None else ():
            association.abort()
        return held

    monkeypatch.setattr(ahead, "_taken", taken_too_late)
    assert deliver(desk, ahead, Lanes()).state is State.COMPLETED
    assert {row.attempts for row in desk.rows()} == {1}


def test_one_that_nobody_takes_is_released(pacs: WaywardArchive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_HELD_SECONDS", 0.2)
    ahead = opened(pacs, 2)
    wait_until(lambda: not pacs.open, 5, "released")
    assert pacs.received == []
    ahead.request(pacs.archive, 1)
    wait_until(lambda: pacs.associations == 3, 5, "and requested again")


def test_an_archive_that_is_away_is_told_by_delivery(tmp_path: Path, pacs: WaywardArchive) -> None:
    desk = make_desk(tmp_path, (pacs.name,), objects=1)
    pacs.stop()
    ahead = Ahead(SCU)
    ahead.request(pacs.archive, 2)
    assert deliver(desk, ahead).state is None
    (row,) = desk.rows()
    assert row.last_error is not None
    assert "connect" in row.last_error


def test_a_rehearsal_leaves_nothing_and_calls_nobody(tmp_path: Path, pacs: WaywardArchive) -> None:
    desk = make_desk(tmp_path, (pacs.name,), objects=2)
    before = desk.rows()
    rehearse(desk.ledger, SCU, OWNER, time.time())
    assert desk.rows() == before
    assert pacs.associations == 0
