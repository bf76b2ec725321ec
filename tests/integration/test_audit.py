"""What associations, results and refusals leave in the audit trail, and where it goes."""

from __future__ import annotations

import shutil
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from sqlalchemy import insert, update

from agent.domain.errors import SettingsError
from agent.domain.results import DeliveryState
from agent.observe.audit import syslog
from agent.observe.audit.alerts import Alerts
from agent.observe.audit.scribe import Scribe
from agent.observe.audit.syslog import Destination, Forwarder
from agent.observe.audit.trail import AuditTrail
from agent.scu.tls import client_context
from agent.serve.composition.auditing import known_of
from agent.worklist import tables as t
from tests.integration.test_receive_tls import keys  # noqa: F401 - a fixture
from tests.unit.receive.reception import STUDY, Reception, instance, wait_for

CODE = "./EventIdentification/EventID"


@pytest.fixture
def reception(tmp_path: Path) -> Iterator[Reception]:
    with Reception(tmp_path) as listening:
        yield listening


def scribe_of(reception: Reception) -> Scribe:
    return Scribe(
        ledger=reception.ledger, trail=AuditTrail(reception.layout.audit), ae_title="STEATOSIS", site="Hospital"
    )


def written(scribe: Scribe) -> list[ElementTree.Element]:
    return [ElementTree.fromstring(record.message) for record in scribe.trail.records()]


def code_of(message: ElementTree.Element) -> str:
    found = message.find(CODE)
    assert found is not None
    return str(found.get("csd-code"))


def ids_of(message: ElementTree.Element, kind: str) -> list[str]:
    return [
        str(found.get("ParticipantObjectID"))
        for found in message.findall("ParticipantObjectIdentification")
        if found.find(f"ParticipantObjectIDTypeCode[@csd-code='{kind}']") is not None
    ]


def all_closed(reception: Reception) -> bool:
    return all(row.closed_at for row in reception.rows(t.associations))


def test_one_patient_a_message(reception: Reception) -> None:
    other = {"StudyInstanceUID": f"{STUDY}.2", "PatientID": "P2"}
    assert reception.send(instance(1), instance(2), instance(3, **other)) == [0, 0, 0]
    wait_for(lambda: all_closed(reception))
    scribe = scribe_of(reception)
    assert scribe.write(time.time()) == 3
    messages = written(scribe)
    assert [code_of(message) for message in messages] == ["110113", "110104", "110104"]
    assert [(ids_of(message, "110180"), ids_of(message, "2")) for message in messages[1:]] == [
        ([STUDY], ["P1"]),
        ([f"{STUDY}.2"], ["P2"]),
    ]
    assert messages[1].findall(".//SOPClass")[0].get("NumberOfInstances") == "2"
    source, destination = messages[1].findall("ActiveParticipant")
    assert (source.get("UserID"), source.get("NetworkAccessPointID")) == ("CART", "127.0.0.1")
    assert destination.get("AlternativeUserID") == "AETITLES=STEATOSIS"
    assert scribe.write(time.time()) == 0


def test_sent_again_is_a_read(reception: Reception) -> None:
    assert reception.send(instance()) == reception.send(instance()) == [0]
    wait_for(lambda: all_closed(reception))
    scribe = scribe_of(reception)
    scribe.write(time.time())
    transfers = [message for message in written(scribe) if code_of(message) == "110104"]
    assert [message[0].get("EventActionCode") for message in transfers] == ["C", "R"]
    assert [ids_of(message, "2") for message in transfers] == [["P1"], ["P1"]]


