"""A marked patient goes every way through a real agent, the bad ones too; then everything is searched for the marks.

They may be found in DICOM objects, in the ledger and the audit trail (id and accession number alone), and on pages that
asked for the token (accession number alone): nowhere else, and not in any other shape.
"""

from __future__ import annotations

import base64
import contextlib
import gc
import gzip
import json
import re
import signal
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import redis
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pynetdicom import AE, evt
from pynetdicom.sop_class import ComprehensiveSRStorage

from agent.demo.patients import SyntheticStudy
from agent.serve.composition.broker import broker_url
from agent.serve.composition.tracing import is_installed
from tests.support.agent_process import AgentProcess, wait_until
from tests.support.collector import Collector
from tests.support.many_studies import another
from tests.support.message_servers import running
from tests.unit.deliver.wayward_archive import Manners, WaywardArchive
from training.phantom import render_negative

pytestmark = [
    pytest.mark.acceptance,
    # pynetdicom leaves the socket of a connection that was refused or cut to the garbage collector
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),  # pydicom's, of the odd values that we make here
]

TOKEN = "of-the-canary-test-alone"
MARKS = {
    "name": re.compile(rb"qanary|wrenqx", re.IGNORECASE),
    "id": re.compile(rb"QID[-_ ]?7731[-_ ]?Z", re.IGNORECASE),
    "birth": re.compile(rb"1951[-/. ]?09[-/. ]?13|13[-/. ]09[-/. ]1951|13 sep\w* 1951", re.IGNORECASE),
    "accession": re.compile(rb"QACC[-_ ]?4242", re.IGNORECASE),
}
_ENCODED = re.compile(rb"[A-Za-z0-9+/]{12,}")
LEDGER = {"id", "accession"}
"""What the ledger and the audit trail are allowed, and need: they are asked about patients by these two."""
ENDED = ("COMPLETED", "CANCELED")


TRACED = is_installed()


class Gossip(WaywardArchive):
    """Says in its Error Comment (0000,0902) whom it refused, as some do."""

    def _on_store(self, event: evt.Event) -> Any:
        status = super()._on_store(event)
        if status == 0:
            return status
        told = Dataset()
        told.Status, told.ErrorComment = status, "QANARY^WRENQX QID-7731-Z 19510913 QACC4242"
        return told


def marks_in(content: bytes) -> set[str]:
    """Which marks are in a content, as it is, base64-encoded within it, or in UTF-16."""
    shapes = [content, content.replace(b"\0", b"")]
    encoded = (part + b"=" * (-len(part) % 4) for part in _ENCODED.findall(content)[:5000] if len(part) % 4 != 1)
    shapes.append(b"\n".join(map(base64.b64decode, encoded)))
    if content[:2] == b"\x1f\x8b":
        shapes.append(gzip.decompress(content))
    return {name for name, mark in MARKS.items() for shape in shapes if mark.search(shape)}


def marked(study: SyntheticStudy, name: str, *, views: int = 1, **elements: Any) -> tuple[str, list[Dataset]]:
    """Give a study its own identity and the marked patient."""
    uid, instances = another(study.instances, name, views=views)
    raw = elements.pop("raw", {})
    for ds in instances:
        ds.PatientName, ds.PatientID, ds.PatientBirthDate = "QANARY^WRENQX", "QID-7731-Z", "19510913"
        ds.AccessionNumber, ds.ReferringPhysicianName = "QACC4242", "QANARY^REFERRER"
        ds.OtherPatientIDs = "QID7731Z"
        for keyword, value in elements.items():
            setattr(ds, keyword, value)
        for keyword, value in raw.items():
            tag = Tag(keyword)
            ds[tag] = RawDataElement(tag, dictionary_VR(tag), len(value), value, 0, False, True)
    return uid, instances


def push(agent: AgentProcess, instances: list[Dataset]) -> list[int | None]:
    """Store instances over one association; returns the status of each, None where there was no answer."""
    ae = AE(ae_title="CAGED-US")
    for ds in instances:
        ae.add_requested_context(ds.SOPClassUID, ds.file_meta.TransferSyntaxUID)
    association = ae.associate("127.0.0.1", agent.dicom_port, ae_title="STEATOSIS")
    assert association.is_established
    try:
        return [association.send_c_store(ds).get("Status") for ds in instances]
    finally:
        association.release()


