"""The connection of an association: bounded in size and time, acknowledged at once, waited for without looking.

pynetdicom buffers whatever length a PDU claims (up to 4 GiB), waits for ever for the rest of it, and reads 4,096 bytes
at a time. Nothing of its protocol is changed here.
"""

from __future__ import annotations

import contextlib
import queue
import select
import socket
import ssl
import struct
import time
from collections.abc import Callable
from typing import Any, Final

import structlog
from pynetdicom.acse import ACSE
from pynetdicom.fsm import StateMachine
from pynetdicom.transport import AssociationSocket

from agent.receive.bounds import PDU_SECONDS, Bounds, Pace, TooSlowError
from agent.receive.waiting import LOOK_SECONDS, Checkpoint, RingingQueue, WakeUp

MAXIMUM_PDU: Final = 131_072
"""Maximum Length that we negotiate (PS3.8 Annex D.1), bytes."""
_MOST_ASSOCIATION_BYTES: Final = 1 << 20
"""Longest association PDU: 128 contexts of all transfer syntaxes are 200 KB."""
_SEND_SECONDS: Final = 60.0
_HEADER: Final = struct.Struct(">BBL")  # PS3.8 Table 9-11 and others: type, reserved, length
_DATA: Final = 0x04
_UNKNOWN: Final = 0x00
_WAITING: Final = frozenset({"Sta2", "Sta3", "Sta6"})
"""States of PS3.8 Table 9-10 in which nothing happens until the peer or the association does something."""


_REQUESTED: Final = "Sta2"
"""State in which the ARTIM timer runs over a request (PS3.8 Table 9-10)."""
_REST_SECONDS: Final = 1.0
_PAUSE_SECONDS: Final = 0.001
"""Between two looks where nothing tells that there is something to do; pynetdicom's own."""
_A_ABORT: Final = bytes((7, 0, 0, 0, 0, 4, 0, 0, 2, 0))
_DRAIN_BYTES: Final = 1 << 16
_OVER: Final = "Sta13"
_OURS: Final = frozenset({"Evt7", "Evt8", "Evt9", "Evt11", "Evt14", "Evt15"})
"""Primitives of our side (PS3.8 Table 9-9)."""
MakeSocket = Callable[[AssociationSocket, WakeUp], "BoundedSocket"]
"""Puts a socket of ours around pynetdicom's."""


def take_over(association: Any, make_socket: MakeSocket) -> None:
    """Put our socket and our way of waiting under an association whose threads have not started."""
    dul, dimse = association.dul, association.dimse
    wake_up = WakeUp()
    checkpoint = Checkpoint(lambda: not (dimse.msg_queue.empty() and dul.to_user_queue.empty()))
    association._reactor_checkpoint = checkpoint
    dul._run_loop_delay = 0.0  # it sleeps so long after every look; `BoundedSocket.ready` waits, and for what comes
    dimse.msg_queue = RingingQueue(checkpoint.ring)
    dul.to_user_queue = RingingQueue(checkpoint.ring)
    dul.to_provider_queue = RingingQueue(wake_up.ring)
    dul.socket = make_socket(dul.socket, wake_up)
    dul.state_machine = EnduringStateMachine(dul, dul.state_machine.current_state)
    association.acse = EnduringACSE(association)


class EnduringStateMachine(StateMachine):
    """A state machine that never leaves an open connection behind.

    pynetdicom's ends its thread over an event that Table 9-10 does not have, and leaves the connection open: it is
    enough that a peer breaks the protocol while an answer of ours is on its way.
    """

    def __init__(self, dul: Any, state: str) -> None:
        super().__init__(dul)
        self.current_state = state

    def do_action(self, event: str) -> None:
        """Do what the table says; overlook an answer of ours to an association that is over."""
        if event in _OURS and self.current_state == _OVER:
            with contextlib.suppress(queue.Empty):
                self.dul.to_provider_queue.get(block=False)
            return
        try:
            super().do_action(event)
        except Exception as error:  # noqa: BLE001 - it would end the thread, and leave the peer without a word
            cause = type(error).__name__
            structlog.get_logger("receive").warning("association broken", event_of_table=event, cause=cause)
            self.dul.kill_dul()
            if isinstance(self.dul.socket, BoundedSocket):
                self.dul.socket.abort()
        if self.dul._kill_thread and self.dul.socket is not None:
            self.dul.socket.close()


class EnduringACSE(ACSE):
    """A negotiation that never leaves an open connection behind.

    pynetdicom's ends the association's thread over a presentation context without a transfer syntax (PS3.8 9.3.2.2
    wants one at least), and the other thread holds the connection of a peer that waits for an answer.
    """

    def negotiate_association(self) -> None:
        """Negotiate; abort where the request cannot be understood."""
        try:
            super().negotiate_association()
        except Exception as error:  # noqa: BLE001 - as above
            log = structlog.get_logger("receive")
            log.warning("association broken", during="negotiation", cause=type(error).__name__)
            self.assoc.abort(block=False)
            self.assoc.kill()


