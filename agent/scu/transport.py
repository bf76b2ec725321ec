"""Below an association: a socket that remembers why it failed, and a witness of what crossed the wire."""

from __future__ import annotations

import contextlib
import socket
from typing import Any, Final

from pynetdicom import evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.pdu import A_ABORT_RQ, A_ASSOCIATE_RJ
from pynetdicom.transport import T_CONNECT, AddressInformation, AssociationSocket

from agent.domain.errors import ArchiveError
from agent.scu.config import ScuConfig

PAUSE_SECONDS: Final = 0.0005
"""Of pynetdicom's reactors; its default of 1 ms doubles the time of small objects."""
IDLE_PAUSE_SECONDS: Final = 0.01
_ABORT_SOURCES: Final = {0: "its application", 2: "its protocol layer"}  # PS3.8 Table 9-26
REQUEST: Final = "A-ASSOCIATE-RQ"
_ABORTED_REMEDY: Final = "see its log; it may not know our AE title (Orthanc: an entry of DicomModalities)"
_QUICK_ACKNOWLEDGE: Final[int | None] = getattr(socket, "TCP_QUICKACK", None)  # Linux only


class NoConnectionError(ArchiveError):
    """TCP or TLS did not come about."""


class AssociationGoneError(ArchiveError):
    """The association is of no more use: a request got no valid answer in time, and we aborted it."""


class AbortedError(AssociationGoneError):
    """The archive ended the association while something was under way; a new one may succeed."""


def acknowledge_at_once(connection: socket.socket | None) -> None:
    """Make Linux acknowledge what is received next without delay.

    DCMTK and Orthanc write the head and the body of a PDU apart and leave Nagle's algorithm on: with our kernel's
    delayed acknowledgement each response would take 40 ms. Linux forgets the option, so it is set each time, and what
    is only peeked at is not acknowledged.
    """
    if _QUICK_ACKNOWLEDGE is not None and connection is not None:
        connection.setsockopt(socket.IPPROTO_TCP, _QUICK_ACKNOWLEDGE, 1)


class Witness:
    """What was seen of one association, in the order that decides whose fault it was."""

    def __init__(self, scu: ScuConfig, answer_seconds: float) -> None:
        self.scu = scu
        self.answer_seconds = answer_seconds
        self.connect_error: OSError | None = None
        self.rejection: tuple[int, int, int] | None = None
        """Result, source and reason of A-ASSOCIATE-RJ as it was on the wire. Where an archive rejects and closes faster
        than pynetdicom's other thread looks, pynetdicom itself takes it for a failed connection.
        """
        self._abort_source: int | None = None
        self._aborted_by_us = False

    def received(self, event: evt.Event) -> None:
        """Note a rejection, and an A-ABORT of the peer's unless ours was first."""
        if isinstance(event.pdu, A_ASSOCIATE_RJ):
            self.rejection = (event.pdu.result or 0, event.pdu.source or 0, event.pdu.reason_diagnostic or 0)
        if isinstance(event.pdu, A_ABORT_RQ) and self._abort_source is None and not self._aborted_by_us:
            self._abort_source = event.pdu.source

    def sent(self, event: evt.Event) -> None:
        """Note an A-ABORT of ours: pynetdicom sends one when an answer is late or invalid."""
        self._aborted_by_us = self._aborted_by_us or isinstance(event.pdu, A_ABORT_RQ)

    def cause_of(self, archive: str, request: str, seconds: float | None = None) -> AssociationGoneError:
        """Make the error of a request that got no answer.

        Parameters
        ----------
        seconds
            How long was waited, where it is not `answer_seconds`.
        """
        if self._abort_source is not None:
            source = _ABORT_SOURCES.get(self._abort_source, "an unknown source")
            cause = f"{archive} aborted the association ({source}) on {request}"
            return AbortedError(cause, remedy=_ABORTED_REMEDY)
        if self._aborted_by_us:
            waited = seconds or self.answer_seconds
            cause = f"{archive} gave no valid answer to {request} within {waited:g} s"
            return AssociationGoneError(cause, remedy="is it a DICOM archive, and not overloaded?")
        remedy = (
            "see its log; does one of the two expect TLS, and the other not?" if request == REQUEST else "see its log"
        )
        return AbortedError(f"{archive} closed the connection on {request}", remedy=remedy)


class Entity(ApplicationEntity):
    """pynetdicom's application entity with our time-outs and socket."""

    def __init__(self, scu: ScuConfig, witness: Witness) -> None:
        super().__init__(scu.ae_title)
        self._witness = witness
        self.connection_timeout = scu.timeouts.connect
        self.acse_timeout = scu.timeouts.negotiate
        self.dimse_timeout = witness.answer_seconds
        self.network_timeout = witness.answer_seconds + scu.timeouts.negotiate

    def _create_socket(self, assoc: Association, address: AddressInformation, tls_args: Any) -> AssociationSocket:
        assoc.dul._run_loop_delay = PAUSE_SECONDS
        assoc._reactor_checkpoint.clear()  # see `association._reactor_held`
        made = ReturningSocket(assoc, address=address)
        made.witness = self._witness
        made.tls_args = tls_args
        return made


class ReturningSocket(AssociationSocket):
    """A socket that keeps the reason why it could not connect, never waits for ever, sends at once, and takes back.

    What was received past pynetdicom (`straight`) and is not for us can be put back: pynetdicom then receives it first.
    """

    witness: Witness

    def __init__(self, assoc: Association, *, address: AddressInformation) -> None:
        super().__init__(assoc, address=address)
        self._returned = bytearray()

    def put_back(self, content: bytes) -> None:
        """Let the next `recv` give this first."""
        self._returned += content

    @property
    def ready(self) -> bool:
        """Whether there is something to receive."""
        return bool(self._returned) or bool(super().ready)

    def connect(self, primitive: T_CONNECT) -> None:
        """Connect, and TLS, as `AssociationSocket.connect` does.

        Without TCP_NODELAY Nagle's algorithm holds back the last piece of each object for the peer's delayed
        acknowledgement, 40 ms. Without a time-out a peer that stops reading would hold the sending thread for ever.
        """
        try:
            self._connect(primitive.address_info.as_tuple)
        except OSError as error:
            self.witness.connect_error = error
            self._shutdown_socket()
            self.socket = None
            primitive.result = "Evt17"  # transport connection closed
        else:
            self._is_connected = True
            primitive.result = "Evt2"  # transport connection confirmed
        self.provider_queue.put(primitive)
        self._ready.set()

    def recv(self, nr_bytes: int) -> bytearray:
        """Receive, acknowledging at once; what was put back comes first."""
        acknowledge_at_once(self.socket)
        first = self._returned[:nr_bytes]
        del self._returned[:nr_bytes]
        return first + super().recv(nr_bytes - len(first)) if len(first) < nr_bytes else first

    def _shutdown_socket(self) -> None:
        """Close in any case: pynetdicom leaves the descriptor open where the peer has closed before us."""
        connection = self.socket
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _connect(self, address: Any) -> None:
        connection = self.socket
        if connection is None:
            raise ValueError("a socket connects once")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.tls_args:
            context, host = self.tls_args
            connection = self.socket = context.wrap_socket(connection, server_hostname=host)
        connection.settimeout(self.assoc.connection_timeout)
        connection.connect(address)
        connection.settimeout(self.assoc.network_timeout)
        self.assoc.requestor.address_info = AddressInformation.from_tuple(connection.getsockname())
