"""Storage commitment: asked for where it is offered, believed where C-FIND does not contradict it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind

from agent.deliver.deliver_result import DeliveryOutcome, deliver_result
from agent.deliver.parking import Parking
from agent.domain.results import DeliveryState, Proof
from agent.domain.work_item import State
from agent.worklist import commitments, work_items
from tests.unit.deliver.outbox_fixture import LOG, OWNER, Desk, make_desk
from tests.unit.deliver.own_listener import listening
from tests.unit.deliver.wayward_archive import SCU, WaywardArchive

SECONDS = 10.0
RANDOM = random.Random(1)


def deliver(desk: Desk, now: float | None = None) -> DeliveryOutcome:
    """Deliver until every report has come: a busy machine may take longer for one than a step waits."""
    outcome = deliver_once(desk, now)
    while any(row.state is DeliveryState.SENT for row in desk.rows()):
        eventually(lambda: all(row.not_before == 0 for row in desk.rows() if row.state is DeliveryState.SENT))
        outcome = deliver_once(desk, max(time.time(), now or 0.0) + 60)
    return outcome


def deliver_once(desk: Desk, now: float | None = None, *, parking: Parking | None = None) -> DeliveryOutcome:
    clock = time.time if now is None else lambda: now
    if now is not None:
        desk.claim(now)
    return deliver_result(
        desk.ledger,
        desk.layout,
        desk.item,
        OWNER,
        SCU,
        clock,
        RANDOM,
        LOG,
        commitment_seconds=SECONDS,
        parking=parking,
    )


def proofs(desk: Desk) -> set[tuple[DeliveryState, Proof | None]]:
    return {(row.state, row.proof) for row in desk.rows()}


def eventually(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_reported_on_the_same_association(tmp_path: Path) -> None:
    with WaywardArchive(commits=True) as pacs:
        desk = make_desk(tmp_path, (pacs.name,))
        assert deliver(desk).state is State.COMPLETED
    assert proofs(desk) == {(DeliveryState.PROVED, Proof.STORAGE_COMMITMENT)}
    assert pacs.report_answers == [0]
    ((_, asked),) = pacs.asked
    assert set(asked) == set(desk.encoded)


def test_reported_on_an_association_of_its_own_to_a_listener(tmp_path: Path, free_port: Callable[[], int]) -> None:
    with WaywardArchive(commits=True) as pacs:
        desk = make_desk(tmp_path, (pacs.name,))
        pacs.manners.report_to = free_port()
        with listening(desk, pacs.manners.report_to):
            assert deliver(desk).state is State.COMPLETED
    assert proofs(desk) == {(DeliveryState.PROVED, Proof.STORAGE_COMMITMENT)}
    assert pacs.report_answers == [0]


@pytest.mark.parametrize("to_listener", [False, True])
def test_a_late_report_has_the_work_taken_up_again(
    tmp_path: Path, free_port: Callable[[], int], to_listener: bool
) -> None:
    with WaywardArchive(commits=True) as pacs:
        desk = make_desk(tmp_path, (pacs.name,))
        port = free_port()
        pacs.manners.report_to = port if to_listener else None
        pacs.manners.report_after = 0.9
        with listening(desk, port):
            outcome = deliver_once(desk, parking=Parking())
            assert outcome.state is None
            assert work_items.due(desk.ledger, time.time(), patience=5) == [], "it waits for the report"
            eventually(lambda: work_items.due(desk.ledger, time.time(), patience=0))
            assert outcome.retry_at is not None
            assert time.time() < outcome.retry_at, "sooner than C-FIND would have been asked"
        assert deliver(desk, now=time.time()).state is State.COMPLETED
    assert proofs(desk) == {(DeliveryState.PROVED, Proof.STORAGE_COMMITMENT)}
    assert len(pacs.received) == len(desk.encoded)


def test_without_a_report_c_find_proves(tmp_path: Path) -> None:
    with WaywardArchive(commits=True) as pacs:
        pacs.manners.report_after = None
        desk = make_desk(tmp_path, (pacs.name,))
        outcome = deliver_once(desk)
        assert proofs(desk) == {(DeliveryState.SENT, None)}
        assert outcome.retry_at is not None
        assert deliver_once(desk, now=outcome.retry_at + 0.01).state is State.COMPLETED
    assert proofs(desk) == {(DeliveryState.PROVED, Proof.C_FIND)}
    assert (len(pacs.asked), len(pacs.received)) == (1, len(desk.encoded))


def test_an_archive_that_claims_what_it_does_not_list_is_not_believed(tmp_path: Path) -> None:
    with WaywardArchive(commits=True) as pacs:
        pacs.manners.lies = True
        desk = make_desk(tmp_path, (pacs.name,))
        outcome = deliver(desk)
        for _ in range(5):
            assert outcome.state is None
            assert all("committed to store the object, but does not list it" in row.last_error for row in desk.rows())
            outcome = deliver(desk, now=outcome.retry_at + 0.01)
        pacs.manners.lies = False
        assert deliver(desk, now=outcome.retry_at + 0.01).state is State.COMPLETED
    assert set(pacs.stored) == set(desk.encoded)


def test_an_archive_that_claims_for_ever_ends_as_a_dead_letter(tmp_path: Path) -> None:
    with WaywardArchive(commits=True) as pacs:
        pacs.manners.lies = True
        desk = make_desk(tmp_path, (pacs.name,), objects=1)
        outcome, rounds = deliver(desk), 1
        while outcome.state is None:
            assert outcome.retry_at is not None
            late = outcome.retry_at + 0.01 + (3 * 86_400 if rounds == 12 else 0)
            outcome, rounds = deliver(desk, now=late), rounds + 1
    assert outcome.state is State.CANCELED
    assert "given up after 3.0 days: the archive committed to store the object, but does not list" in outcome.reason


def test_an_archive_that_stores_nothing_and_says_so_gets_it_again(tmp_path: Path) -> None:
    with WaywardArchive(commits=True) as pacs:
        pacs.manners.lies = True
        desk = make_desk(tmp_path, (pacs.name,))
        pacs.manners.denials = dict.fromkeys(desk.encoded, 0x0112)
        outcome = deliver(desk)
        assert outcome.state is None
        causes = {row.last_error for row in desk.rows()}
        assert causes == {"the archive does not commit to store the object: 0112 no such object instance"}
        pacs.manners.lies, pacs.manners.denials = False, {}
        assert deliver(desk, now=outcome.retry_at + 0.01).state is State.COMPLETED
    assert len(pacs.received) == 2 * len(desk.encoded)


@pytest.mark.parametrize(
    ("reason", "state", "proof"),
    [
        (0x0110, DeliveryState.PENDING, None),
        (0x0119, DeliveryState.FAILED, None),
        (0x0122, DeliveryState.PROVED, Proof.C_FIND),
        (0x0131, DeliveryState.PENDING, None),
        (0x0213, DeliveryState.PENDING, None),
        (0x0999, DeliveryState.PENDING, None),
    ],
)
def test_each_failure_reason(tmp_path: Path, reason: int, state: DeliveryState, proof: Proof | None) -> None:
    with WaywardArchive(commits=True) as pacs:
        desk = make_desk(tmp_path, (pacs.name,))
        denied = desk.rows()[0]
        pacs.manners.denials = {denied.sop_instance_uid: reason}
        outcome = deliver(desk)
        first, *rest = desk.rows()
        assert (first.state, first.proof) == (state, proof)
        assert {row.proof for row in rest} == {Proof.STORAGE_COMMITMENT}
        if state is DeliveryState.PENDING:
            pacs.manners.denials = {}
            assert deliver(desk, now=outcome.retry_at + 0.01).state is State.COMPLETED
            assert pacs.asked[0][0] != pacs.asked[1][0]
            assert len(pacs.received) == len(desk.encoded), "it has the object: nothing is sent anew"


def test_without_c_find_commitment_proves(tmp_path: Path) -> None:
    with WaywardArchive(commits=True, refused=(StudyRootQueryRetrieveInformationModelFind,)) as pacs:
        desk = make_desk(tmp_path, (pacs.name,))
        assert deliver(desk).state is State.COMPLETED
    assert proofs(desk) == {(DeliveryState.PROVED, Proof.STORAGE_COMMITMENT)}


def test_without_c_find_and_without_a_report_nothing_is_proved(tmp_path: Path) -> None:
    with WaywardArchive(commits=True, refused=(StudyRootQueryRetrieveInformationModelFind,)) as pacs:
        pacs.manners.report_after = None
        desk = make_desk(tmp_path, (pacs.name,), objects=1)
        outcome = deliver_once(desk)
        outcome = deliver_once(desk, now=outcome.retry_at + 0.01)
        assert "accepts no C-FIND" in (desk.rows()[0].last_error or "")
        pacs.manners.report_after = 0.0
        assert deliver(desk, now=outcome.retry_at + 0.01).state is State.COMPLETED


@pytest.mark.parametrize("status", [0x0110, 0x0122, 0x0124])
def test_a_refused_request_leaves_it_to_c_find(tmp_path: Path, status: int) -> None:
    with WaywardArchive(commits=True) as pacs:
        pacs.manners.action_status = status
        desk = make_desk(tmp_path, (pacs.name,))
        assert deliver(desk).state is State.COMPLETED
    assert proofs(desk) == {(DeliveryState.PROVED, Proof.C_FIND)}


def test_an_archive_that_aborts_on_the_request_is_not_asked_again(tmp_path: Path) -> None:
    with WaywardArchive(commits=True) as pacs:
        pacs.manners.abort_on_action = True
        desk = make_desk(tmp_path, (pacs.name,))
        outcome = deliver_once(desk)
        assert "on N-ACTION" in (desk.rows()[0].last_error or "")
        assert deliver_once(desk, now=outcome.retry_at + 0.01).state is State.COMPLETED
    assert proofs(desk) == {(DeliveryState.PROVED, Proof.C_FIND)}
    assert (len(pacs.asked), len(pacs.received)) == (1, len(desk.encoded))


def test_a_report_that_nobody_asked_for_changes_nothing(tmp_path: Path) -> None:
    with WaywardArchive() as pacs:
        desk = make_desk(tmp_path, (pacs.name,))
        before = desk.rows()
        assert not commitments.record(desk.ledger, "2.25.1", committed=set(desk.encoded), failed={}, now=time.time())
        assert desk.rows() == before


def test_a_report_after_the_proof_changes_nothing(tmp_path: Path) -> None:
    with WaywardArchive(commits=True) as pacs:
        pacs.manners.report_after = None
        desk = make_desk(tmp_path, (pacs.name,))
        outcome = deliver_once(desk)
        deliver_once(desk, now=outcome.retry_at + 0.01)
    before = desk.rows()
    assert commitments.record(desk.ledger, pacs.asked[0][0], committed=(), failed={}, now=time.time())
    denied = dict.fromkeys(desk.encoded, 0x0112)
    assert commitments.record(desk.ledger, pacs.asked[0][0], committed=(), failed=denied, now=time.time())
    assert desk.rows() == before


def test_one_association_at_a_time_with_an_archive(tmp_path: Path) -> None:
    with WaywardArchive(commits=True) as pacs:
        pacs.manners.report_after = None
        parking = Parking()
        first = make_desk(tmp_path / "1", (pacs.name,), objects=1)
        second = make_desk(tmp_path / "2", (pacs.name,), objects=1)
        deliver_once(first, parking=parking)
        assert len(pacs.open) == 1
        deliver_once(second, parking=parking)
        eventually(lambda: len(pacs.open) == 1)
        parking.leave(pacs.archive)
        eventually(lambda: not pacs.open)
