"""A listener on loopback with a ledger and a spool of its own, and senders: pynetdicom's, and bytes by hand."""

from __future__ import annotations

import io
import socket
import struct
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import sqlalchemy as sa
from pydicom import Dataset
from pydicom.filewriter import write_dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE

from agent.receive.commitment import CommitmentHandler, nobody_asked
from agent.receive.listener import Listener, ListenerConfig
from agent.receive.services import Services
from agent.store.durable import make_directory
from agent.store.instance_files import InstanceFiles
from agent.store.layout import Layout
from agent.worklist import tables as t
from agent.worklist.grouping import GroupBy
from agent.worklist.ledger import Ledger

ULTRASOUND = "1.2.840.10008.5.1.4.1.1.6.1"
STUDY = "1.2.826.0.1.3680043.8.498.77"
LONGEST_VALUE = 131_072 - 6
CONFIG = ListenerConfig(
    ae_title="STEATOSIS",
    host="127.0.0.1",
    port=0,
    peers=(),
    archives=(),
    max_associations=256,
    group_by=GroupBy.STUDY,
    owner="test:1",
)


def instance(number: int = 1, *, size: int = 64, sop_class: str = ULTRASOUND, **elements: Any) -> Dataset:
    """An ultrasound image that nobody needs to decode."""
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = sop_class, f"{STUDY}.{number}"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = STUDY, f"{STUDY}.9"
    ds.Modality, ds.PatientID, ds.StudyDate = "US", "P1", "20260101"
    ds.Rows, ds.Columns, ds.BitsAllocated, ds.SamplesPerPixel = 1, min(size, 65_534), 8, 1
    ds.PixelData = bytes([number % 256]) * size
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    return ds


def encoded(ds: Dataset, *, implicit: bool = False, little: bool = True) -> bytes:
    """The data set as it goes over the wire."""
    buffer = io.BytesIO()
    copy = Dataset(ds)
    copy.set_original_encoding(implicit, little)
    from pydicom.filebase import DicomIO

    file = DicomIO(buffer)
    file.is_implicit_VR, file.is_little_endian = implicit, little
    write_dataset(file, copy)
    return buffer.getvalue()


