"""Real associations on loopback: what is answered, what is kept, what is recorded."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pydicom
import pytest
import structlog
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation
from sqlalchemy import insert, update

from agent.domain.errors import LedgerError, SettingsError
from agent.domain.identifiers import Archive, Peer
from agent.receive.bounds import PDU_SECONDS
from agent.receive.commitment import CommitmentReport
from agent.receive.contexts import RETIRED_ULTRASOUND, TRANSFER_SYNTAXES
from agent.receive.listener import Listener
from agent.receive.rebuild import rebuild
from agent.store import durable
from agent.worklist import arrivals, recording
from agent.worklist import tables as t
from agent.worklist.grouping import GroupBy
from tests.unit.receive.reception import (
    CONFIG,
    STUDY,
    ULTRASOUND,
    Hand,
    Reception,
    associate_request,
    encoded,
    instance,
    pdu,
    store_command,
    value,
    wait_for,
)

COMPREHENSIVE_3D_SR, RAW_DATA = "1.2.840.10008.5.1.4.1.1.88.34", "1.2.840.10008.5.1.4.1.1.66"
COMMITMENT = "1.2.840.10008.1.20.1"


@pytest.fixture(params=["fast", "stock"])
def reception(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Reception]:
    with Reception(tmp_path, receive_path=request.param) as listening:
        yield listening


def data_set_of(path: Path) -> bytes:
    content = path.read_bytes()
    return content[144 + int.from_bytes(content[140:144], "little") :]  # (0002,0000)


def test_kept_byte_for_byte_and_recorded(reception: Reception) -> None:
    ds = instance(size=300_000)
    assert reception.send(ds) == [0]
    (path,), (row,) = reception.stored(), reception.rows(t.instances)
    assert data_set_of(path) == encoded(ds)
    assert path.stem == row.sha256 == hashlib.sha256(encoded(ds)).hexdigest()
    assert (row.bytes, row.sop_instance_uid, row.transfer_syntax_uid) == (
        len(encoded(ds)),
        ds.SOPInstanceUID,
        ExplicitVRLittleEndian,
    )
    assert path.read_bytes()[:132] == b"\0" * 128 + b"DICM"
    assert path.stat().st_mode & 0o777 == 0o600
    read = pydicom.dcmread(path)
    assert (read, read.file_meta.MediaStorageSOPInstanceUID) == (ds, ds.SOPInstanceUID)
    (association,) = wait_for(lambda: [row for row in reception.rows(t.associations) if row.closed_at])
    assert (association.calling_ae_title, association.outcome) == ("CART", "released")
    assert row.association_id == association.id
    assert reception.temporaries() == []


def test_large_objects_that_come_at_the_same_moment_by_turns(reception: Reception) -> None:
    """Each is hashed in another thread while it comes alone, and where it is read while another comes, too."""
    objects = [encoded(instance(number, size=4_000_000)) for number in (1, 2)]
    with Hand.associated(reception.port) as first, Hand.associated(reception.port) as second:
        for number, hand in enumerate((first, second), 1):
            hand.send(pdu(4, value(store_command(f"{STUDY}.{number}".encode()), command=True)))

        def send(hand: Hand, content: bytes, start: int, stop: int) -> None:
            for at in range(start, min(stop, len(content)), 50_000):
                hand.send(pdu(4, value(content[at : at + 50_000], last=at + 50_000 >= len(content))))

        send(first, objects[0], 0, 1_500_000)
        for start in range(0, 3_000_000, 500_000):
            send(second, objects[1], start, start + 500_000)
            send(first, objects[0], 1_500_000 + start // 2, 1_750_000 + start // 2)
        send(first, objects[0], 3_000_000, 5_000_000)
        assert first.status() == 0
        send(second, objects[1], 3_000_000, 5_000_000)
        assert second.status() == 0
    assert {path.stem for path in reception.stored()} == {hashlib.sha256(one).hexdigest() for one in objects}
    assert sorted(map(data_set_of, reception.stored())) == sorted(objects)


@pytest.mark.parametrize(
    "sop_class", [*RETIRED_ULTRASOUND, "1.2.840.10008.5.1.4.1.1.88.34", "1.2.840.10008.5.1.4.1.1.66"]
)
def test_other_storage_classes(reception: Reception, sop_class: str) -> None:
    assert reception.send(instance(sop_class=sop_class)) == [0]
    assert reception.rows(t.instances)[0].sop_class_uid == sop_class


def test_every_transfer_syntax_is_accepted_as_proposed(reception: Reception) -> None:
    ae = AE(ae_title="CART")
    for syntax in TRANSFER_SYNTAXES:
        ae.add_requested_context(ULTRASOUND, syntax)
    association = ae.associate("127.0.0.1", reception.port, ae_title="STEATOSIS")
    assert {cx.transfer_syntax[0] for cx in association.accepted_contexts} == set(TRANSFER_SYNTAXES)
    association.release()


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"])
def test_other_encodings(reception: Reception, syntax: str) -> None:
    assert reception.send(instance(), syntax=syntax) == [0]
    assert reception.rows(t.instances)[0].transfer_syntax_uid == syntax
    assert pydicom.dcmread(reception.stored()[0]).SOPInstanceUID == instance().SOPInstanceUID


def test_same_bytes_again(reception: Reception) -> None:
    assert reception.send(instance(), instance()) == [0, 0]
    (row,) = reception.rows(t.instances)
    assert (row.times_received, len(reception.stored()), row.conflict) == (2, 1, False)


def test_same_uid_other_bytes(reception: Reception) -> None:
    assert reception.send(instance(), instance(Rows=2)) == [0, 0]
    first, second = reception.rows(t.instances)
    assert (first.conflict, second.conflict, len(reception.stored())) == (False, True, 2)
    assert first.sha256 == hashlib.sha256(encoded(instance())).hexdigest()


def test_two_associations_at_once(reception: Reception) -> None:
    def many(first: int) -> None:
        statuses.extend(reception.send(*(instance(first + n) for n in range(8))))

    statuses: list[int] = []
    senders = [threading.Thread(target=many, args=(100 * n,)) for n in range(4)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    assert statuses == [0] * 32
    assert len(reception.stored()) == len(reception.rows(t.instances)) == 32


def test_several_messages_in_one_pdu(reception: Reception) -> None:
    """Stock pynetdicom drops the second."""
    uids = [instance(n).SOPInstanceUID.encode() for n in (1, 2)]
    with Hand.associated(reception.port) as hand:
        commands = [value(store_command(uid, message_id=n), command=True) for n, uid in enumerate(uids, 1)]
        data = [value(encoded(instance(n))) for n in (1, 2)]
        hand.send(pdu(4, commands[0] + data[0] + commands[1] + data[1]))
        assert (hand.status(), hand.status()) == (0, 0)
    assert len(reception.stored()) == 2


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI:UserWarning")
def test_leading_zeros_are_accepted(reception: Reception) -> None:
    uid = "1.2.03.4"
    with Hand.associated(reception.port) as hand:
        data = encoded(instance(SOPInstanceUID="1.2.93.4")).replace(b"1.2.93.4", uid.encode())
        assert hand.store(store_command(uid.encode()), data) == 0
    assert reception.rows(t.instances)[0].sop_instance_uid == uid


@pytest.mark.parametrize("end", ["abort", "close"])
def test_broken_off_in_mid_object(reception: Reception, end: str) -> None:
    assert reception.send(instance(5)) == [0]
    with Hand.associated(reception.port) as hand:
        assert hand.store(store_command(instance(6).SOPInstanceUID.encode()), encoded(instance(6))) == 0
        hand.send(pdu(4, value(store_command(b"1.2.3"), command=True)), pdu(4, value(b"\0" * 9000, last=False)))
        wait_for(lambda: reception.temporaries() and reception.temporaries()[0].stat().st_size > 9000)
        if end == "abort":
            hand.send(pdu(7, bytes(4)))
            assert hand.answer()[0] == 0
    wait_for(lambda: not reception.temporaries())
    wait_for(lambda: [row.outcome for row in reception.rows(t.associations)] == ["released", "aborted"])
    assert len(reception.stored()) == 2
    assert reception.rows(t.groups)[0].interruptions == 1


def test_start_removes_what_a_dead_process_left(reception: Reception) -> None:
    old, fresh = reception.layout.incoming / "old.part", reception.layout.incoming / "fresh.part"
    for path in (old, fresh):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    other = Listener(CONFIG, reception.ledger, reception.files)
    other.start()
    other.stop(0)
    assert reception.temporaries() == [fresh]


def test_echo(reception: Reception) -> None:
    association = reception.associate(["1.2.840.10008.1.1"])
    assert association.send_c_echo().Status == 0
    association.release()


# Retrievals


def retrieval(reception: Reception) -> int:
    values: dict[str, Any] = {column.name: 0 for column in t.work_items.columns if not column.nullable}
    text = {"group_id": STUDY, "study_instance_uid": STUDY, "result_key": "k", "bundle_digest": "b", "cause": "replay"}
    with reception.ledger.write() as connection:
        connection.execute(
            insert(t.work_items).values(values | text | {"id": 1, "state": "IN PROGRESS", "step": "retrieve"})
        )
        row = {
            "work_item_id": 1,
            "study_instance_uid": STUDY,
            "archive": "PACS@127.0.0.1:4242",
            "started_at": time.time(),
        }
        return int(connection.execute(insert(t.retrievals).values(row)).inserted_primary_key[0])


@pytest.mark.parametrize(
    ("calling", "originator", "belongs"), [("CART", True, True), ("PACS", False, True), ("CART", False, False)]
)
def test_sub_operations_belong_to_their_retrieval(
    tmp_path: Path, calling: str, originator: bool, belongs: bool
) -> None:
    with Reception(tmp_path, archives=(Archive.parse("PACS@127.0.0.1:4242"),)) as reception:
        row = retrieval(reception)
        more = {"originator_aet": "STEATOSIS", "originator_id": 7} if originator else {}
        assert reception.send(instance(), calling=calling, **more) == [0]
        assert [link.retrieval_id for link in reception.rows(t.retrieval_instances)] == ([row] if belongs else [])
        assert (reception.rows(t.instances)[0].received_at is None) == belongs
        with reception.ledger.write() as connection:
            connection.execute(update(t.retrievals).values(ended_at=1.0))
        assert reception.send(instance(2), calling=calling, **more) == [0]
        assert len(reception.rows(t.retrieval_instances)) == belongs


# Faults of ours


ORDER = ["write", "sync file", "rename", "sync directory", "record"]


def test_order_of_system_calls(reception: Reception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Success is the last word: write, fsync the file, rename, fsync the directory, commit, answer."""
    calls: list[str] = []
    real = {"write": os.writev, "rename": os.rename, "record": recording.record_arrivals}

    def syncing(call: Any) -> Any:
        def synced(descriptor: int) -> None:
            is_folder = Path(f"/proc/self/fd/{descriptor}").readlink().is_dir()
            calls.append("sync directory" if is_folder else "sync file")
            call(descriptor)

        return synced

    def spied(name: str, key: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            result = real[key](*args, **kwargs)
            calls.append(name)
            return result

        return call

    assert reception.send(instance(1)) == [0]  # makes folders
    digest = hashlib.sha256(encoded(instance(2))).hexdigest()
    durable.make_directory(reception.layout.instance(digest).parent)
    monkeypatch.setattr(os, "writev", spied("write", "write"))
    monkeypatch.setattr(os, "fsync", syncing(os.fsync))
    monkeypatch.setattr(os, "fdatasync", syncing(os.fdatasync))
    monkeypatch.setattr(os, "rename", spied("rename", "rename"))
    monkeypatch.setattr(recording, "record_arrivals", spied("record", "record"))
    assert reception.send(instance(2)) == [0]
    assert [call for n, call in enumerate(calls) if calls[:n].count(call) == 0] == ORDER
    assert calls.index("sync file") == len(calls) - calls[::-1].index("write")


FULL, BROKEN = OSError(28, "No space left on device"), OSError(5, "Input/output error")


@pytest.mark.parametrize("fault", [FULL, BROKEN], ids=["ENOSPC", "EIO"])
@pytest.mark.parametrize("where", ["open", "writev", "writev later", "fdatasync", "rename", "sync directory"])
def test_never_success_over_a_fault(
    reception: Reception, monkeypatch: pytest.MonkeyPatch, where: str, fault: OSError
) -> None:
    calls: dict[str, int] = {}

    def failing_at(name: str, count: int, real: Any) -> Any:
        def call(*args: Any) -> Any:
            if threading.current_thread() is not threading.main_thread() and "incoming" in str(args[0]) + name_of(
                args[0]
            ):
                calls[name] = calls.get(name, 0) + 1
                if calls[name] >= count:
                    raise fault
            return real(*args)

        return call

    def name_of(descriptor: Any) -> str:
        return str(Path(f"/proc/self/fd/{descriptor}").readlink()) if isinstance(descriptor, int) else ""

    def directory_fails(_directory: str) -> None:
        raise fault

    with monkeypatch.context() as patch:
        if where == "sync directory":
            patch.setattr(durable, "sync_directory", directory_fails)
        else:
            name, count = ("writev", 2) if where == "writev later" else (where, 1)
            patch.setattr(os, name, failing_at(name, count, getattr(os, name)))
        ds = instance(size=3_000_000)
        (status,) = reception.send(ds)
    assert status == (0xA700 if fault is FULL else 0x0110)
    assert (reception.temporaries(), reception.rows(t.instances)) == ([], [])
    assert reception.send(ds) == [0]  # it recovers, and trying again is harmless
    assert len(reception.stored()) == len(reception.rows(t.instances)) == 1


@pytest.mark.parametrize("size", [50_000, 3_000_000], ids=["small", "large"])
def test_short_writes_are_completed(reception: Reception, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    real = os.writev

    def short(descriptor: int, parts: list[bytes | memoryview]) -> int:
        return real(descriptor, [parts[0][: max(1, len(parts[0]) // 2)]])

    monkeypatch.setattr(os, "writev", short)
    assert reception.send(instance(size=size)) == [0]
    assert data_set_of(reception.stored()[0]) == encoded(instance(size=size))


def test_ledger_fails_after_the_file(reception: Reception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise LedgerError("the ledger cannot be used: database is locked")

    with monkeypatch.context() as patch:
        patch.setattr(recording, "record_arrivals", fails)
        assert reception.send(instance()) == [0xA700]
    assert reception.send(instance()) == [0]
    assert len(reception.stored()) == len(reception.rows(t.instances)) == 1


def test_ledger_fails_at_the_request(reception: Reception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> int:
        raise LedgerError("the ledger cannot be used: database is locked")

    with monkeypatch.context() as patch:
        patch.setattr(arrivals, "count_associations", fails)
        association = reception.associate()
        assert association.is_rejected
        answer = association.acceptor.primitive
        assert (answer.result, answer.result_source, answer.diagnostic) == (2, 3, 1)
    assert reception.send(instance()) == [0]


def test_too_little_room(reception: Reception, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(reception.files, "_min_free_bytes", 1 << 62)
        assert reception.send(instance(size=100_000)) == [0xA700]
        assert (reception.temporaries(), reception.stored()) == ([], [])
    assert reception.send(instance()) == [0]


def test_rows_are_rebuilt_from_files(reception: Reception) -> None:
    assert reception.send(instance(1), instance(2)) == [0, 0]
    (reception.layout.instances / "aa").mkdir(exist_ok=True)
    (reception.layout.instances / "aa" / f"{'a' * 64}.dcm").write_bytes(b"no DICOM file")
    before = [(row.sha256, row.bytes, row.transfer_syntax_uid) for row in reception.rows(t.instances)]
    with reception.ledger.write() as connection:
        connection.execute(t.sending.delete())
        connection.execute(t.instances.delete().where(t.instances.c.sop_instance_uid == f"{STUDY}.1"))
    done = rebuild(reception.ledger, reception.files, group_by=GroupBy.STUDY, now=time.time())
    assert (done.rows, done.unreadable) == (1, 1)
    assert sorted(before) == sorted((r.sha256, r.bytes, r.transfer_syntax_uid) for r in reception.rows(t.instances))
    assert rebuild(reception.ledger, reception.files, group_by=GroupBy.STUDY, now=time.time()).rows == 0


def test_what_cannot_be_read_is_passed_over_and_told(reception: Reception, monkeypatch: pytest.MonkeyPatch) -> None:
    """It kept `serve` from starting, and everything else from being recorded."""
    assert reception.send(instance(1), instance(2)) == [0, 0]
    first, second = reception.stored()
    spoilt = reception.layout.instances / "aa" / f"{'a' * 64}.dcm"
    spoilt.mkdir(parents=True)  # to open it fails for everybody, root too
    with reception.ledger.write() as connection:
        connection.execute(t.sending.delete())
        connection.execute(t.instances.delete())
    real = os.listdir

    def broken(path: Any = ".") -> list[str]:
        if Path(path) == second.parent:
            raise OSError(errno.EIO, "Input/output error")
        return real(path)

    with monkeypatch.context() as patched, structlog.testing.capture_logs() as logs:
        patched.setattr(os, "listdir", broken)
        done = rebuild(reception.ledger, reception.files, group_by=GroupBy.STUDY, now=time.time() + 1)
    assert (done.rows, done.unreadable) == (1, 2)
    assert [row.sha256 for row in reception.rows(t.instances)] == [first.stem]
    told = {(one["path"], one["cause"]) for one in logs if one["event"].startswith("passed over")}
    assert told == {(str(spoilt), "Is a directory"), (str(second.parent), "Input/output error")}
    assert rebuild(reception.ledger, reception.files, group_by=GroupBy.STUDY, now=time.time() + 1).rows == 1


# Who may call, and endings


def rejected(association: Any) -> tuple[int, int, int]:
    assert association.is_rejected
    answer = association.acceptor.primitive
    return answer.result, answer.result_source, answer.diagnostic


def test_who_may_call(tmp_path: Path) -> None:
    peers, archives = (
        (Peer.parse("CART@127.0.0.1"), Peer.parse("FAR@192.0.2.1")),
        (Archive.parse("PACS@localhost:4242"),),
    )
    with Reception(tmp_path, peers=peers, archives=archives) as reception:
        assert rejected(reception.associate(called="OTHER")) == (1, 1, 7)
        assert rejected(reception.associate(calling="STRANGER")) == (1, 1, 3)
        assert rejected(reception.associate(calling="FAR")) == (1, 1, 3)
        for calling in ("CART", "PACS"):
            association = reception.associate(calling=calling)
            assert association.is_established
            association.release()
        wait_for(lambda: [row.outcome for row in reception.rows(t.associations)] == ["released"] * 2)


def test_limit_over_all_listeners(tmp_path: Path) -> None:
    with Reception(tmp_path, max_associations=2) as one:
        other = Listener(CONFIG, one.ledger, one.files)
        other.start()
        first = one.associate()
        second = AE(ae_title="CART")
        second.add_requested_context(ULTRASOUND)
        held = second.associate("127.0.0.1", other.address[1], ae_title="STEATOSIS")
        other.stop(0)  # aborts it
        assert held.is_established or held.is_aborted
        third = one.associate()
        assert third.is_established
        assert rejected(one.associate()) == (2, 3, 2)
        first.release()
        third.release()
        wait_for(lambda: one.associate().is_established)


def test_a_port_that_is_taken_is_named(reception: Reception, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        config = replace(CONFIG, port=taken.getsockname()[1])
        with pytest.raises(SettingsError, match=r"cannot listen on 127.0.0.1:\d+.*dicom.port"):
            Listener(config, reception.ledger, reception.files).start()


def listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_stop_lets_running_ones_end(tmp_path: Path) -> None:
    with Reception(tmp_path) as reception:
        association = reception.associate()
        ds = instance()
        ds.set_original_encoding(False, True)
        ds.file_meta = Dataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        stopping = threading.Thread(target=reception.listener.stop, args=(10.0,))
        stopping.start()
        wait_for(lambda: not listening(reception.port))
        assert association.send_c_store(ds).Status == 0
        association.release()
        stopping.join(5)
        assert not stopping.is_alive()
        reception.listener.start()


def test_stop_aborts_those_that_do_not(tmp_path: Path) -> None:
    with Reception(tmp_path) as reception, Hand.associated(reception.port) as stalled:
        stalled.send(b"\4\0\0\1\0\0half")  # in the middle of a PDU
        started = time.monotonic()
        reception.listener.stop(0.2)
        assert time.monotonic() - started < PDU_SECONDS, "it does not wait for the rest of the PDU"
        assert [row.outcome for row in reception.rows(t.associations)] == ["aborted"]
        reception.listener.start()


def test_threads_and_files_are_given_back(reception: Reception) -> None:
    def used() -> tuple[int, int]:
        """Count threads and open files, the ledger's pool apart: it grows when two threads write at once."""
        opened = 0
        for descriptor in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # the descriptor of this very listing
                opened += "ledger.sqlite" not in str(descriptor.readlink())
        return threading.active_count(), opened

    others = set(threading.enumerate())
    reception.send(instance(), instance(size=2_000_000))  # the second starts what hashes beside the reading
    wait_for(lambda: not any(isinstance(one, Association) for one in set(threading.enumerate()) - others))
    before = used()
    for number in range(4):
        with Hand.connect(reception.port) as hand:
            hand.send(associate_request().replace(b"STEATOSIS", b"SOMEBODY "))
            assert hand.answer()[0] == 3
        with Hand.associated(reception.port) as hand:
            hand.send(pdu(4, value(store_command(b"1.2.3"), command=True)), pdu(4, value(b"\0" * 99, last=False)))
        Hand.connect(reception.port).connection.close()
        reception.send(instance(number))
    wait_for(lambda: all(now <= then for now, then in zip(used(), before, strict=True)))


def test_idle_associations_cost_nothing(reception: Reception) -> None:
    """pynetdicom's threads look every millisecond: thirty idle senders would keep a core busy."""
    held = [Hand.associated(reception.port) for _ in range(30)]
    started, spent = time.monotonic(), time.process_time()
    time.sleep(1.0)
    assert (time.process_time() - spent) / (time.monotonic() - started) < 0.3
    assert held[7].store(store_command(f"{STUDY}.1".encode()), encoded(instance())) == 0
    for hand in held:
        hand.connection.close()
    wait_for(lambda: all(row.closed_at for row in reception.rows(t.associations)))


# Reports of storage commitment


def test_commitment_report_reaches_who_asked(tmp_path: Path) -> None:
    reports: list[CommitmentReport] = []

    def take(report: CommitmentReport) -> int:
        reports.append(report)
        return 0

    with Reception(tmp_path, take) as reception:
        assert report_commitment(reception.port) == 0
    (report,) = reports
    assert (report.transaction_uid, report.committed, report.failed) == ("1.2.3", ("1.2.4",), (("1.2.5", 0x0112),))
    assert report.calling_ae_title == "PACS"


def test_commitment_report_that_nobody_asked_for(reception: Reception) -> None:
    assert report_commitment(reception.port) == 0x0110


def report_commitment(port: int) -> int:
    ae = AE(ae_title="PACS")
    ae.add_requested_context(COMMITMENT)
    role = SCP_SCU_RoleSelectionNegotiation()
    role.sop_class_uid, role.scu_role, role.scp_role = COMMITMENT, False, True
    association = ae.associate("127.0.0.1", port, ae_title="STEATOSIS", ext_neg=[role])
    information, good, bad = Dataset(), Dataset(), Dataset()
    good.ReferencedSOPClassUID = bad.ReferencedSOPClassUID = ULTRASOUND
    good.ReferencedSOPInstanceUID, bad.ReferencedSOPInstanceUID, bad.FailureReason = "1.2.4", "1.2.5", 0x0112
    information.TransactionUID = "1.2.3"
    information.ReferencedSOPSequence, information.FailedSOPSequence = [good], [bad]
    status, _ = association.send_n_event_report(information, 2, COMMITMENT, "1.2.840.10008.1.20.1.1")
    association.release()
    return int(status.Status)


def test_no_patient_data_and_no_forged_line_in_the_log(reception: Reception) -> None:
    secret = instance(
        PatientName="CANARY^NAME", PatientID="CANARY-ID", PatientBirthDate="19991231", AccessionNumber="CANARY-ACC"
    )
    with structlog.testing.capture_logs() as logs:
        assert reception.send(secret) == [0]
        with Hand.connect(reception.port) as hand:
            hand.send(associate_request(calling=b"A\x1b[31m\r\nB"))
            hand.answer()
    told = repr(logs)
    assert "instance stored" in told
    for word in ("CANARY", "19991231", "\x1b", "\\r\\nB'"):
        assert word not in told
