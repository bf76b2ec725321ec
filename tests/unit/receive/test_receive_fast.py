"""The fast path's own parts: the stream however it is cut, commands, commits together, and what it relies on."""

from __future__ import annotations

import struct
import threading
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st
from pynetdicom import dul

from agent.domain.errors import LedgerError
from agent.receive.commits import Commits
from agent.receive.fast import relied
from agent.receive.fast.command import StoreCommand, read_store, store_response
from agent.receive.fast.stream import DataStream, MalformedError
from agent.worklist import arrivals, recording
from agent.worklist import tables as t
from agent.worklist.grouping import GroupBy
from tests.unit.receive.reception import ULTRASOUND, Reception, element, encoded, instance, pdu, store_command, value

VALUES = st.lists(st.tuples(st.integers(0, 255), st.integers(0, 3), st.binary(max_size=40)), min_size=1, max_size=4)


@settings(deadline=None, max_examples=200)
@given(pdus=st.lists(VALUES, min_size=1, max_size=5), cuts=st.lists(st.integers(1, 50), min_size=1))
def test_stream_is_the_same_wherever_it_is_cut(pdus: list[Any], cuts: list[int]) -> None:
    sent = b"".join(
        pdu(4, b"".join(struct.pack(">LBB", len(content) + 2, *head) + content for *head, content in values))
        for values in pdus
    )
    stream, found, whole, at = DataStream(1000), [], [], 0
    held = bytearray()
    for n in range(len(sent)):
        cut = sent[at : at + cuts[n % len(cuts)]]
        at += len(cut)
        for piece in stream.pieces(memoryview(cut)):
            if piece is None:
                whole.append(found)
                found = []
                continue
            held += piece.content
            if piece.ends:
                found.append((piece.context_id, piece.control, bytes(held)))
                held.clear()
    assert whole == pdus
    assert not stream.is_inside
    assert stream.pdus == len(pdus)


def test_stream_leaves_other_pdus_to_others() -> None:
    stream = DataStream(1000)
    taken = list(stream.pieces(memoryview(pdu(4, value(b"ab")) + pdu(5, bytes(4)) + b"more")))
    assert [piece and bytes(piece.content) for piece in taken] == [b"ab", None]
    assert stream.foreign == pdu(5, bytes(4)) + b"more"


@pytest.mark.parametrize(
    "wrong",
    [
        struct.pack(">BBL", 4, 0, 1001),
        struct.pack(">BBL", 4, 0, 0xFFFFFFFF),
        pdu(4, b"12345"),
        pdu(4, struct.pack(">LB", 1, 1) + b"x"),
        pdu(4, value(b"ab") + b"12345"),
        pdu(4, struct.pack(">LBB", 9, 1, 3) + b"ab"),
        pdu(4, struct.pack(">LBB", 0xFFFFFFFF, 1, 3) + b"ab"),
    ],
)
def test_stream_that_contradicts_itself(wrong: bytes) -> None:
    with pytest.raises(MalformedError):
        list(DataStream(1000).pieces(memoryview(wrong)))


def test_command_is_read_and_answered() -> None:
    read = read_store(store_command(b"1.2.3\0", more=element(0x1031, b"\7\0"), message_id=513))
    command = StoreCommand(sop_class_uid=ULTRASOUND, sop_instance_uid="1.2.3", message_id=513, has_originator=True)
    assert read == command
    whole = store_response(command, 5, 0xA700, 0)
    assert whole[:12] == struct.pack(">BBLLBB", 4, 0, len(whole) - 6, len(whole) - 10, 5, 3)
    assert element(0x0900, b"\0\xa7") in whole


@pytest.mark.parametrize("most", [1, 6, 7, 20, 100, 1 << 31])
def test_answer_fits_the_peer(most: int) -> None:
    command = StoreCommand(sop_class_uid=ULTRASOUND, sop_instance_uid="1.2.3", message_id=1, has_originator=False)
    whole, stream = store_response(command, 5, 0, 0), DataStream(1 << 20)
    pieces = list(stream.pieces(memoryview(store_response(command, 5, 0, most))))
    contents = [piece for piece in pieces if piece is not None]
    assert b"".join(bytes(piece.content) for piece in contents) == whole[12:]
    assert all(len(piece.content) <= max(1, most - 6) for piece in contents)
    assert [piece.control for piece in contents] == [1] * (len(contents) - 1) + [3]


