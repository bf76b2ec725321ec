"""Results told to a real FHIR server and a real MLLP receiver, small ones, through the outbox."""

from __future__ import annotations

import contextlib
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hl7apy.parser import parse_message

from agent.deliver.away import left_alone
from agent.deliver.deliver_result import DeliveryOutcome, deliver_result
from agent.domain.results import DeliveryState, Proof
from agent.domain.work_item import Cause, State, Step
from agent.messaging import fhir_server
from agent.messaging.fhir import FhirProfile
from agent.messaging.fhir_server import FhirServer
from agent.messaging.mllp import Hl7Receiver
from agent.messaging.oru import OruProfile
from agent.tasks.messages import MessageSender
from agent.worklist import replay, work_items
from agent.worklist import tables as t
from tests.support.message_servers import Fhir, Mllp, running
from tests.unit.deliver.outbox_fixture import LOG, OWNER, Desk, make_desk
from tests.unit.deliver.wayward_archive import SCU, WaywardArchive
from tests.unit.report.report_sources import outcome


@pytest.fixture
def fhir() -> Iterator[Fhir]:
    with running(Fhir()) as server:
        yield server


@pytest.fixture
def mllp() -> Iterator[Mllp]:
    with running(Mllp()) as server:
        yield server


def deliver(desk: Desk, *, fhir: str | None = None, mllp: str | None = None, claim: bool = False) -> DeliveryOutcome:
    senders = {}
    if fhir is not None:
        server = FhirServer(base=fhir, profile=FhirProfile(), token="secret")
        senders[fhir] = MessageSender(ledger=desk.ledger, layout=desk.layout, tell=server.tell, proof=Proof.FHIR_READ)
    if mllp is not None:
        receiver = Hl7Receiver(address=mllp, profile=OruProfile(sending_application="STEATOSIS"))
        senders[mllp] = MessageSender(ledger=desk.ledger, layout=desk.layout, tell=receiver.tell, proof=Proof.HL7_ACK)
    later = time.time() + (3600 if claim else 0)  # behind every wait

    def clock() -> float:
        return later

    if claim:
        desk.claim(later)
    return deliver_result(
        desk.ledger, desk.layout, desk.item, OWNER, SCU, clock, random.Random(1), LOG, senders=senders
    )


def desk_for(tmp_path: Path, *destinations: str, **changes: Any) -> Desk:
    return make_desk(tmp_path, destinations, outcome=outcome([("1.2.3.9", 1)]), **changes)


def test_told_once_and_proved_beside_an_archive(tmp_path: Path, fhir: Fhir, mllp: Mllp) -> None:
    with WaywardArchive() as pacs:
        desk = desk_for(tmp_path, pacs.name, fhir.base, mllp.address)
        assert deliver(desk, fhir=fhir.base, mllp=mllp.address).state is State.COMPLETED
        proofs = {row.destination: row.proof for row in desk.rows()}
        assert proofs == {pacs.name: Proof.C_FIND, fhir.base: Proof.FHIR_READ, mllp.address: Proof.HL7_ACK}
        assert len(pacs.stored) == 3
    assert sorted(name.split("/")[0] for name in fhir.kept) == ["DiagnosticReport", "Observation", "Observation"]
    assert fhir.tokens == {"Bearer secret"}
    (text,) = mllp.received
    assert parse_message(text).msh.msh_9.value == "ORU^R01^ORU_R01"
    assert "Test^Delivery" not in json.dumps(fhir.kept), "no name leaves to FHIR"


@pytest.mark.parametrize("says_where", [True, False], ids=["says where it is", "says nothing"])
def test_telling_again_makes_nothing_new(tmp_path: Path, fhir: Fhir, says_where: bool) -> None:
    """A worker that was killed, or cut off, before it could record the answer tells again.

    A server may name what it has already, or leave that out: then it is searched for.
    """
    fhir.says_where = says_where
    desk = desk_for(tmp_path, fhir.base)
    server = FhirServer(base=fhir.base, profile=FhirProfile())
    sender = MessageSender(ledger=desk.ledger, layout=desk.layout, tell=server.tell, proof=Proof.FHIR_READ)
    (row,) = desk.rows()
    first = sender(desk.item, row)
    assert sender(desk.item, row) == first
    assert (fhir.transactions, len(fhir.kept)) == (2, 3)


