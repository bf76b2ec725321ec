"""The chain: appended only, and any change shows."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path
from xml.etree import ElementTree

import pytest

from agent.observe.audit import messages as m
from agent.observe.audit.alerts import Alerts
from agent.observe.audit.syslog import Destination, syslog_message
from agent.observe.audit.trail import AuditTrail


def lines_of(trail: AuditTrail) -> tuple[Path, list[bytes]]:
    (path,) = trail.folder.glob("audit-*.jsonl")
    return path, path.read_bytes().splitlines(keepends=True)


@pytest.fixture
def trail(tmp_path: Path) -> AuditTrail:
    made = AuditTrail(tmp_path / "audit")
    made.append(["<a/>", "<b/>"])
    made.append([])
    made.append([f"<c n='{n}'/>" for n in range(5)])
    return made


def test_kept_in_order(trail: AuditTrail) -> None:
    assert [record.number for record in trail.records()] == [1, 2, 3, 4, 5, 6, 7]
    assert [record.message for record in trail.records(after=5)] == ["<c n='3'/>", "<c n='4'/>"]
    found = trail.verify()
    assert (found.records, found.torn, found.first, found.fault) == (7, 0, 1, None)
    assert lines_of(trail)[0].stat().st_mode & 0o777 == 0o600


def test_nothing_yet(tmp_path: Path) -> None:
    assert AuditTrail(tmp_path / "none").verify().records == 0


@pytest.mark.parametrize("what", ["change", "remove", "swap", "insert", "rewrite one"])
def test_tampering_shows(trail: AuditTrail, what: str) -> None:
    path, lines = lines_of(trail)
    if what == "change":
        lines[2] = lines[2].replace(b"<c", b"<d")
    elif what == "remove":
        del lines[3]
    elif what == "swap":
        lines[3], lines[4] = lines[4], lines[3]
    elif what == "insert":
        lines.insert(3, lines[3])
    else:
        forged = AuditTrail(path.parent.parent / "forged")
        forged.append(["<x/>"])
        entry = json.loads(lines_of(forged)[1][0]) | {"n": 4}
        lines[3] = json.dumps(entry).encode() + b"\n"
    path.write_bytes(b"".join(lines))
    assert trail.verify().fault is not None


def test_every_flipped_byte_of_a_line_shows(trail: AuditTrail) -> None:
    path, lines = lines_of(trail)
    whole, start = path.read_bytes(), len(b"".join(lines[:3]))
    for at in range(start, start + len(lines[3]) - 1):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        found = trail.verify()
        assert found.fault is not None, at


@pytest.mark.parametrize("cut", [1, 2, 40, 150])
def test_torn_by_a_crash(trail: AuditTrail, cut: int) -> None:
    """A line that never became whole stays as it is, and the chain goes on behind it."""
    path, lines = lines_of(trail)
    path.write_bytes(b"".join(lines)[:-cut])
    again = AuditTrail(trail.folder)
    again.append(["<after/>"])
    found = again.verify()
    assert found.fault is None
    assert (found.torn, found.records) == ((0, 8) if cut == 1 else (1, 7))


def test_a_long_file_is_followed_by_another(tmp_path: Path) -> None:
    trail = AuditTrail(tmp_path, most_bytes=1000)
    for n in range(30):
        trail.append([f"<x n='{n}'/>"])
    assert len(list(tmp_path.glob("audit-*"))) > 3
    assert (trail.verify().records, trail.verify().fault) == (30, None)
    assert [record.number for record in trail.records(after=17)] == list(range(18, 31))
    sorted(tmp_path.glob("audit-*"))[0].unlink()  # moved away by the operator
    found = trail.verify()
    assert found.fault is None
    assert found.first > 1
    sorted(tmp_path.glob("audit-*"))[1].unlink()
    assert trail.verify().fault is not None


def _append(folder: Path, name: str) -> None:
    trail = AuditTrail(folder)
    for n in range(40):
        trail.append([f"<{name} n='{n}'/>"])


def test_several_processes_append(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_append, args=(tmp_path, name)) for name in "abc"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    found = AuditTrail(tmp_path).verify()
    assert (found.records, found.fault, found.torn) == (120, None, 0)


EVENT = m.Event(
    id=m.SECURITY_ALERT,
    action="E",
    at=1_700_000_000.5,
    source_id="STEATOSIS",
    participants=(m.Participant(user_id="x", ae_title='A"<>&\x1b[31m', host="10.0.0.1", is_requestor=True),),
    entities=(m.study("1.2", "A&1", {"1.2.3": 4}, note="line\nbreak"), m.patient("P<1>\0")),
)


def test_hostile_text_stays_text() -> None:
    text = m.xml_of(EVENT)
    assert text.isprintable()
    root = ElementTree.fromstring(text)
    participant = root.find("ActiveParticipant")
    assert participant is not None
    assert participant.get("AlternativeUserID") == 'AETITLES=A"<>&?[31m'
    assert [found.get("ParticipantObjectID") for found in root.findall("ParticipantObjectIdentification")] == [
        "1.2",
        "P<1>?",
    ]


def test_order_of_elements() -> None:
    """PS3.15 section A.5.1 fixes it."""
    root = ElementTree.fromstring(m.xml_of(EVENT))
    assert [element.tag for element in root] == [
        "EventIdentification",
        "ActiveParticipant",
        "AuditSourceIdentification",
        "ParticipantObjectIdentification",
        "ParticipantObjectIdentification",
    ]
    assert [element.tag for element in root[3]] == [
        "ParticipantObjectIDTypeCode",
        "ParticipantObjectName",
        "ParticipantObjectDetail",
        "ParticipantObjectDescription",
    ]
    assert root[0].attrib == {
        "EventActionCode": "E",
        "EventDateTime": "2023-11-14T22:13:20.500+00:00",
        "EventOutcomeIndicator": "0",
    }


def test_a_flood_of_alerts_is_one_message() -> None:
    written: list[str] = []
    alerts = Alerts(ae_title="US", site="", append=written.extend, now=lambda: 0.0)
    for n in range(1000):
        alerts.note("CART", "192.0.2.1", "calling AE title not recognised")
        alerts.note(f"A{n}", "192.0.2.2", "called AE title not recognised")
    alerts.write()
    alerts.write()
    assert len(written) == 201
    assert "MTAwMA==" in written[0]  # 1000


def test_alerts_that_cannot_be_written_are_counted_on() -> None:
    def full(_messages: object) -> None:
        raise OSError(28, "No space left on device")

    alerts = Alerts(ae_title="US", site="", append=full, now=lambda: 0.0)
    alerts.note("CART", "h", "c")
    with pytest.raises(OSError):
        alerts.write()
    written: list[str] = []
    alerts.append = written.extend  # type: ignore[assignment]
    alerts.note("CART", "h", "c")
    alerts.write()
    assert "Mg==" in written[0]  # 2


def test_syslog_head() -> None:
    written = syslog_message(m.xml_of(EVENT), "host", 7)
    assert written.startswith(
        b"<85>1 2023-11-14T22:13:20.500+00:00 host steatosis-agent 7 DICOM+RFC3881 - \xef\xbb\xbf<A"
    )
    assert Destination.parse("tls://siem").port == 6514
