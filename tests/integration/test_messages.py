"""Results told to a real FHIR server and a real MLLP receiver, small ones, through the outbox."""

from __future__ import annotations

import json
import random
import socketserver
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hl7apy.parser import parse_message

from agent.deliver.deliver_result import DeliveryOutcome, deliver_result
from agent.domain.results import DeliveryState, Proof
from agent.domain.work_item import State
from agent.messaging.fhir import FhirProfile
from agent.messaging.fhir_server import FhirServer
from agent.messaging.mllp import Hl7Receiver
from agent.messaging.oru import OruProfile
from agent.tasks.messages import MessageSender
from agent.worklist import work_items
from tests.unit.deliver.outbox_fixture import LOG, OWNER, Desk, make_desk
from tests.unit.deliver.wayward_archive import SCU, WaywardArchive
from tests.unit.report.report_sources import outcome

CANARY = "Test^Delivery"


class Fhir(ThreadingHTTPServer):
    """Keeps resources; takes transactions with conditional creates and answers reads, as HAPI and others do."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _FhirHandler)
        self.kept: dict[str, dict[str, Any]] = {}
        self.conditions: dict[str, str] = {}
        self.answers: list[int] = []
        """Statuses to answer transactions with, before they are taken."""
        self.forgets = False
        self.transactions = 0
        self.tokens: set[str | None] = set()

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/fhir"


class _FhirHandler(BaseHTTPRequestHandler):
    server: Fhir

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.transactions += 1
        self.server.tokens.add(self.headers.get("Authorization"))
        status = self.server.answers.pop(0) if self.server.answers else 200
        if status != 200 or self.path != "/fhir":
            issue = {"severity": "error", "code": "processing", "diagnostics": f"no such patient {CANARY}"}
            self._say(status if status != 200 else 404, {"resourceType": "OperationOutcome", "issue": [issue]})
            return
        entries = [self._create(entry) for entry in json.loads(body)["entry"]]
        self._say(200, {"resourceType": "Bundle", "type": "transaction-response", "entry": entries})

    def _create(self, entry: dict[str, Any]) -> dict[str, Any]:
        condition = entry["request"]["url"] + "?" + entry["request"]["ifNoneExist"]
        status = "200 OK"
        if condition not in self.server.conditions:
            name = f"{entry['request']['url']}/{len(self.server.kept) + 1}"
            self.server.conditions[condition], status = name, "201 Created"
            if not self.server.forgets:
                self.server.kept[name] = entry["resource"]
        return {"response": {"status": status, "location": f"{self.server.conditions[condition]}/_history/1"}}

    def do_GET(self) -> None:
        found = self.server.kept.get(self.path.removeprefix("/fhir/"))
        if self.path == "/fhir/metadata":
            found = {"resourceType": "CapabilityStatement", "fhirVersion": "4.0.1"}
        self._say(404 if found is None else 200, found or {"resourceType": "OperationOutcome"})

    def _say(self, status: int, body: dict[str, Any]) -> None:
        encoded = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/fhir+json")
        self.send_header("Content-Length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)

    def log_message(self, *_args: Any) -> None:
        """Be quiet."""


class Mllp(socketserver.ThreadingTCPServer):
    """Reads framed messages, parses them, and acknowledges."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _MllpHandler)
        self.received: list[str] = []
        self.answers: list[tuple[str, str]] = []
        """Acknowledgement code and error condition, before it accepts; "" hangs up, "?" acknowledges another."""

    @property
    def address(self) -> str:
        return f"mllp://127.0.0.1:{self.server_address[1]}"


class _MllpHandler(socketserver.BaseRequestHandler):
    server: Mllp

    def handle(self) -> None:
        received = b""
        while b"\x1c\r" not in received:
            part = self.request.recv(4096)
            if not part:
                return
            received += part
        text = received.strip(b"\x0b\x1c\r").decode() + "\r"
        self.server.received.append(text)
        code, condition = self.server.answers.pop(0) if self.server.answers else ("AA", "")
        if not code:
            return
        about = parse_message(text).msh.msh_10.value if code != "?" else "ANOTHER"
        error = f"ERR|||{condition}^words|E\r" if condition else ""
        ack = f"MSH|^~\\&|RIS|H|STEATOSIS||20260101||ACK^R01|1|P|2.5.1\rMSA|{code.strip('?') or 'AA'}|{about}\r{error}"
        self.request.sendall(b"\x0b" + ack[:30].encode())
        time.sleep(0.02)  # in two pieces, as networks do
        self.request.sendall(ack[30:].encode() + b"\x1c\r")


@pytest.fixture
def fhir() -> Iterator[Fhir]:
    yield from _running(Fhir())


@pytest.fixture
def mllp() -> Iterator[Mllp]:
    yield from _running(Mllp())


def _running(server: Any) -> Iterator[Any]:
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


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


def test_telling_again_makes_nothing_new(tmp_path: Path, fhir: Fhir) -> None:
    """A worker that was killed before it could record the answer tells again."""
    desk = desk_for(tmp_path, fhir.base)
    server = FhirServer(base=fhir.base, profile=FhirProfile())
    sender = MessageSender(ledger=desk.ledger, layout=desk.layout, tell=server.tell, proof=Proof.FHIR_READ)
    (row,) = desk.rows()
    first = sender(desk.item, row)
    assert sender(desk.item, row) == first
    assert (fhir.transactions, len(fhir.kept)) == (2, 3)


@pytest.mark.parametrize("status", [503, 429, 500])
def test_a_fault_that_may_pass_is_tried_again(tmp_path: Path, fhir: Fhir, status: int) -> None:
    fhir.answers = [status]
    desk = desk_for(tmp_path, fhir.base)
    assert deliver(desk, fhir=fhir.base).retry_at is not None
    (row,) = desk.rows()
    assert f"POST with {status} (processing)" in (row.last_error or "")
    assert "Test" not in (row.last_error or ""), "the server's text may quote the patient"
    assert deliver(desk, fhir=fhir.base, claim=True).state is State.COMPLETED


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