def test_an_answer_that_nests_without_end_is_tried_again(tmp_path: Path, fhir: Fhir) -> None:
    fhir.body = lambda out: out.write(b"[" * 200_000)
    desk = desk_for(tmp_path, fhir.base)
    assert deliver(desk, fhir=fhir.base).retry_at is not None
    assert "something else than JSON" in (desk.rows()[0].last_error or "")


def test_an_answer_that_trickles_holds_nobody_up(tmp_path: Path, fhir: Fhir, monkeypatch: pytest.MonkeyPatch) -> None:
    def trickle(out: Any) -> None:
        with contextlib.suppress(OSError):
            for _ in range(1000):
                out.write(b" ")
                time.sleep(0.1)

    monkeypatch.setattr(fhir_server, "_WHOLE_SECONDS", 0.5)
    fhir.body = trickle
    desk, began = desk_for(tmp_path, fhir.base), time.monotonic()
    assert deliver(desk, fhir=fhir.base).retry_at is not None
    assert time.monotonic() - began < 50


@pytest.mark.parametrize("status", [503, 429, 500])
def test_a_fault_that_may_pass_is_tried_again(tmp_path: Path, fhir: Fhir, status: int) -> None:
    fhir.answers = [status]
    desk = desk_for(tmp_path, fhir.base)
    assert deliver(desk, fhir=fhir.base).retry_at is not None
    (row,) = desk.rows()
    assert f"POST with {status} (processing)" in (row.last_error or "")
    assert "Test" not in (row.last_error or ""), "the server's text may quote the patient"
    assert deliver(desk, fhir=fhir.base, claim=True).state is State.COMPLETED


YEARS_AGO = "Fri, 01 Jan 2021 {} GMT"


@pytest.mark.parametrize(
    ("headers", "at_least", "at_most"),
    [
        ({"Retry-After": "120"}, 120, 121),
        ({"Retry-After": YEARS_AGO.format("12:02:00"), "Date": YEARS_AGO.format("12:00:00")}, 120, 121),
        ({"Retry-After": YEARS_AGO.format("12:00:00")}, 0, 1),
        ({"Retry-After": "9" * 5000}, 1800, 1801),
        ({"Retry-After": "Fri, 31 Dec 9999 23:59:59 GMT"}, 1800, 1801),
        *(({"Retry-After": odd}, 0, 1) for odd in ("", "-5", "soon", "1.5", "²")),
    ],
)
def test_a_server_that_asks_to_be_left_alone_is(
    tmp_path: Path, fhir: Fhir, headers: dict[str, str], at_least: float, at_most: float
) -> None:
    fhir.answers, fhir.headers = [429], headers
    desk, began = desk_for(tmp_path, fhir.base), time.time()
    waits = (deliver(desk, fhir=fhir.base).retry_at or 0) - began
    assert at_least <= waits < at_most + 5
    assert (fhir.base in left_alone(desk.ledger, began + 10)) == (at_least > 0)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_a_refusal_is_a_dead_letter_that_stops_no_other(tmp_path: Path, fhir: Fhir, mllp: Mllp, status: int) -> None:
    fhir.answers = [status]
    desk = desk_for(tmp_path, fhir.base, mllp.address)
    outcome_ = deliver(desk, fhir=fhir.base, mllp=mllp.address)
    assert outcome_.state is State.CANCELED
    assert (outcome_.reason or "").startswith(f"delivery-failed: {fhir.base}: answered POST with {status}")
    assert [row.state for row in desk.rows()] == [DeliveryState.FAILED, DeliveryState.PROVED]


def test_a_server_that_does_not_keep_what_it_took_is_not_believed(tmp_path: Path, fhir: Fhir) -> None:
    fhir.forgets = True
    desk = desk_for(tmp_path, fhir.base)
    deliver(desk, fhir=fhir.base)
    assert {row.proof for row in desk.rows()} == {None}


@pytest.mark.parametrize("which", ["fhir", "mllp"])
def test_nobody_listens(tmp_path: Path, free_port: Any, which: str) -> None:
    address = f"http://127.0.0.1:{free_port()}" if which == "fhir" else f"mllp://127.0.0.1:{free_port()}"
    desk = desk_for(tmp_path, address)
    assert deliver(desk, **{which: address}).retry_at is not None
    (row,) = desk.rows()
    assert "refused" in (row.last_error or "")
    assert row.state is DeliveryState.PENDING


