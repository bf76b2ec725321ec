from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.deliver.deliver_result import DeliveryOutcome, deliver_result
from agent.deliver.storage_scu import ScuConfig
from agent.domain.results import DeliveryState, Proof
from agent.domain.work_item import State
from agent.worklist import tables as t
from agent.worklist import work_items
from tests.peers.orthanc import Orthanc
from tests.support.ports import free_port
from tests.unit.deliver.outbox_fixture import LOG, OWNER, Desk, make_desk
from tests.unit.deliver.own_listener import listening

pytestmark = pytest.mark.peers
SCU = ScuConfig(ae_title="STEATOSIS")


OUR_PORT = free_port()


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    modalities = {"STEATOSIS": ("127.0.0.1", OUR_PORT)}
    with Orthanc(tmp_path_factory.mktemp("peer"), modalities) as server:
        yield server


@pytest.fixture(autouse=True)
def _empty(orthanc: Orthanc) -> None:
    orthanc.delete_all()


def deliver(desk: Desk, *, commitment_seconds: float = 0.0) -> DeliveryOutcome:
    return deliver_result(
        desk.ledger,
        desk.layout,
        desk.item,
        OWNER,
        SCU,
        time.time,
        random.SystemRandom(),
        LOG,
        commitment_seconds=commitment_seconds,
    )


def deliver_until_done(desk: Desk, seconds: float) -> DeliveryOutcome:
    """Take the work item up again whenever it is due, as a worker does."""
    outcome, end = deliver(desk, commitment_seconds=seconds), time.monotonic() + 30
    while outcome.state is None:
        assert time.monotonic() < end
        time.sleep(0.1)
        if work_items.due(desk.ledger, time.time(), patience=0):
            desk.claim()
            outcome = deliver(desk, commitment_seconds=seconds)
    return outcome


def data_set(encoded: bytes) -> bytes:
    length = int.from_bytes(encoded[140:144], "little")  # (0002,0000)
    return encoded[144 + length :]


def reopened(desk: Desk) -> None:
    """As a replay would: look first, send what is missing."""
    with desk.ledger.write() as connection:
        connection.execute(t.outbox.update().values(state="pending", proof=None, look_first=True))
        connection.execute(t.work_items.update().values(state="IN PROGRESS", lease_owner=OWNER))


def test_delivered_proved_and_delivered_again_byte_for_byte(tmp_path: Path, orthanc: Orthanc) -> None:
    desk = make_desk(tmp_path, (orthanc.archive,), odd=False)  # Orthanc itself writes undefined lengths anew
    expected = {uid: data_set(encoded) for uid, encoded in desk.encoded.items()}
    assert deliver(desk).state is State.COMPLETED
    assert {(row.state, row.proof) for row in desk.rows()} == {(DeliveryState.PROVED, Proof.C_FIND)}
    assert {uid: data_set(file) for uid, file in orthanc.files().items()} == expected

    orthanc.delete_all()
    reopened(desk)
    assert deliver(desk).state is State.COMPLETED
    assert {uid: data_set(file) for uid, file in orthanc.files().items()} == expected

    reopened(desk)
    assert deliver(desk).state is State.COMPLETED
    assert len(orthanc.instance_ids()) == len(expected)


def test_orthanc_away_then_back(tmp_path: Path, orthanc: Orthanc) -> None:
    desk = make_desk(tmp_path, (orthanc.archive,))
    orthanc.stop()
    try:
        outcome = deliver(desk)
        assert outcome.retry_at is not None
        assert {row.last_error for row in desk.rows()} == {f"connection refused by {orthanc.archive}"}
    finally:
        orthanc.start()
    time.sleep(max(0.0, outcome.retry_at - time.time()))
    desk.claim()
    assert deliver(desk).state is State.COMPLETED


def test_orthanc_rejects_the_ae_title_that_we_call(tmp_path: Path, orthanc: Orthanc) -> None:
    desk = make_desk(tmp_path, (orthanc.archive.replace("ORTHANC@", "SOMEONE@"),))
    outcome = deliver(desk)
    assert outcome.state is State.CANCELED
    assert "called AE title not recognised" in (outcome.reason or "")


def test_orthanc_commits(tmp_path: Path, orthanc: Orthanc) -> None:
    desk = make_desk(tmp_path, (orthanc.archive,))
    with listening(desk, OUR_PORT):
        assert deliver_until_done(desk, 20.0).state is State.COMPLETED
    assert {(row.state, row.proof) for row in desk.rows()} == {(DeliveryState.PROVED, Proof.STORAGE_COMMITMENT)}


def test_orthanc_that_cannot_reach_us_is_asked_by_c_find(tmp_path: Path, orthanc: Orthanc) -> None:
    desk = make_desk(tmp_path, (orthanc.archive,))
    assert deliver_until_done(desk, 1.0).state is State.COMPLETED
    assert {row.proof for row in desk.rows()} == {Proof.C_FIND}


def test_what_orthanc_lost_it_does_not_commit_to(tmp_path: Path, orthanc: Orthanc) -> None:
    """C-FIND finds nothing, so the objects are sent again under their old UIDs, and asked for anew."""
    desk = make_desk(tmp_path, (orthanc.archive,))
    with listening(desk, OUR_PORT):
        assert deliver_until_done(desk, 20.0).state is State.COMPLETED
        orthanc.delete_all()
        reopened(desk)
        assert deliver_until_done(desk, 20.0).state is State.COMPLETED
    assert set(orthanc.files()) == set(desk.encoded)
    assert {row.proof for row in desk.rows()} == {Proof.STORAGE_COMMITMENT}
