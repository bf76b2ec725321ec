"""What goes past pynetdicom through the socket, decoded by pynetdicom and pydicom; and what is left to them."""

from __future__ import annotations

import contextlib
import io
import queue
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.filereader import read_dataset
from pynetdicom.pdu import P_DATA_TF

from agent.deliver.storage_scu import read_part_ten
from agent.scu import straight
from agent.scu.straight import Straight
from tests.unit.deliver.outbox_fixture import secondary_capture

SOP_CLASS, INSTANCE, CONTEXT, LARGEST = "1.2.840.10008.5.1.4.1.1.7", "2.25.123", 5, 256


class Wire:
    """The archive's end of a connection, and the part of an association that `Straight` needs."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            ours = socket.create_connection(server.getsockname())
            self.theirs, _ = server.accept()
        self.back = bytearray()
        ours.settimeout(5)
        self.theirs.settimeout(5)
        held = SimpleNamespace(socket=ours, put_back=self.back.extend)
        dul = SimpleNamespace(
            socket=held, _is_transport_event=lambda: True, event_queue=queue.Queue(),
            _idle_timer=SimpleNamespace(restart=lambda: None),
        )  # fmt: skip
        self.raw: Any = SimpleNamespace(dul=dul, dimse=SimpleNamespace(maximum_pdu_size=LARGEST))
        self.straight = Straight(self.raw)
        self.ours = ours

    def store(self, path: Path, seconds: float = 5.0) -> int | None:
        with path.open("rb", buffering=0) as file:
            return self.straight.store(
                file, 10, context=CONTEXT, sop_class=SOP_CLASS, instance=INSTANCE, message_id=7,
                end=time.monotonic() + seconds,
            )  # fmt: skip

    def request(self) -> tuple[bytes, bytes]:
        """Take a whole C-STORE request in: command set and data set."""
        parts: dict[bool, list[bytes]] = {True: [], False: []}
        while True:
            head = self.theirs.recv(6, socket.MSG_WAITALL)
            length = int.from_bytes(head[2:6], "big")
            assert length <= LARGEST
            pdu = P_DATA_TF()
            pdu.decode(head + self.theirs.recv(length, socket.MSG_WAITALL))
            (item,) = pdu.presentation_data_value_items
            assert item.presentation_context_id == CONTEXT
            control, content = item.presentation_data_value[0], item.presentation_data_value[1:]
            parts[bool(control & 1)].append(content)
            if control == 2:
                return b"".join(parts[True]), b"".join(parts[False])


def command(field: int, message_id: int, *more: tuple[int, int]) -> bytes:
    elements = [(0x0100, field), (0x0120, message_id), (0x0800, 0x0101), *more]
    body = b"".join(b"\0\0" + n.to_bytes(2, "little") + b"\2\0\0\0" + v.to_bytes(2, "little") for n, v in elements)
    content = b"\0\0\0\0\4\0\0\0" + len(body).to_bytes(4, "little") + body
    pdv = (len(content) + 2).to_bytes(4, "big") + bytes((CONTEXT, 3)) + content
    return b"\4\0" + len(pdv).to_bytes(4, "big") + pdv


RESPONSE = command(0x8001, 7, (0x0900, 0xB000))


@pytest.fixture
def wire() -> Iterator[Wire]:
    made = Wire()
    yield made
    made.ours.close()
    made.theirs.close()


def answered(wire: Wire, path: Path, *pieces: bytes, seconds: float = 5.0) -> tuple[int | None, bytes, bytes]:
    """Store while an archive takes the request in and sends these bytes, with a pause between them."""
    found: list[tuple[bytes, bytes]] = []

    def archive() -> None:
        found.append(wire.request())
        for piece in pieces:
            wire.theirs.sendall(piece)
            time.sleep(0.02)

    thread = threading.Thread(target=archive)
    thread.start()
    status = wire.store(path, seconds)
    thread.join()
    return status, *found[0]


@pytest.mark.parametrize("size", [2, 250, 251, 500, 1000, 50_000])
def test_an_object_arrives_whole(wire: Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(straight, "_AT_ONCE", 1000)
    path = tmp_path / "object"
    content = bytes(range(256)) * (size // 256 + 1)
    path.write_bytes(b"0123456789" + content[:size])
    status, sent, data_set = answered(wire, path, RESPONSE)
    assert status == 0xB000
    assert data_set == content[:size]
    said = read_dataset(io.BytesIO(sent), is_implicit_VR=True, is_little_endian=True)
    assert (said.AffectedSOPClassUID, said.AffectedSOPInstanceUID) == (SOP_CLASS, INSTANCE)
    assert (said.CommandField, said.MessageID, said.CommandDataSetType) == (0x0001, 7, 0x0001)
    assert said.CommandGroupLength == len(sent) - 12
    assert wire.back == b""


def test_head_and_body_may_come_apart(wire: Wire, tmp_path: Path) -> None:
    path = tmp_path / "object"
    path.write_bytes(bytes(100))
    assert answered(wire, path, RESPONSE[:6], RESPONSE[6:20], RESPONSE[20:])[0] == 0xB000


@pytest.mark.parametrize(
    "other",
    [
        command(0x0100, 9, (0x1002, 1)),  # N-EVENT-REPORT-RQ
        command(0x8001, 8, (0x0900, 0)),  # answers another message
        command(0x8001, 7),  # without status
        b"\7\0\0\0\0\4\0\0\2\0",  # A-ABORT
        b"\5\0\0\0\0\4\0\0\0\0",  # A-RELEASE-RQ
        RESPONSE[:30],  # breaks off
    ],
)
def test_what_is_no_answer_is_left_to_pynetdicom(wire: Wire, tmp_path: Path, other: bytes) -> None:
    path = tmp_path / "object"
    path.write_bytes(bytes(100))
    assert answered(wire, path, other, seconds=0.3)[0] is None
    wire.ours.setblocking(False)
    rest = b""
    with contextlib.suppress(BlockingIOError):
        rest = wire.ours.recv(1000)
    assert bytes(wire.back) + rest == other


def test_a_closed_connection_is_told(wire: Wire, tmp_path: Path) -> None:
    path = tmp_path / "object"
    path.write_bytes(bytes(5_000_000))
    wire.theirs.close()
    assert wire.store(path) is None
    assert wire.raw.dul.event_queue.get_nowait() == "Evt17"


def test_pynetdicom_keeps_its_hands_off_meanwhile(wire: Wire, tmp_path: Path) -> None:
    path = tmp_path / "object"
    path.write_bytes(bytes(100))
    looks: list[bool] = []

    def archive() -> None:
        wire.request()
        looks.append(wire.raw.dul._is_transport_event())
        wire.theirs.sendall(RESPONSE)

    thread = threading.Thread(target=archive)
    thread.start()
    assert wire.store(path) == 0xB000
    thread.join()
    assert looks == [False]
    assert wire.raw.dul._is_transport_event()


def test_a_data_set_begins_where_pydicom_finds_it(tmp_path: Path) -> None:
    path = tmp_path / "object.dcm"
    path.write_bytes(secondary_capture("1.2.3", "1.2.4", "1.2.5"))
    kept = read_part_ten(path)
    read = dcmread(path)
    assert (kept.sop_class_uid, kept.sop_instance_uid) == (read.SOPClassUID, read.SOPInstanceUID)
    assert kept.transfer_syntax_uid == read.file_meta.TransferSyntaxUID
    assert kept.offset == 132 + 12 + read.file_meta.FileMetaInformationGroupLength
