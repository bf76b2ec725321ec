"""Pictures go out on two associations where that helps, and nothing changes where it does not."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from agent.deliver import proof, second_lane
from agent.deliver.deliver_result import DeliveryOutcome, deliver_result
from agent.deliver.listing import listed
from agent.deliver.second_lane import Lanes
from agent.domain.results import Delivery, DeliveryState, Proof
from agent.domain.work_item import State
from agent.scu.association import OpenAssociation
from agent.worklist import work_items
from tests.integration.test_deliver_result import data_set
from tests.unit.deliver.outbox_fixture import LOG, OWNER, Desk, make_desk
from tests.unit.deliver.wayward_archive import SCU, WaywardArchive


@pytest.fixture(autouse=True)
def _small_pictures_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(second_lane, "LEAST_BYTES", 1)


@pytest.fixture
def pacs() -> Iterator[WaywardArchive]:
    with WaywardArchive() as archive:
        archive.manners.hang_seconds = 0.05  # as one that has something to do
        yield archive


def deliver(desk: Desk, lanes: Lanes, now: float | None = None) -> DeliveryOutcome:
    clock = time.time if now is None else lambda: now
    if now is not None:
        desk.claim(now)
    return deliver_result(desk.ledger, desk.layout, desk.item, OWNER, SCU, clock, random.Random(1), LOG, lanes=lanes)


def test_two_associations_share_the_work_and_nothing_goes_twice(tmp_path: Path, pacs: WaywardArchive) -> None:
    desk = make_desk(tmp_path, (pacs.name,), objects=8)
    assert deliver(desk, Lanes()).state is State.COMPLETED
    assert pacs.associations == 2
    assert Counter(pacs.received) == Counter(list(desk.encoded))
    assert pacs.received[0] == desk.rows()[0].sop_instance_uid, "the report is under way first"
    assert pacs.stored == {uid: data_set(encoded) for uid, encoded in desk.encoded.items()}


def test_an_archive_that_takes_one_association_gets_all_on_it_and_is_not_asked_again(
    tmp_path: Path, pacs: WaywardArchive
) -> None:
    pacs.manners.most_associations = 1
    lanes = Lanes()
    desk = make_desk(tmp_path, (pacs.name,), objects=6)
    assert deliver(desk, lanes).state is State.COMPLETED
    assert Counter(pacs.received) == Counter(list(desk.encoded))
    rows = desk.rows()
    assert not lanes.worth_it(pacs.archive, rows, {})
    assert {row.attempts for row in rows} == {1}


def test_an_association_that_does_not_come_about_is_not_waited_for(tmp_path: Path, pacs: WaywardArchive) -> None:
    pacs.manners.hang_second_association = 60.0
    desk = make_desk(tmp_path, (pacs.name,), objects=3)
    started = time.monotonic()
    assert deliver(desk, Lanes()).state is State.COMPLETED
    assert time.monotonic() - started < 30
    pacs.manners.hang_second_association = 0.0


def test_an_object_that_makes_the_archive_abort_holds_back_no_other(tmp_path: Path, pacs: WaywardArchive) -> None:
    desk = make_desk(tmp_path, (pacs.name,), objects=6)
    culprit = desk.rows()[-1].sop_instance_uid
    pacs.manners.abort_on = {culprit}
    outcome = deliver(desk, Lanes())
    assert outcome.retry_at is not None
    states = {row.sop_instance_uid: row.state for row in desk.rows()}
    assert states.pop(culprit) is DeliveryState.PENDING
    assert set(states.values()) == {DeliveryState.PROVED}
    pacs.manners.abort_on = set()
    assert deliver(desk, Lanes(), now=outcome.retry_at + 1).state is State.COMPLETED
    assert set(pacs.stored) == set(desk.encoded)


def test_a_work_item_that_is_no_longer_ours_is_given_up(tmp_path: Path, pacs: WaywardArchive) -> None:
    desk = make_desk(tmp_path, (pacs.name,), objects=6)
    work_items.give_back(desk.ledger, desk.item.id, OWNER, now=time.time(), not_before=0.0, error=None)
    assert deliver(desk, Lanes()) == DeliveryOutcome()
    assert pacs.received == []


def seldom(_: OpenAssociation, __: Iterable[Delivery]) -> set[int]:
    return set()


def broken(association: OpenAssociation, _: Iterable[Delivery]) -> set[int]:
    raise association.no_answer("C-FIND")


@pytest.mark.parametrize(("beside", "asked_again"), [(listed, False), (seldom, True), (broken, True)])
def test_what_is_listed_is_asked_beside_the_commitment_and_again_where_that_was_of_no_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, beside: Callable[..., set[int]], asked_again: bool
) -> None:
    asked: list[str] = []

    def on_second(association: OpenAssociation, rows: Iterable[Delivery]) -> set[int]:
        asked.append("second")
        return beside(association, rows)

    def on_first(association: OpenAssociation, rows: Iterable[Delivery]) -> set[int]:
        rows = list(rows)
        asked.extend(["first"] if rows else [])
        return listed(association, rows)

    monkeypatch.setattr(second_lane, "listed", on_second)
    monkeypatch.setattr(proof, "listed", on_first)
    with WaywardArchive(commits=True) as pacs:
        pacs.manners.hang_seconds, pacs.manners.report_after = 0.05, 0.2
        desk = make_desk(tmp_path, (pacs.name,), objects=5)
        outcome = deliver_result(
            desk.ledger, desk.layout, desk.item, OWNER, SCU, time.time, random.Random(1), LOG, commitment_seconds=5.0
        )
    assert outcome.state is State.COMPLETED
    assert {row.proof for row in desk.rows()} == {Proof.STORAGE_COMMITMENT}
    assert asked == (["second", "first"] if asked_again else ["second"])
