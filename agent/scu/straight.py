"""C-STORE straight through the socket of an association that pynetdicom negotiated.

pynetdicom encodes, queues and sends each 16 KiB of an object on its own and looks for the answer every half
millisecond: of 10 MB, a third of a delivery's processor time. Here the file is read to its places between the headers
of PDUs, many at once and always into the same memory, and the answer is waited for. What is not that one answer (an
abort, a report, a closed connection) is put back into the socket for pynetdicom, which then decides as ever.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, Final, cast

from pynetdicom.association import Association

from agent.scu.transport import ReturningSocket, acknowledge_at_once

_COMMAND: Final = struct.Struct("<HHI")
_PDV: Final = struct.Struct(">BBIIBB")
"""P-DATA-TF header and the one PDV in it (PS3.8 Tables 9-22 and 9-23)."""
_P_DATA: Final = 4
_LAST_OF_COMMAND: Final = 3  # message control header, PS3.8 Annex E.2
_LAST_OF_DATA_SET: Final = 2
_C_STORE_RQ, _C_STORE_RSP = 0x0001, 0x8001
_LOW, _HAS_DATA_SET = 2, 0x0001
_COMMAND_FIELD, _RESPONDED_TO, _STATUS = 0x0100, 0x0120, 0x0900
_LONGEST_ANSWER: Final = 16384
_AT_ONCE: Final = 1 << 18
"""Bytes put together for one call: what is read is still in the core's own cache when it is sent."""
_MOST_PIECES: Final = 512
"""PDUs put together for one call; Linux reads to 1024 places at once (readv(2))."""
_LARGEST: Final = 1 << 17
"""PDUs are no larger, whatever the archive takes."""
_LOOK_SECONDS: Final = 0.05