class Reception:
    """The listener under test; a context manager."""

    def __init__(
        self,
        folder: Path,
        on_commitment: CommitmentHandler = nobody_asked,
        services: Callable[[Ledger], Services] = lambda _ledger: Services(),
        **config: Any,
    ) -> None:
        self.layout = Layout(folder)
        for room in (self.layout.incoming, self.layout.instances):
            make_directory(room)
        self.ledger = Ledger.in_folder(self.layout.ledger)
        with self.ledger.write() as connection:
            t.metadata.create_all(connection)
        self.files = InstanceFiles(self.layout, 0)
        self.config = replace(CONFIG, **config)
        self.listener = Listener(self.config, self.ledger, self.files, on_commitment, services=services(self.ledger))

    def __enter__(self) -> Reception:
        self.listener.start()
        return self

    def __exit__(self, _kind: type | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        self.listener.stop(0.5)
        self.ledger.close()

    @property
    def port(self) -> int:
        return self.listener.address[1]

    def rows(self, table: sa.Table) -> list[Any]:
        with self.ledger.read() as connection:
            return list(connection.execute(sa.select(table)))

    def stored(self) -> list[Path]:
        return sorted(self.layout.instances.glob("*/*"))

    def temporaries(self) -> list[Path]:
        return list(self.layout.incoming.iterdir())

    def everything(self) -> set[Path]:
        """Whatever lies anywhere near the data folder, the ledger's own files apart."""
        found = {path for path in self.layout.data_dir.parent.rglob("*") if path.is_file()}
        return {path for path in found if not path.name.startswith("ledger.sqlite")}

    def associate(
        self,
        classes: Iterable[str] = (ULTRASOUND,),
        syntaxes: Iterable[str] = (ExplicitVRLittleEndian,),
        calling: str = "CART",
        called: str = "STEATOSIS",
    ) -> Any:
        ae = AE(ae_title=calling)
        for sop_class in classes:
            ae.add_requested_context(sop_class, list(syntaxes))
        return ae.associate("127.0.0.1", self.port, ae_title=called)

    def send(
        self, *objects: Dataset, syntax: str = ExplicitVRLittleEndian, calling: str = "CART", **more: Any
    ) -> list[int]:
        """Send and release; returns the statuses."""
        association = self.associate({str(ds.SOPClassUID) for ds in objects}, (syntax,), calling)
        assert association.is_established
        statuses = []
        for ds in objects:
            ds.set_original_encoding(syntax == "1.2.840.10008.1.2", syntax != "1.2.840.10008.1.2.2")
            ds.file_meta = Dataset()
            ds.file_meta.TransferSyntaxUID = syntax
            statuses.append(int(association.send_c_store(ds, **more).Status))
        association.release()
        return statuses


def wait_for(condition: Callable[[], Any], seconds: float = 20.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.01)
    return value


# By hand (PS3.8 section 9.3, PS3.7 section 9.3.1): what no honest library sends


def _item(kind: int, content: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(content)) + content


def pdu(kind: int, content: bytes) -> bytes:
    return struct.pack(">BBL", kind, 0, len(content)) + content


def associate_request(
    sop_class: str | None = ULTRASOUND, syntax: str | None = ExplicitVRLittleEndian, calling: bytes = b"CART"
) -> bytes:
    named = ((0x30, sop_class), (0x40, syntax))
    context = bytes([1, 0, 0, 0]) + b"".join(_item(kind, uid.encode()) for kind, uid in named if uid is not None)
    user = _item(0x51, struct.pack(">L", 16384)) + _item(0x52, b"1.2.3")
    head = struct.pack(">HH16s16s32x", 1, 0, b"STEATOSIS".ljust(16), calling.ljust(16))
    return pdu(1, head + _item(0x10, b"1.2.840.10008.3.1.1.1") + _item(0x20, context) + _item(0x50, user))


def element(number: int, value: bytes) -> bytes:
    value += b"\0" * (len(value) % 2)
    return struct.pack("<HHL", 0, number, len(value)) + value


def store_command(
    instance_uid: bytes,
    sop_class: bytes = ULTRASOUND.encode(),
    message_id: int = 1,
    priority: bytes = b"\0\0",
    more: bytes = b"",
) -> bytes:
    body = element(0x0002, sop_class) + element(0x0100, b"\1\0") + element(0x0110, struct.pack("<H", message_id))
    body += (
        (element(0x0700, priority) if priority else b"")
        + element(0x0800, b"\1\0")
        + element(0x1000, instance_uid)
        + more
    )
    return element(0, struct.pack("<L", len(body))) + body


def value(content: bytes, *, command: bool = False, last: bool = True, context: int = 1) -> bytes:
    """A presentation data value item."""
    return struct.pack(">LBB", len(content) + 2, context, command | last << 1) + content


@dataclass
class Hand:
    """A connection that sends what it is told."""

    connection: socket.socket

    @classmethod
    def connect(cls, port: int) -> Hand:
        return cls(socket.create_connection(("127.0.0.1", port), timeout=10))

    @classmethod
    def associated(cls, port: int, **request: Any) -> Hand:
        hand = cls.connect(port)
        hand.send(associate_request(**request))
        assert hand.answer()[0] == 2
        return hand

    def __enter__(self) -> Hand:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def send(self, *pdus: bytes) -> None:
        self.connection.sendall(b"".join(pdus))

    def store(self, command: bytes, data: bytes) -> int:
        """A whole C-STORE, its data set in as many PDUs as our maximum asks for; returns the status."""
        parts = [data[at : at + LONGEST_VALUE] for at in range(0, max(1, len(data)), LONGEST_VALUE)]
        fragments = [pdu(4, value(part, last=number == len(parts))) for number, part in enumerate(parts, 1)]
        self.send(pdu(4, value(command, command=True)), *fragments)
        return self.status()

    def answer(self) -> tuple[int, bytes]:
        """The next PDU's type and content; type 0 where the connection is closed."""
        head = self._read(6)
        if len(head) < 6:
            return 0, b""
        kind, _, length = struct.unpack(">BBL", head)
        return kind, self._read(length)

    def status(self) -> int:
        """The Status (0000,0900) of the next answer."""
        kind, content = self.answer()
        assert kind == 4, f"PDU type {kind} instead of an answer"
        at = content.rindex(struct.pack("<HHL", 0, 0x0900, 2))  # a Message ID may look like it, before
        return int(struct.unpack_from("<H", content, at + 8)[0])

    def _read(self, count: int) -> bytes:
        received = b""
        while len(received) < count:
            try:
                more = self.connection.recv(count - len(received))
            except ConnectionResetError:
                more = b""
            if not more:
                break
            received += more
        return received
