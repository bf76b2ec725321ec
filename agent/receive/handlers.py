"""What happens at each event of an association."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pynetdicom import evt
from pynetdicom.pdu_primitives import A_RELEASE

from agent.domain.errors import UNREADABLE, LedgerError
from agent.receive.admission import Admission, congestion
from agent.receive.associations import Associations, shown
from agent.receive.bounds import AlertHandler, Bounds, Doorkeeper, unheard
from agent.receive.commitment import CommitmentHandler, nobody_asked, report_of
from agent.receive.connection import BoundedSocket, take_over
from agent.receive.fast.buffers import Buffers
from agent.receive.fast.command import StoreCommand
from agent.receive.fast.socket import FastSocket
from agent.receive.requests import Requests
from agent.receive.services import Services
from agent.receive.spooling import SpoolingProvider
from agent.receive.status import PROCESSING_FAILURE, SUCCESS
from agent.receive.storing import Storing
from agent.store.instance_files import InstanceFiles
from agent.worklist.grouping import GroupBy
from agent.worklist.ledger import Ledger


@dataclass(frozen=True, kw_only=True)
class Handlers:
    """The handlers of one listener, and which of its associations are open.

    Handlers of one association run on two threads: pynetdicom's reactor and the association's own.
    """

    ledger: Ledger
    files: InstanceFiles
    admission: Admission
    owner: str
    group_by: GroupBy
    bounds: Bounds
    doorkeeper: Doorkeeper
    is_fast: bool = True
    """Whether C-STOREs take the fast path."""
    on_commitment: CommitmentHandler = nobody_asked
    on_alert: AlertHandler = unheard
    services: Services = field(default_factory=Services)
    """What is offered besides storage."""
    _associations: Associations = field(init=False, repr=False)
    _storing: Storing = field(init=False, repr=False)
    _buffers: Buffers = field(default_factory=Buffers, init=False, repr=False)
    _requests: Requests = field(default_factory=Requests, init=False, repr=False)

    def __post_init__(self) -> None:
        associations = Associations(ledger=self.ledger, admission=self.admission, owner=self.owner)
        storing = Storing(ledger=self.ledger, files=self.files, group_by=self.group_by, associations=associations)
        object.__setattr__(self, "_associations", associations)
        object.__setattr__(self, "_storing", storing)

    def bound(self) -> list[Any]:
        """List the handlers as pynetdicom takes them."""
        return [
            (evt.EVT_CONN_OPEN, self.on_connection),
            (evt.EVT_REQUESTED, self.on_request),
            (evt.EVT_ESTABLISHED, self.on_established),
            (evt.EVT_ACSE_SENT, self.on_answer),
            (evt.EVT_RELEASED, self.on_released),
            (evt.EVT_ABORTED, self.on_aborted),
            (evt.EVT_CONN_CLOSE, self.on_closed),
            (evt.EVT_C_ECHO, self.on_echo),
            (evt.EVT_C_STORE, self.on_store),
            (evt.EVT_N_EVENT_REPORT, self.on_event_report),
            *self.services.handlers,
        ]

    def on_connection(self, event: Any) -> None:
        """Put our bounds and our way to disk under the association, before its threads start."""
        provider = event.assoc.dimse = SpoolingProvider(event.assoc, self.files)
        if self.is_fast:
            event.assoc.dul._decode_pdu = self._requests.decoder(event.assoc.dul._decode_pdu)
        take_over(
            event.assoc,
            lambda plain, wake_up: (
                FastSocket(plain, wake_up, self.bounds, provider, self._buffers, self._storing.store)
                if self.is_fast
                else BoundedSocket(plain, wake_up, self.bounds)
            ),
        )

    def on_request(self, event: Any) -> None:
        """Admit or reject; the peer gets the standard's code, the log the true cause."""
        request, host = event.assoc.requestor.primitive, event.assoc.requestor.address
        self.doorkeeper.leave(host, event.assoc.requestor.port)
        calling, called = str(request.calling_ae_title).strip(), str(request.called_ae_title).strip()
        try:
            rejection = self._associations.admit(event.assoc, calling, called, host)
        except LedgerError as error:
            rejection = congestion(str(error))
        if rejection is not None:
            log = self._associations.log(event.assoc)
            log.warning("association rejected", cause=rejection.cause, calling=shown(calling), host=host)
            self.on_alert(shown(calling), host, f"association rejected: {rejection.alert}")
            event.assoc.acse.send_reject(rejection.result, rejection.source, rejection.diagnostic)
            event.assoc.kill()

    def on_established(self, event: Any) -> None:
        """Say who sends."""
        requestor = event.assoc.requestor
        calling = str(requestor.primitive.calling_ae_title).strip()
        self._associations.log(event.assoc).info("association accepted", calling=shown(calling), host=requestor.address)

    def on_answer(self, event: Any) -> None:
        """Note that we agree to a release: the connection may close before pynetdicom says that it is released."""
        if isinstance(event.primitive, A_RELEASE) and event.primitive.result is not None:
            self._associations.agree_to_release(event.assoc)

    def on_released(self, event: Any) -> None:
        """Note that the peer was done."""
        self._associations.end_as(event.assoc, "released")

    def on_aborted(self, event: Any) -> None:
        """Note that the peer or we broke off: studies that it was sending wait anew."""
        self._associations.end_as(event.assoc, "aborted")

    def on_closed(self, event: Any) -> None:
        """Clean up after a connection that is gone, in whatever way."""
        self.doorkeeper.leave(event.assoc.requestor.address, event.assoc.requestor.port)
        if event.assoc.requestor.primitive is None:
            event.assoc.dul.to_user_queue.put(None)  # its thread need not wait for a request any more
        self._clean(event.assoc)

    def sweep(self) -> None:
        """Clean up after associations whose threads ended without a word: their rows must not stay open."""
        for association in self._associations.dead():
            self._clean(association)

    def close(self) -> None:
        """Give back what associations shared; none is left."""
        self.sweep()
        self._buffers.close()

    def on_echo(self, _event: Any) -> int:
        """C-ECHO (PS3.4 Annex A)."""
        return SUCCESS

    def on_event_report(self, event: Any) -> tuple[int, None]:
        """Pass a report of storage commitment on (PS3.4 J.3.3)."""
        try:
            report = report_of(event)
        except UNREADABLE as error:
            log = self._associations.log(event.assoc)
            log.warning("report of storage commitment cannot be read", cause=type(error).__name__)
            return PROCESSING_FAILURE, None
        status = self.on_commitment(report)
        self._associations.log(event.assoc).info(
            "storage commitment reported",
            transaction=shown(report.transaction_uid),
            committed=len(report.committed),
            failed=len(report.failed),
            status=f"{status:04X}",
        )
        return status, None

    def on_store(self, event: Any) -> int:
        """Answer a C-STORE that took the stock path."""
        request = event.request
        command = StoreCommand(
            sop_class_uid=str(request.AffectedSOPClassUID),
            sop_instance_uid=str(request.AffectedSOPInstanceUID),
            message_id=request.MessageID,
            has_originator=request.MoveOriginatorMessageID is not None,
        )
        status, tell = self._storing.store(event.assoc, command, request._dataset_file)
        tell()
        return status

    def _clean(self, association: Any) -> None:
        provider = association.dimse
        if isinstance(provider, SpoolingProvider):
            provider.discard_all()
        if isinstance(association.dul.socket, BoundedSocket):
            association.dul.socket.wake_up.close()
        self._associations.end(association)