class BoundedSocket(AssociationSocket):
    """An `AssociationSocket` that takes over from pynetdicom's own before its threads start."""

    def __init__(self, plain: AssociationSocket, wake_up: WakeUp, bounds: Bounds) -> None:
        self.__dict__.update(plain.__dict__)
        self.wake_up = wake_up
        self._rest = 0
        self._poller, self._polled = select.poll(), (-1, -1)
        self._due = 0.0
        self._is_aborted = False
        self._artim = time.monotonic() + bounds.associate_seconds
        self._pace = Pace(bounds.min_bytes_per_second)
        if self.socket is None:
            raise ConnectionError("the peer is gone already")
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self.socket.settimeout(_SEND_SECONDS)

    @property
    def ready(self) -> bool:
        """Whether there is something to read; while nothing else is to be done, waits for it a little."""
        connection = self.socket
        if connection is None or not self._is_connected:
            time.sleep(_PAUSE_SECONDS)
            return False
        if self._is_aborted:
            self._is_aborted = False
            self._drain(connection)
            self.event_queue.put("Evt17")
            return False
        if isinstance(connection, ssl.SSLSocket) and connection.pending():
            return True
        try:
            descriptor = connection.fileno()
            readable = self._poll(descriptor)
        except TooSlowError:
            self.event_queue.put("Evt19")
            return False
        except (OSError, ValueError):  # closed by another thread
            self.event_queue.put("Evt17")
            return False
        return descriptor in readable

    def _poll(self, descriptor: int) -> list[int]:
        is_due = not (self.event_queue.empty() and self.provider_queue.empty())
        idle = not is_due and self.assoc.dul.state_machine.current_state in _WAITING
        bell = self.wake_up.fileno() if idle else -1
        if self._polled != (descriptor, bell):
            self._poller = select.poll()  # no limit of 1,024 descriptors, as `select` has
            for number in {descriptor, bell} - {-1}:
                self._poller.register(number, select.POLLIN)
            self._polled = (descriptor, bell)
        started = time.monotonic()
        patience = 0.0 if is_due else LOOK_SECONDS if idle else _PAUSE_SECONDS
        found = [number for number, _ in self._poller.poll(patience * 1000)]
        if bell in found or not idle:
            self.wake_up.answer()
        if self.is_inside_message:
            self._pace.waited(time.monotonic() - started)
        return found

    @property
    def is_inside_message(self) -> bool:
        """Whether the peer owes us the rest of a message."""
        return self.assoc.dimse.message is not None

    def recv(self, nr_bytes: int) -> bytearray:
        """Read exactly `nr_bytes`, fewer only at the end of the stream.

        pynetdicom asks for the six bytes of a PDU's header, then for its body. A PDU over our maximum reads as one of
        unknown type, for which the state machine aborts (PS3.8 Table 9-10, event 19) before anything is allocated.

        Raises
        ------
        TimeoutError
            The PDU does not arrive in time.
        """
        is_body = self._rest == nr_bytes and nr_bytes > 0
        if not is_body:
            self._due = self._due_in(self.assoc.dul.state_machine.current_state)
        received = self._received(nr_bytes)
        self._rest = 0
        if not is_body and len(received) == _HEADER.size == nr_bytes:
            pdu_type, _, length = _HEADER.unpack(received)
            if length > (MAXIMUM_PDU if pdu_type == _DATA else _MOST_ASSOCIATION_BYTES):
                received[0] = _UNKNOWN
            self._rest = length
        return received

    def _due_in(self, state: str) -> float:
        """Until when a PDU that begins now has to be whole; after our A-ABORT nobody waits for the rest of one."""
        if state == _OVER:
            return time.monotonic() + _REST_SECONDS
        return self._artim if state == _REQUESTED else time.monotonic() + PDU_SECONDS

    def _received(self, count: int) -> bytearray:
        connection = self.socket
        if connection is None:
            raise ConnectionError("the connection is closed")
        buffer = bytearray(count)
        view, at = memoryview(buffer), 0
        while at < count:
            self._await(connection, f"{at} of {count} bytes of a PDU came in time")
            read = connection.recv_into(view[at:])
            if not read:
                break
            at += read
            self._pace.received(read)
        view.release()
        # a sender with Nagle's algorithm waits for this acknowledgement before each last, short segment
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        del buffer[at:]
        return buffer

    def send(self, bytestream: bytes) -> None:
        """Send a PDU, and note that an A-ABORT was the last."""
        super().send(bytestream)
        self._is_aborted = self._is_aborted or bytestream[:1] == _A_ABORT[:1]

    def abort(self) -> None:
        """Send an A-ABORT of the provider's (PS3.8 Table 9-26), whatever the state machine thinks."""
        connection = self.socket
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.sendall(_A_ABORT)
                self._is_aborted = True

    def _drain(self, connection: socket.socket) -> None:
        """Read on for a moment after an A-ABORT, of which the peer may still be ignorant.

        To close a connection before all is read resets it, and TCP throws away what the peer has not read: our A-ABORT.
        """
        until = time.monotonic() + _REST_SECONDS
        with contextlib.suppress(OSError, ValueError):  # it is gone, or was closed by another thread
            connection.shutdown(socket.SHUT_WR)
            while (left := until - time.monotonic()) > 0:
                connection.settimeout(left)
                if not connection.recv(_DRAIN_BYTES):
                    return

    def _shutdown_socket(self) -> None:
        """Close in any case: pynetdicom leaves the descriptor open where the peer has closed before us."""
        connection, is_aborted, self._is_aborted = self.socket, self._is_aborted, False
        if connection is not None:
            if is_aborted:
                self._drain(connection)
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _await(self, connection: socket.socket, told: str) -> None:
        """Wait for more of a PDU, no longer than until it is due.

        Raises
        ------
        TimeoutError
            Nothing came.
        """
        if isinstance(connection, ssl.SSLSocket) and connection.pending():
            return
        poll = select.poll()
        poll.register(connection, select.POLLIN)
        while (started := time.monotonic()) < self._due:
            found = poll.poll(min(self._due - started, LOOK_SECONDS) * 1000)
            if self.is_inside_message:
                self._pace.waited(time.monotonic() - started)
            if found:
                return
        raise TimeoutError(f"only {told}")
