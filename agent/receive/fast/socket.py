"""What stands between the network and pynetdicom while an association is established.

It runs in pynetdicom's reactor thread, which asks it whether there is something to read. In state Sta6 it answers plain
C-STOREs meanwhile, for as long as they come, and says yes only for what is pynetdicom's.
"""

from __future__ import annotations

import os
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any, Final

from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.service_class import StorageServiceClass
from pynetdicom.sop_class import uid_to_service_class
from pynetdicom.transport import AssociationSocket

from agent.domain.identifiers import is_uid
from agent.receive.bounds import PDU_SECONDS, Bounds, TooSlowError
from agent.receive.connection import MAXIMUM_PDU, BoundedSocket
from agent.receive.fast.buffers import Buffers
from agent.receive.fast.command import StoreCommand, store_response
from agent.receive.fast.messages import Messages, Store
from agent.receive.fast.stream import DataStream, MalformedError
from agent.receive.spooling import Arriving, SpoolingProvider
from agent.receive.waiting import LOOK_SECONDS, WakeUp

_ESTABLISHED: Final = "Sta6"  # PS3.8 Table 9-10
_LEAST_READ: Final = 1 << 16
"""With less room than this left, a buffer is full: short reads cost as much as long ones."""
_CLOSED, _MALFORMED = "Evt17", "Evt19"  # PS3.8 Table 9-9

Keep = Callable[[Any, StoreCommand, Arriving], tuple[int, Callable[[], None]]]
"""Makes a data set of an association durable and recorded; returns the DIMSE status to answer, and what to do then."""