def test_crash_between_the_two_writes_repeats(reception: Reception, monkeypatch: pytest.MonkeyPatch) -> None:
    assert reception.send(instance()) == [0]
    wait_for(lambda: all_closed(reception))
    scribe = scribe_of(reception)
    with monkeypatch.context() as patch:
        patch.setattr("agent.observe.audit.scribe.sa.update", lambda _table: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            scribe.write(time.time())
    scribe.write(time.time())
    assert [code_of(message) for message in written(scribe)] == ["110113", "110104"] * 2


def test_results(reception: Reception) -> None:
    assert reception.send(instance()) == [0]
    with reception.ledger.write() as connection:
        empty = {column.name: 0 for column in t.work_items.columns if not column.nullable}
        item = {"id": 1, "study_instance_uid": STUDY, "state": "COMPLETED", "finished_at": 5.0}
        connection.execute(insert(t.work_items).values(empty | {"group_id": "g", "step": "deliver"} | item))
        made = {"result_key": "k", "kind": "x", "position": 0, "series_instance_uid": "1", "sha256": "0", "bytes": 1}
        for uid, destination, state in (
            ("1.1", "PACS@192.0.2.9:104", DeliveryState.PROVED),
            ("1.2", "PACS@192.0.2.9:104", DeliveryState.PROVED),
            ("1.3", "OTHER@192.0.2.8:104", DeliveryState.FAILED),
            ("1.4", None, DeliveryState.KEPT),
        ):
            made |= {"sop_instance_uid": uid, "sop_class_uid": "1.2.3", "study_instance_uid": STUDY}
            connection.execute(insert(t.result_objects).values(made))
            row = {"work_item_id": 1, "sop_instance_uid": uid, "destination": destination, "state": state}
            connection.execute(insert(t.outbox).values(row | {"attempts": 1, "not_before": 0, "look_first": False}))
    scribe = scribe_of(reception)
    scribe.write(time.time())
    messages = [found for found in written(scribe) if code_of(found) in ("110103", "110104")]
    results = [found for found in messages if "work_item" in ElementTree.tostring(found, encoding="unicode")]
    told = [
        (
            code_of(found),
            found[0].get("EventOutcomeIndicator"),
            found.findall(".//SOPClass")[0].get("NumberOfInstances"),
        )
        for found in results
    ]
    assert told == [("110103", "0", "1"), ("110104", "8", "1"), ("110104", "0", "2")]
    assert [found.findall("ActiveParticipant")[-1].get("NetworkAccessPointID") for found in results[1:]] == [
        "192.0.2.8",
        "192.0.2.9",
    ]


def finished_item(reception: Reception, study: str, *states: str) -> None:
    """A work item that has ended, with a result object and an outbox row for each state."""
    with reception.ledger.write() as connection:
        empty = {column.name: 0 for column in t.work_items.columns if not column.nullable}
        item = {"id": 1, "study_instance_uid": study, "state": "CANCELED", "finished_at": 5.0}
        connection.execute(insert(t.work_items).values(empty | {"group_id": "g", "step": "deliver"} | item))
        made = {"result_key": "k", "kind": "x", "position": 0, "series_instance_uid": "1", "sha256": "0", "bytes": 1}
        for number, state in enumerate(states):
            made |= {"sop_instance_uid": f"1.{number}", "sop_class_uid": "1.2.3", "study_instance_uid": study}
            connection.execute(insert(t.result_objects).values(made))
            row = {"work_item_id": 1, "sop_instance_uid": f"1.{number}", "destination": "PACS@192.0.2.9:104"}
            row |= {"state": state, "attempts": 0, "not_before": 0, "look_first": False}
            connection.execute(insert(t.outbox).values(row))


def test_what_never_left_is_no_transfer(reception: Reception) -> None:
    """An operator cancels a work item whose objects wait."""
    assert reception.send(instance()) == [0]
    finished_item(reception, STUDY, DeliveryState.PENDING)
    scribe = scribe_of(reception)
    scribe.write(time.time())
    assert "192.0.2.9" not in "".join(record.message for record in scribe.trail.records())


@pytest.mark.parametrize("is_noted", [True, False], ids=["as it is now", "before it was noted"])
def test_what_was_only_ever_fetched(reception: Reception, is_noted: bool) -> None:
    """A study that a worklist named: its images come from the archive, its results go out, and it never came."""
    assert reception.send(instance(1), instance(2)) == [0, 0]
    wait_for(lambda: all_closed(reception))
    finished_item(reception, STUDY, DeliveryState.PROVED)
    with reception.ledger.write() as connection:
        connection.execute(update(t.associations).values(audited_at=1.0))
        connection.execute(update(t.instances).values(received_at=None, association_id=None, study_instance_uid="1.9"))
        connection.execute(update(t.result_objects).values(study_instance_uid="1.9"))
        fetched = {"id": 1, "work_item_id": 1, "study_instance_uid": "1.9", "archive": "PACS@192.0.2.7:104"}
        connection.execute(insert(t.retrievals).values(fetched | {"started_at": 3.0, "ended_at": 4.0}))
        for number in (1, 2):
            connection.execute(insert(t.retrieval_instances).values(retrieval_id=1, instance_id=number))
        study = {"study_instance_uid": "1.9", "study_date": "", "patient_id": "P1", "issuer_of_patient_id": ""}
        if is_noted:
            connection.execute(insert(t.fetched_studies).values(study | {"accession_number": "A-9"}))
    scribe = scribe_of(reception)
    scribe.write(time.time())
    came, left = written(scribe)
    for message, host, count in ((came, "192.0.2.7", "2"), (left, "192.0.2.9", "1")):
        assert (code_of(message), ids_of(message, "110180"), ids_of(message, "2")) == ("110104", ["1.9"], ["P1"])
        assert message.findall(".//SOPClass")[0].get("NumberOfInstances") == count
        numbers = [one.get("Number") for one in message.findall(".//Accession")]
        assert numbers == (["A-9"] if is_noted else [])
        hosts = [part.get("NetworkAccessPointID") for part in message.findall("ActiveParticipant")]
        assert host in hosts


def test_who_looks_at_what_was_only_ever_fetched_is_told_with_its_patient(reception: Reception) -> None:
    with reception.ledger.write() as connection:
        study = {"study_instance_uid": "1.9", "study_date": "", "patient_id": "P9", "issuer_of_patient_id": ""}
        connection.execute(insert(t.fetched_studies).values(study | {"accession_number": "A-9"}))
    known = known_of(reception.ledger, "1.9")
    assert (known["study_instance_uid"], known["patient_id"], known["accession_number"]) == ("1.9", "P9", "A-9")
    assert known_of(reception.ledger, "1.10")["patient_id"] == ""


def test_who_was_turned_away(tmp_path: Path) -> None:
    with Reception(tmp_path) as reception:
        trail = AuditTrail(reception.layout.audit)
        alerts = Alerts(ae_title="STEATOSIS", site="", append=trail.append, now=time.time)
        object.__setattr__(reception.listener._handlers, "on_alert", alerts.note)
        for _ in range(3):
            assert not reception.associate(called="SOMEBODY").is_established
        alerts.write()
    (record,) = trail.records()
    message = ElementTree.fromstring(record.message)
    assert code_of(message) == "110113"
    assert message[0].get("EventOutcomeIndicator") == "4"


@pytest.mark.parametrize("broken", ["a file in its place", "removed while open"])
def test_a_failing_trail_loses_no_image(reception: Reception, broken: str) -> None:
    scribe = scribe_of(reception)
    if broken == "a file in its place":
        reception.layout.audit.write_bytes(b"")
    assert reception.send(instance()) == [0]
    wait_for(lambda: all_closed(reception))
    if broken == "a file in its place":
        with pytest.raises(OSError):
            scribe.write(time.time())
        reception.layout.audit.unlink()
    else:
        scribe.write(time.time())
        shutil.rmtree(reception.layout.audit)
        with reception.ledger.write() as connection:
            connection.execute(update(t.associations).values(audited_at=None))
    assert scribe.write(time.time()) == 2
    assert len(reception.stored()) == 1


# Syslog


def filled(folder: Path, count: int) -> AuditTrail:
    trail = AuditTrail(folder)
    trail.append([f"<AuditMessage n='{n}'/>" for n in range(count)])
    return trail


def test_sent_over_udp_once(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(5)
        destination = Destination.parse(f"udp://127.0.0.1:{receiver.getsockname()[1]}")
        forwarder = Forwarder(trail=filled(tmp_path, 3), destination=destination, tls=None, process_id=1)
        assert (forwarder.forward(), forwarder.forward()) == (3, 0)
        assert [receiver.recv(65_536)[-21:] for _ in range(3)] == [
            f"<AuditMessage n='{n}'/>".encode() for n in range(3)
        ]


def test_sent_over_tls_after_the_receiver_came_back(tmp_path: Path, keys: Path) -> None:  # noqa: F811
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(keys / "theirs.pem", keys / "theirs.key")
    received = bytearray()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    destination = Destination.parse(f"tls://127.0.0.1:{port}")
    tls = client_context(keys / "ours.pem", keys / "ours.key", keys / "theirs.pem")
    forwarder = Forwarder(trail=filled(tmp_path, 4), destination=destination, tls=tls, process_id=1)
    with pytest.raises(OSError):
        forwarder.forward()

    def receive() -> None:
        connection, _ = listening.accept()
        with server.wrap_socket(connection, server_side=True) as secured:
            while part := secured.recv(65_536):
                received.extend(part)

    with socket.create_server(("127.0.0.1", port)) as listening:
        thread = threading.Thread(target=receive)
        thread.start()
        assert forwarder.forward() == 4
        thread.join(5)
    length, _, rest = bytes(received).partition(b" ")
    assert rest[: int(length)].endswith(b"<AuditMessage n='0'/>")
    assert received.count(b"DICOM+RFC3881") == 4


def test_a_slow_receiver_gets_a_part_at_a_time(tmp_path: Path, keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """Who sends holds a lease: others would begin with the same records while one sends for minutes."""
    monkeypatch.setattr(syslog, "_LONGEST_SECONDS", 0.3, raising=False)
    server, ended = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), threading.Event()
    server.load_cert_chain(keys / "theirs.pem", keys / "theirs.key")
    trail = AuditTrail(tmp_path)
    trail.append(["<AuditMessage/>" + " " * 40_000] * 400)

    def receive() -> None:
        connection, _ = listening.accept()
        with server.wrap_socket(connection, server_side=True) as secured:
            while not ended.wait(0.02):
                if not secured.recv(16_384):
                    return

    with socket.create_server(("127.0.0.1", 0)) as listening:
        destination = Destination.parse(f"tls://127.0.0.1:{listening.getsockname()[1]}")
        tls = client_context(keys / "ours.pem", keys / "ours.key", keys / "theirs.pem")
        forwarder = Forwarder(trail=trail, destination=destination, tls=tls, process_id=1)
        thread = threading.Thread(target=receive)
        thread.start()
        sent = forwarder.forward()
        ended.set()
        thread.join()
    assert 0 < sent < 400
    assert forwarder._sent() == sent


@pytest.mark.parametrize("text", ["siem:514", "tcp://siem:1", "udp://", "udp://siem:x", "tls://siem:1/path"])
def test_a_destination_that_is_none(text: str) -> None:
    with pytest.raises(SettingsError, match=r"audit\.syslog"):
        Destination.parse(text)