def fetch(agent: AgentProcess, place: str, *, token: bool, data: bytes | None = None) -> tuple[int, bytes]:
    """GET or POST; returns status, and body with headers."""
    headers = {"Authorization": f"Bearer {TOKEN}"} if token else {}
    request = urllib.request.Request(f"http://127.0.0.1:{agent.web_port}{place}", data=data, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read() + str(answer.headers).encode() + answer.url.encode()
    except urllib.error.HTTPError as error:
        return error.code, error.read() + str(error.headers).encode()


@pytest.fixture
def pacs() -> Iterator[Gossip]:
    with Gossip() as archive:
        yield archive
    gc.collect()


@pytest.fixture
def collector() -> Iterator[Collector]:
    with running(Collector()) as server:
        yield server


@pytest.fixture
def agent(tmp_path: Path, free_port: Callable[[], int], pacs: Gossip, collector: Collector) -> Iterator[AgentProcess]:
    settings = {"AGENT_TRACING__OTLP": collector.endpoint} if TRACED else {}
    settings |= {
        "AGENT_RESULTS__DESTINATIONS": json.dumps([pacs.name]),
        "AGENT_ARCHIVE__QUERY": pacs.name,
        "AGENT_WEB__TOKEN": TOKEN,
        "AGENT_STUDY__QUIET_SECONDS": "1",
    }
    process = AgentProcess(tmp_path / "agent", dicom_port=free_port(), web_port=free_port(), settings=settings)
    process.token = TOKEN
    yield process
    if process.process is not None and process.process.poll() is None:
        process.kill()


class Search:
    """Where which marks were found."""

    def __init__(self) -> None:
        self.found: dict[str, set[str]] = {}

    def look(self, place: str, content: bytes | str) -> None:
        self.found.setdefault(place, set()).update(marks_in(content.encode() if isinstance(content, str) else content))

    def look_at_broker(self, agent: AgentProcess) -> None:
        """Every key and value: wake-ups lie there for moments only, so this is asked again and again."""
        url = broker_url(agent.home / "var/broker")
        try:
            with redis.Redis.from_url(url.replace("redis+socket", "unix")) as client:
                for key in client.keys("*"):
                    self.look("broker", key + b" " + (client.dump(key) or b""))
                for client_of in client.client_list():
                    self.look("broker", json.dumps(client_of))
        except redis.RedisError:
            self.found.setdefault("broker", set())

    def look_at_processes(self, agent: AgentProcess) -> None:
        assert agent.process is not None
        supervisor = psutil.Process(agent.process.pid)
        for process in (supervisor, *supervisor.children(recursive=True)):
            try:
                self.look("command lines", json.dumps([process.cmdline(), process.environ()]))
            except psutil.Error:
                continue

    def look_at_files(self, home: Path) -> None:
        for path in sorted(home.rglob("*")):
            if path.is_file():
                self.look(_kind_of(path.relative_to(home)), str(path.relative_to(home)).encode() + path.read_bytes())


def _kind_of(path: Path) -> str:
    parts = path.parts
    if path.suffix == ".dcm" and parts[1] in ("instances", "results"):
        return "DICOM objects"
    if parts[0] == "var" and parts[1].startswith("ledger.sqlite"):
        return "ledger"
    return "log" if path.suffix == ".log" else parts[1] if parts[0] == "var" and len(parts) > 2 else str(path)


def odd_studies(study: SyntheticStudy) -> dict[str, tuple[str, list[Dataset]]]:
    """What scanners get wrong, each with the marked patient."""
    broken = marked(study, "undecodable")
    broken[1][0].PixelData = b"QANARY^WRENQX QID-7731-Z" + b"\0" * 40
    other = marked(study, "not-liver")
    pixels = render_negative("photograph", np.random.default_rng(1), rows=other[1][0].Rows, columns=other[1][0].Columns)
    other[1][0].PixelData = pixels.tobytes()
    held = marked(study, "held", views=2)
    held[1][1].PatientID = "QID-7731-Z-OTHER"
    report = marked(study, "report", Modality="SR", SOPClassUID=ComprehensiveSRStorage)
    report[1][0].file_meta.MediaStorageSOPClassUID = ComprehensiveSRStorage
    return {
        "undecodable": broken,
        "not liver": other,
        "held": held,
        "no image": report,
        "impossible values": marked(
            study,
            "impossible",
            raw={
                "PatientBirthDate": b"19510913 QANARY",
                "PatientSize": b"QANARY",
                "PatientAge": b"QANARY",
                "PatientSex": b"QANARY^WRENQX ",
                "SpecificCharacterSet": b"QANARY",
                "PatientName": b"QANARY^WREN\xff\xfeQX ",
                "InstanceNumber": b"QANARY",
            },
        ),
        "endless name": marked(study, "endless", PatientName="QANARY^WRENQX" * 50, AccessionNumber="QACC4242" * 9),
    }


def crash(agent: AgentProcess, name: str, number: int) -> None:
    """Send a signal to one child of `serve`."""
    assert agent.process is not None
    for child in psutil.Process(agent.process.pid).children():
        with contextlib.suppress(psutil.Error):  # some that were killed before are not collected yet
            if name in child.cmdline():
                child.send_signal(number)


def all_ended(agent: AgentProcess, studies: list[str]) -> bool:
    states = {uid: (agent.get(f"/api/studies/{uid}") or {}) for uid in studies}
    return all(one.get("state") in ENDED or "held" in str(one.get("reason")) for one in states.values())


def go_every_way(agent: AgentProcess, pacs: Gossip, study: SyntheticStudy, search: Search) -> dict[str, str]:
    """Send what is good, odd, refused and broken, kill processes, annoy the page; returns the studies by name."""
    good, odd = marked(study, "good", views=3), odd_studies(study)
    studies = {"good": good[0]} | {name: uid for name, (uid, _) in odd.items()}
    assert push(agent, good[1]) == [0, 0, 0]
    for name, (_, instances) in odd.items():
        assert set(push(agent, instances)) == {0}, name
    search.look_at_broker(agent)

    # refused at the door: a UID that is none, an association cut in the middle
    refused = marked(study, "refused")[1]
    refused[0].SOPInstanceUID = refused[0].file_meta.MediaStorageSOPInstanceUID = "QID-7731-Z.19510913"
    assert push(agent, refused) != [0]

    wait_until(lambda: all_ended(agent, list(studies.values())), 120, f"all ended; see {agent.log}", every=0.5)

    # an archive that gossips; a report that it refuses for good; crashes on the way
    gone = marked(study, "files gone")
    studies["files gone"] = gone[0]
    pacs.manners = Manners(store_status=0xC000)
    assert push(agent, gone[1]) == [0]
    digest = agent.get(f"/api/studies/{gone[0]}")["instances"][0]["sha256"]
    (agent.home / f"var/instances/{digest[:2]}/{digest}.dcm").write_bytes(b"DICM QANARY^WRENQX QID-7731-Z")
    crashed = marked(study, "crashed", views=2)
    studies["crashed"] = crashed[0]
    assert push(agent, crashed[1]) == [0, 0]
    time.sleep(1.0)
    for name, number in (("score", signal.SIGSEGV), ("deliver", signal.SIGABRT), ("listener-1", signal.SIGKILL)):
        crash(agent, name, number)
        search.look_at_broker(agent)
    wait_until(lambda: agent.get("/readyz"), 60, "ready again")
    time.sleep(3.0)
    pacs.manners = Manners()
    search.look_at_processes(agent)
    wait_until(lambda: all_ended(agent, list(studies.values())), 120, f"all ended; see {agent.log}", every=0.5)
    return studies


def look_at_commands(agent: AgentProcess, studies: dict[str, str], folder: Path, search: Search) -> None:
    """Every command, on studies, on files, and used wrongly."""
    one = studies["good"]
    (folder / "broken.dcm").write_bytes(b"\0" * 128 + b"DICM QANARY^WRENQX QID-7731-Z 19510913")
    for arguments in (
        *(("show", studies[name], "--json") for name in ("good", "held", "files gone", "impossible values")),
        ("show", one), ("worklist",), ("doctor", "--deep"), ("reconcile",), ("replay", one, "--wait"),
        ("replay", one, "--from", "archive", "--wait"), ("retry", "--state", "failed"), ("cancel", one),
        ("score", str(folder / "broken.dcm")), ("score", str(agent.home / "var/instances"), "--json"), ("conformance",),
        ("audit", "verify"),
    ):  # fmt: skip
        done = agent.run(*arguments, check=False)
        search.look("commands", done.stdout + done.stderr)
        assert "Traceback" not in done.stderr, arguments


def look_at_pages(agent: AgentProcess, studies: dict[str, str], search: Search) -> None:
    """Every address, with the token and without, and with words of the patient in the question."""
    pages = ["/", "/api/worklist", *(f"/studies/{uid}" for uid in studies.values())]
    pages += [f"/api/studies/{uid}" for uid in studies.values()]
    pages += [f"/studies/{studies['good']}/{name}" for name in ("replay", "retry", "cancel")]
    pictures = [f"/studies/{studies['good']}/views/1/{name}.png" for name in ("source", "overlay")]
    for place in pages:
        search.look("pages with the token", fetch(agent, place, token=True)[1])
        search.look("pages without", fetch(agent, place, token=False)[1])
    for place in pictures:
        search.look("pictures of views", fetch(agent, place, token=True)[1])
    for place in ("/metrics", "/readyz", "/healthz"):
        status, body = fetch(agent, place, token=True)
        assert status in (200, 503)
        search.look("metrics and health", body)
        search.look("pages without", fetch(agent, place, token=False)[1])
    for words in ("QID-7731-Z", "QACC4242"):
        place = "/?" + urllib.parse.urlencode({"q": words})
        search.look("pages without", fetch(agent, place, token=False)[1])
        assert fetch(agent, place, token=True)[0] == 200
    assert b"QID" not in fetch(agent, "/?q=QID-7731-Z", token=True)[1], "an id that was typed turns into its hash"
    wrong = fetch(agent, f"/studies/{studies['good']}/cancel", token=True, data=b"form=QID-7731-Z")
    search.look("pages with the token", wrong[1])
    search.look("pages with the token", fetch(agent, "/studies/1.2.3.4/none", token=True)[1])


def test_marks_are_found_where_they_are() -> None:
    """The search itself: a mark in every shape that it knows."""
    for shape in (
        b"QANARY^WRENQX",
        b"wrenqx, qanary",
        "QANARY".encode("utf-16-le"),
        base64.b64encode(b"of QANARY^WRENQX"),
    ):
        assert marks_in(b"..." + shape + b"...") == {"name"}
    assert marks_in(b"1951-09-13 QID7731Z qacc 4242") == {"birth", "id", "accession"}
    assert marks_in(b"nothing of anybody") == set()


def test_the_marked_patient_is_found_nowhere_else(
    agent: AgentProcess, pacs: Gossip, study: SyntheticStudy, tmp_path: Path, collector: Collector
) -> None:
    agent.start()
    search = Search()
    studies = go_every_way(agent, pacs, study, search)
    outcomes = {name: agent.get(f"/api/studies/{uid}") for name, uid in studies.items()}
    assert outcomes["good"]["state"] == "COMPLETED"
    assert {name: one["reason"] for name, one in outcomes.items() if name in ("not liver", "no image", "held")} == {
        "not liver": "not-liver", "no image": "no-ultrasound-image", "held": "held:patient-id-differs-within-study",
    }  # fmt: skip
    assert outcomes["undecodable"]["reason"] in ("undecodable", "no-usable-view")
    look_at_pages(agent, studies, search)
    look_at_commands(agent, studies, tmp_path, search)
    search.look_at_broker(agent)
    wait_until(lambda: collector.bodies or not TRACED, 30, "a trace")
    agent.stop()
    for body in collector.bodies:
        search.look("traces", body)
        assert not any(uid.encode() in body for uid in studies.values()), "nor any UID"
    told = agent.log.read_text()
    assert all(f'"event": "{event}"' in told for event in ("scored", "reported", "step failed")), (
        "the workers' lines, too"
    )
    search.look_at_files(agent.home)
    for content in pacs.stored.values():
        search.look("what the archive got", content)

    allowed = {
        "DICOM objects": set(MARKS), "what the archive got": set(MARKS), "ledger": LEDGER, "audit": LEDGER,
        "pages with the token": {"accession"},
    }  # fmt: skip
    print(json.dumps({place: sorted(marks) for place, marks in sorted(search.found.items())}, indent=1))
    assert search.found == {place: allowed.get(place, set()) for place in search.found}
    assert {"log", "commands", "broker", "command lines", "metrics and health", "pages without"} <= set(search.found)