class FastSocket(BoundedSocket):
    """A `BoundedSocket` that serves C-STOREs itself.

    Parameters
    ----------
    provider
        The association's DIMSE provider: takes every other message, and discards what never became whole.
    keep
        What is done with a whole data set.
    """

    def __init__(
        self,
        plain: AssociationSocket,
        wake_up: WakeUp,
        bounds: Bounds,
        provider: SpoolingProvider,
        buffers: Buffers,
        keep: Keep,
    ) -> None:
        super().__init__(plain, wake_up, bounds)
        self._provider, self._buffers, self._keep = provider, buffers, keep
        self._stream = DataStream(MAXIMUM_PDU)
        self._messages = Messages(self)
        self._plain_contexts: dict[int, tuple[str, str] | None] = {}
        self._pdus = 0
        self._view: memoryview | None = None
        """What is read into; pieces of it are borrowed until it is settled."""
        self._rest_of_view = memoryview(b"")
        self._held: memoryview | None = None
        self._is_plain = not isinstance(self.socket, ssl.SSLSocket)

    @property
    def ready(self) -> bool:
        """Whether there is something for pynetdicom to read; C-STOREs are served meanwhile."""
        if self._is_aborted:
            return super().ready
        if self._stream.foreign:
            return True
        if self.assoc.dul.state_machine.current_state != _ESTABLISHED:
            return super().ready
        try:
            return self._serve()
        except (MalformedError, TooSlowError):
            self._provider.discard_all()
            self.event_queue.put(_MALFORMED)
        except (OSError, ValueError):  # the peer is gone, too slow, or another thread closed the connection
            self.event_queue.put(_CLOSED)
        return False

    @property
    def is_inside_message(self) -> bool:
        """Whether the peer owes us the rest of a message."""
        return self._stream.is_inside or self._messages.is_inside or super().is_inside_message

    def begin(self, command: StoreCommand, context_id: int) -> Arriving | None:
        """Open a file for a data set; None where anything about the command is not as negotiated."""
        if context_id not in self._plain_contexts:
            self._plain_contexts[context_id] = self._plain_context(context_id)
        found = self._plain_contexts[context_id]
        if found is None or command.sop_class_uid != found[0] or not is_uid(command.sop_instance_uid):
            return None
        return self._provider.open(command.sop_instance_uid, *found)

    def finish(self, store: Store) -> None:
        """Keep a whole data set, and answer."""
        status, tell = self._keep(self.assoc, store.command, store.arriving)
        store.arriving.close()
        most = self.assoc.requestor.maximum_length or 0
        self._answer(store_response(store.command, store.context_id, status, most))
        tell()

    def pass_on(self, primitive: P_DATA) -> bool:
        """Give a value of another message to pynetdicom; says whether the message is whole."""
        self._provider.receive_primitive(primitive)
        return self._provider.message is None

    def _serve(self) -> bool:
        until, is_busy = time.monotonic() + LOOK_SECONDS, False
        while self.event_queue.empty() and self.provider_queue.empty() and not self.assoc.dul._kill_thread:
            now = time.monotonic()
            if self._stream.is_inside and now > self._due:
                raise TimeoutError(f"a PDU is not whole after {PDU_SECONDS:g} s")
            if now > until:
                self._settle()
                return False
            # in the middle of a message more has come in the meantime, as a rule: nobody asks first
            if not (self._read() if is_busy else self._can_read() and self._read()):
                if not is_busy:
                    self._settle()
                    return False
                is_busy = False
                continue
            self.assoc.dul._idle_timer.restart()
            is_busy = self._is_plain and self.is_inside_message
            if self._stream.foreign:
                return True
        self.wake_up.answer()
        return False

    def _answer(self, encoded: bytes) -> None:
        """Send an answer: in one call of the kernel's if it takes it all, which it nearly always does."""
        connection, sent = self.socket, 0
        if connection is not None and not isinstance(connection, ssl.SSLSocket):
            try:
                sent = os.write(connection.fileno(), encoded)
            except BlockingIOError:
                sent = 0
            except OSError:
                self.event_queue.put(_CLOSED)
                return
        if sent < len(encoded):
            self.send(encoded[sent:])

    def _can_read(self) -> bool:
        """Wait for something to read; False where there is something else to do, or nothing."""
        connection = self.socket
        if connection is None:
            raise ConnectionError("the connection is closed")
        if isinstance(connection, ssl.SSLSocket) and connection.pending():
            return True
        return connection.fileno() in self._poll(connection.fileno())

    def _read(self) -> bool:
        """Read what is there, once, and do what it asks for; says whether there was something."""
        connection = self.socket
        if connection is None:
            raise ConnectionError("the connection is closed")
        if self._view is None:
            self._view = self._rest_of_view = self._buffers.take()
        view = self._rest_of_view
        try:
            count = _receive(connection, view)
        except BlockingIOError:
            return False
        if not count:
            raise ConnectionError("the peer closed the connection")
        self._pace.received(count)
        # a sender with Nagle's algorithm waits for this acknowledgement before each last, short segment
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        self._take(view[:count])
        self._rest_of_view = view[count:]
        if len(self._rest_of_view) < _LEAST_READ or not self._messages.is_inside:
            self._settle()
        if self._stream.pdus != self._pdus or not self._stream.is_inside:
            self._pdus, self._due = self._stream.pdus, time.monotonic() + PDU_SECONDS
        return True

    def _take(self, received: memoryview) -> None:
        for piece in self._stream.pieces(received):
            if piece is None:
                self._messages.end_pdu()
            else:
                self._messages.take(piece)

    def _settle(self) -> None:
        """Be done with what was read, and give buffers back, but the last one while it is being hashed.

        Another thread hashes only while this association is the only one here that receives: with more, every core has
        one, and to hand over costs without a gain.
        """
        mine = (self._view is not None) + (self._held is not None)
        still_used = self._messages.settle(self._buffers.hashing if self._buffers.lent <= mine else None)
        self._buffers.give_back(self._held)
        self._held = self._view if still_used else None
        if not still_used:
            self._buffers.give_back(self._view)
        self._view = None

    def _received(self, count: int) -> bytearray:
        """Give pynetdicom first what was read of its PDUs already."""
        head, self._stream.foreign = self._stream.foreign[:count], self._stream.foreign[count:]
        return bytearray(head) + super()._received(count - len(head)) if count > len(head) else bytearray(head)

    def _plain_context(self, context_id: int) -> tuple[str, str] | None:
        """Abstract and transfer syntax of a context in which we are the SCP of storage."""
        context = self.assoc._accepted_cx.get(context_id)
        if context is None or not context.as_scp:
            return None
        abstract_syntax = str(context.abstract_syntax)
        if uid_to_service_class(abstract_syntax) is not StorageServiceClass:
            return None
        return abstract_syntax, str(context.transfer_syntax[0])


def _receive(connection: socket.socket, view: memoryview) -> int:
    """Read once. Without TLS by the descriptor: the socket's own way, with its timeout, asks the kernel twice.

    Raises
    ------
    BlockingIOError
        There is nothing.
    """
    if isinstance(connection, ssl.SSLSocket):
        return connection.recv_into(view)
    return os.readv(connection.fileno(), [view])