@pytest.mark.parametrize(
    "odd",
    [
        b"",
        store_command(b"1.2.3")[:-1],
        store_command(b"1.2.3") + b"x",
        store_command(b"1.2.3").replace(b"\0\1\2\0\0\0\1\0", b"\0\1\2\0\0\0\x30\0"),  # C-ECHO-RQ
        store_command(b"1.2.3").replace(b"\0\x08\2\0\0\0\1\0", b"\0\x08\2\0\0\0\1\1"),  # no data set
        store_command(b"1.2.3", more=element(0x0100, b"\1\0")),  # a field twice
        store_command(b"1.2.3", more=struct.pack("<HHL", 8, 0, 0)),  # another group
        store_command(b"1.2.\xe9"),
        store_command(b"1.2.3").replace(struct.pack("<HHL", 0, 0x0110, 2), struct.pack("<HHL", 0, 0x0111, 2)),
    ],
)
def test_odd_command_is_left_to_pynetdicom(odd: bytes) -> None:
    assert read_store(odd) is None


def test_fast_path_stands() -> None:
    """Fails first when a new pynetdicom changes what the fast path relies on; then the stock path serves."""
    assert relied.missing() == []


def test_stock_path_serves_where_pynetdicom_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(dul.DULServiceProvider, "idle_timer_expired")
    assert relied.missing() == ["the reactor restarts a timer that the association's thread looks at"]
    with structlog.testing.capture_logs() as logs:
        reception = Reception(tmp_path)
    reception.ledger.close()
    (warning,) = logs
    assert warning["log_level"] == "warning"
    assert "the reactor restarts a timer" in warning["cause"]
    assert not reception.listener._handlers.is_fast


def sealed_together(reception: Reception, count: int, monkeypatch: pytest.MonkeyPatch) -> tuple[list[Any], list[int]]:
    """Keep instances on threads that all wait while the first one's transaction is held up."""
    gate, sizes, results, real = threading.Event(), [], [], recording.record_arrivals

    def held(ledger: Any, arrivals: Any, **more: Any) -> Any:
        sizes.append(len(arrivals))
        gate.wait(5)
        if any(one.stored.header.sop_instance_uid.endswith(".13") for one in arrivals):
            raise LedgerError("this one cannot be recorded")
        return real(ledger, arrivals, **more)

    monkeypatch.setattr(recording, "record_arrivals", held)
    commits = Commits(reception.ledger, reception.files, GroupBy.STUDY)

    def keep(number: int) -> None:
        ds = instance(number)
        incoming = reception.files.begin(
            sop_class_uid=ULTRASOUND, sop_instance_uid=ds.SOPInstanceUID, transfer_syntax_uid="1.2.840.10008.1.2.1"
        )
        incoming.write(encoded(ds))
        try:
            results.append(commits.keep(incoming, incoming.header(), None)[1])
        except LedgerError as error:
            results.append(error)

    threads = [threading.Thread(target=keep, args=(number,)) for number in range(10, 10 + count)]
    threads[0].start()
    while not sizes:
        pass
    for thread in threads[1:]:
        thread.start()
    while len(commits._waiting) < count - 1:
        pass
    gate.set()
    for thread in threads:
        thread.join()
    return results, sizes


def test_those_who_wait_are_committed_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reception = Reception(tmp_path)
    results, sizes = sealed_together(reception, 3, monkeypatch)
    assert sizes == [1, 2]
    assert [one.new for one in results] == [True] * 3
    assert len(reception.rows(t.instances)) == len(reception.stored()) == 3
    assert reception.temporaries() == []
    reception.ledger.close()


def test_one_that_cannot_be_recorded_takes_no_other_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reception = Reception(tmp_path)
    results, sizes = sealed_together(reception, 5, monkeypatch)
    assert sizes == [1, 4, 1, 1, 1, 1]
    assert sum(isinstance(one, LedgerError) for one in results) == 1
    assert len(reception.rows(t.instances)) == 4
    reception.ledger.close()


def test_limit_holds_for_those_who_come_at_once(tmp_path: Path) -> None:
    reception = Reception(tmp_path)
    rows: list[int | None] = []
    who = {"owner": "test:1", "calling": "CART", "called": "STEATOSIS", "host": "127.0.0.1"}

    def ask() -> None:
        rows.append(arrivals.open_association(reception.ledger, 3, **who, now=1.0))

    threads = [threading.Thread(target=ask) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(rows) == 12
    assert rows.count(None) == 9
    reception.ledger.close()