@pytest.mark.parametrize(
    ("answer", "then"),
    [
        (("AE", "207"), "again"),
        (("AR", ""), "again"),
        (("AE", "204"), "again"),
        (("", ""), "again"),
        (("?", ""), "again"),
        (("AE", ""), "failed"),
        (("AE", "101"), "failed"),
        (("AR", "203"), "failed"),
        (("AE", "205"), "proved"),
        (("CA", ""), "proved"),
    ],
)
def test_acknowledgements(tmp_path: Path, mllp: Mllp, answer: tuple[str, str], then: str) -> None:
    mllp.answers = [answer]
    desk = desk_for(tmp_path, mllp.address)
    deliver(desk, mllp=mllp.address)
    (row,) = desk.rows()
    assert row.state == {"again": "pending", "failed": "failed", "proved": "proved"}[then]
    if then == "again":
        assert deliver(desk, mllp=mllp.address, claim=True).state is State.COMPLETED
        assert mllp.received[0] == mllp.received[1], "the same message, under the same control id"


@pytest.mark.parametrize(("cause", "times"), [(Cause.RETRY, 1), (Cause.REPLAY, 2)])
def test_what_was_acknowledged_is_not_told_again_by_a_retry(
    tmp_path: Path, fhir: Fhir, mllp: Mllp, cause: Cause, times: int
) -> None:
    """Somebody mends the FHIR server and retries its dead letter; the receiver of HL7 v2 had the result all along."""
    fhir.answers = [403]
    desk = desk_for(tmp_path, fhir.base, mllp.address)
    assert deliver(desk, fhir=fhir.base, mllp=mllp.address).state is State.CANCELED
    made = replay.retry(desk.ledger, desk.item, cause=cause, now=time.time())
    with desk.ledger.write() as connection:
        w = t.work_items.c
        connection.execute(sa.update(t.work_items).where(w.id == made).values(step=Step.SCORE))
    item = work_items.claim(desk.ledger, made, OWNER, time.time())
    assert item is not None
    desk.item = item
    assert replay.skip_to_delivery(
        desk.ledger, item, OWNER, destinations=(fhir.base, mllp.address), intact=lambda _: True, now=time.time()
    )
    assert deliver(desk, fhir=fhir.base, mllp=mllp.address, claim=True).state is State.COMPLETED
    assert {row.proof for row in desk.rows()} == {Proof.FHIR_READ, Proof.HL7_ACK}
    assert len(mllp.received) == times


def test_an_address_that_is_no_longer_configured(tmp_path: Path, fhir: Fhir) -> None:
    desk = desk_for(tmp_path, fhir.base)
    assert deliver(desk).state is State.CANCELED
    found = work_items.find(desk.ledger, desk.item.id)
    assert found is not None
    assert "no longer configured" in (found.reason or "")


def test_a_blinded_result_is_told_to_nobody(tmp_path: Path, fhir: Fhir) -> None:
    desk = desk_for(tmp_path, fhir.base, withheld=True)
    assert deliver(desk, fhir=fhir.base).state is State.SCHEDULED
    assert fhir.transactions == 0


def test_probes(fhir: Fhir, mllp: Mllp) -> None:
    assert "4.0.1" in FhirServer(base=fhir.base, profile=FhirProfile()).probe()
    assert Hl7Receiver(address=mllp.address, profile=OruProfile(sending_application="S")).probe() == "connects"


def test_an_error_of_ours_counts_as_an_attempt(tmp_path: Path) -> None:
    def broken(_item: object, _row: object) -> tuple[Proof, str]:
        raise ZeroDivisionError("what nobody foresaw")

    name = "https://fhir.invalid/r4"
    desk = make_desk(tmp_path, (name,), objects=1)
    deliver_result(
        desk.ledger, desk.layout, desk.item, OWNER, SCU, time.time, random.Random(1), LOG, senders={name: broken}
    )
    assert {(row.state, row.attempts, row.last_error) for row in desk.rows()} == {
        (DeliveryState.PENDING, 1, f"sending to {name} fails by an error of ours: ZeroDivisionError")
    }