class Straight:
    """The way past pynetdicom's threads; one at a time may take it.

    Parameters
    ----------
    raw
        An established association of `transport.Entity`.
    """

    def __init__(self, raw: Association) -> None:
        self._raw = raw
        self._look = raw.dul._is_transport_event
        self._looking = threading.Lock()
        self._free = threading.Event()
        self._free.set()
        self._buffer = bytearray()
        raw.dul._is_transport_event = self._look_unless_held  # type: ignore[method-assign]

    @property
    def _pynetdicom(self) -> ReturningSocket:
        return cast("ReturningSocket", self._raw.dul.socket)

    @property
    def _socket(self) -> socket.socket:
        connection = self._pynetdicom.socket
        if connection is None:
            raise ConnectionResetError("the connection was closed")
        return connection

    def store(
        self, file: BinaryIO, offset: int, *, context: int, sop_class: str, instance: str, message_id: int, end: float
    ) -> int | None:
        """Send the data set that begins at `offset` of an open file, and wait for the answer until `end` (monotonic).

        Returns
        -------
        int or None
            Status; None where something else happened, which pynetdicom will tell.
        """
        with self._held():
            try:
                largest = min(self._raw.dimse.maximum_pdu_size or _LARGEST, _LARGEST) - 6
                command = _request(sop_class, instance, message_id)
                self._send(file.fileno(), offset, _pdu(context, _LAST_OF_COMMAND, command), context, largest)
                return self._answer(message_id, end)
            except OSError:
                self._raw.dul.event_queue.put("Evt17")  # transport connection closed, as pynetdicom says it
                return None

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Keep pynetdicom from reading the socket."""
        self._free.clear()
        with self._looking:  # it is not in the middle of it
            pass
        try:
            yield
        finally:
            self._raw.dul._idle_timer.restart()
            self._free.set()

    def _look_unless_held(self) -> bool:
        if not self._free.wait(_LOOK_SECONDS):
            return False
        with self._looking:
            return self._look() if self._free.is_set() else False

    def _send(self, descriptor: int, offset: int, begin: bytes, context: int, largest: int) -> None:
        self._socket.sendall(begin)
        at_once = min(_MOST_PIECES, max(1, _AT_ONCE // largest)) * largest
        at, end = offset, os.fstat(descriptor).st_size
        while at < end:
            until = min(end, at + at_once)
            sizes = [min(largest, until - start) for start in range(at, until, largest)]
            last = _LAST_OF_DATA_SET if until == end else 0
            self._socket.sendall(self._filled(descriptor, at, sizes, context, last))
            at = until

    def _filled(self, descriptor: int, at: int, sizes: list[int], context: int, last: int) -> memoryview:
        """Read a file from a place on into PDUs of these sizes; gives memory that the next call writes over."""
        whole = sum(sizes) + len(sizes) * _PDV.size
        if len(self._buffer) < whole:
            self._buffer = bytearray(whole)
        view, bodies, place = memoryview(self._buffer), [], 0
        for left, size in zip(range(len(sizes) - 1, -1, -1), sizes, strict=True):
            _PDV.pack_into(view, place, *_pdv(context, 0 if left else last, size))
            place += _PDV.size + size
            bodies.append(view[place - size : place])
        if os.preadv(descriptor, bodies, at) < sum(sizes):
            raise OSError("the file is shorter than it was")
        return view[:whole]

    def _answer(self, message_id: int, end: float) -> int | None:
        """Take the response to a message out of the socket; what is none is put back."""
        took = self._received(6, end)
        length = int.from_bytes(took[2:6], "big") if len(took) == 6 and took[0] == _P_DATA else 0
        if 0 < length <= _LONGEST_ANSWER:
            took += self._received(length, end)
            status = _status(took, message_id)
            if status is not None:
                return status
        self._pynetdicom.put_back(took)
        return None

    def _received(self, size: int, end: float) -> bytes:
        """Receive so many bytes, or those that come in time."""
        connection, got = self._socket, b""
        patience = connection.gettimeout()
        try:
            while len(got) < size and (left := end - time.monotonic()) > 0:
                connection.settimeout(left)
                acknowledge_at_once(connection)
                more = connection.recv(size - len(got))
                if not more:
                    break
                got += more
        except TimeoutError:
            pass
        finally:
            connection.settimeout(patience)
        return got


def _status(pdu: bytes, message_id: int) -> int | None:
    """Read the status of a C-STORE-RSP that is whole in one PDU and answers this message; None if it is another."""
    whole = len(pdu) > 12 and int.from_bytes(pdu[6:10], "big") == len(pdu) - 10
    said = _elements(pdu[12:]) if whole and pdu[11] == _LAST_OF_COMMAND else {}
    is_answer = said.get(_COMMAND_FIELD) == _C_STORE_RSP and said.get(_RESPONDED_TO) == message_id
    return said.get(_STATUS) if is_answer else None


def _pdv(context: int, control: int, size: int) -> tuple[int, ...]:
    return _P_DATA, 0, size + 6, size + 2, context, control


def _pdu(context: int, control: int, content: bytes) -> bytes:
    return _PDV.pack(*_pdv(context, control, len(content))) + content


def _request(sop_class: str, instance: str, message_id: int) -> bytes:
    """Encode a C-STORE-RQ (PS3.7 Table 9.3-1), in Implicit VR Little Endian as every command."""
    elements = (
        (0x0002, _uid(sop_class)),
        (_COMMAND_FIELD, struct.pack("<H", _C_STORE_RQ)),
        (0x0110, struct.pack("<H", message_id)),
        (0x0700, struct.pack("<H", _LOW)),
        (0x0800, struct.pack("<H", _HAS_DATA_SET)),
        (0x1000, _uid(instance)),
    )
    encoded = b"".join(_COMMAND.pack(0, number, len(value)) + value for number, value in elements)
    return _COMMAND.pack(0, 0, 4) + struct.pack("<I", len(encoded)) + encoded


def _uid(uid: str) -> bytes:
    value = uid.encode("ascii")
    return value + b"\0" * (len(value) % 2)


def _elements(command: bytes) -> dict[int, int]:
    """Elements of group 0000 that are numbers of two bytes."""
    found, at = {}, 0
    while at + _COMMAND.size <= len(command):
        _, number, length = _COMMAND.unpack_from(command, at)
        at += _COMMAND.size
        if length == 2:
            found[number] = int.from_bytes(command[at : at + 2], "little")
        at += length
    return found
