"""What happens at each event of an association."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from typing import Any

import structlog
from pynetdicom import evt

from agent.domain.errors import AgentError, IdentifierError, MismatchError
from agent.domain.study import InstanceHeader
from agent.receive.admission import Admission
from agent.receive.spooling import Arriving, SpoolingProvider
from agent.receive.status import SUCCESS, status_of
from agent.store.instance_files import IncomingFile, InstanceFiles, read_part_ten_header
from agent.worklist import arrivals
from agent.worklist.arrivals import Recorded
from agent.worklist.grouping import GroupBy
from agent.worklist.ledger import Ledger


@dataclass(frozen=True, kw_only=True)
class Handlers:
    """The handlers of one listener. Each association carries its ledger row as `steatosis_row`."""

    ledger: Ledger
    files: InstanceFiles
    admission: Admission
    owner: str
    group_by: GroupBy

    def bound(self) -> list[Any]:
        """List the handlers as pynetdicom takes them."""
        return [
            (evt.EVT_CONN_OPEN, self.on_connection),
            (evt.EVT_REQUESTED, self.on_request),
            (evt.EVT_ESTABLISHED, self.on_established),
            (evt.EVT_RELEASED, self.on_released),
            (evt.EVT_ABORTED, self.on_aborted),
            (evt.EVT_CONN_CLOSE, self.on_closed),
            (evt.EVT_C_ECHO, self.on_echo),
            (evt.EVT_C_STORE, self.on_store),
        ]

    def on_connection(self, event: Any) -> None:
        """Write data sets to disk from the first byte on; answer small messages at once."""
        event.assoc.dimse = SpoolingProvider(event.assoc, self.files)
        connection = event.assoc.dul.socket.socket
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def on_request(self, event: Any) -> None:
        """Admit or reject; the peer gets the standard's code, the log the true cause."""
        request, host = event.assoc.requestor.primitive, event.assoc.requestor.address
        log = _log(event).bind(calling=str(request.calling_ae_title), host=host)
        try:
            open_now = arrivals.count_associations(self.ledger, time.time())
        except AgentError as error:
            log.error("association aborted", cause=str(error))  # noqa: TRY400 - the cause says it all
            event.assoc.abort()
            return
        rejection = self.admission.refuse(
            called=str(request.called_ae_title), calling=str(request.calling_ae_title), host=host, open_now=open_now
        )
        if rejection is not None:
            log.warning("association rejected", cause=rejection.cause)
            event.assoc.acse.send_reject(rejection.result, rejection.source, rejection.diagnostic)
            event.assoc.kill()

    def on_established(self, event: Any) -> None:
        """Record the association, so that studies wait while it sends."""
        request, host = event.assoc.requestor.primitive, event.assoc.requestor.address
        calling, called = str(request.calling_ae_title).strip(), str(request.called_ae_title).strip()
        try:
            row = arrivals.open_association(
                self.ledger, owner=self.owner, calling=calling, called=called, host=host, now=time.time()
            )
        except AgentError as error:
            _log(event).error("association aborted", cause=str(error))
            event.assoc.abort()
            return
        event.assoc.steatosis_row = row
        _log(event).info("association accepted", calling=calling, host=host)

    def on_released(self, event: Any) -> None:
        """Note that the peer was done."""
        self._ended(event, "released")

    def on_aborted(self, event: Any) -> None:
        """Note that the peer or we broke off: studies that it was sending wait anew."""
        self._ended(event, "aborted")

    def on_closed(self, event: Any) -> None:
        """Clean up after a connection that is gone, in whatever way."""
        provider = event.assoc.dimse
        if isinstance(provider, SpoolingProvider):
            provider.discard_all()
        self._ended(event, "released" if event.assoc.is_released else "aborted")

    def on_echo(self, _event: Any) -> int:
        """C-ECHO (PS3.4 Annex A)."""
        return SUCCESS

    def on_store(self, event: Any) -> int:
        """Make an instance durable and recorded, then answer."""
        arriving, started = event.request._dataset_file, time.monotonic()
        log = _log(event)
        try:
            header, recorded, size = self._keep(event, arriving)
        except (AgentError, OSError) as error:
            status = status_of(error)
            cause = str(error) if isinstance(error, AgentError) else f"{type(error).__name__}: {error.strerror}"
            log.warning("instance refused", status=f"{status:04X}", cause=cause)
            return status
        log.info(
            "instance stored",
            study=header.study_instance_uid,
            instance=header.sop_instance_uid,
            bytes=size,
            new=recorded.new,
            seconds=round(time.monotonic() - started, 4),
        )
        if recorded.conflict:
            log.warning("another version came first and is scored", instance=header.sop_instance_uid)
        return SUCCESS

    def _keep(self, event: Any, arriving: Arriving | None) -> tuple[InstanceHeader, Recorded, int]:
        """Check and keep a data set. The order is the promise: synced file, then row, then Success."""
        incoming = _incoming(arriving)
        self.files.check_space()
        header, _, _ = read_part_ten_header(incoming.path)
        _check_command(event, header)
        retrieval_id = self._retrieval(event, header)
        stored = self.files.keep(incoming, header)
        if arriving is not None:
            arriving.kept = True
        recorded = arrivals.record_instance(
            self.ledger,
            stored,
            association_id=getattr(event.assoc, "steatosis_row", None),
            group_by=self.group_by,
            now=time.time(),
            retrieval_id=retrieval_id,
        )
        return header, recorded, stored.bytes

    def _retrieval(self, event: Any, header: InstanceHeader) -> int | None:
        """Find the retrieval that a sub-operation of our C-MOVE belongs to."""
        if event.request.MoveOriginatorMessageID is None:
            return None
        return arrivals.open_retrieval(self.ledger, header.study_instance_uid)

    def _ended(self, event: Any, outcome: str) -> None:
        row = getattr(event.assoc, "steatosis_row", None)
        if row is None:
            return
        event.assoc.steatosis_row = None
        try:
            arrivals.close_association(self.ledger, row, outcome=outcome, now=time.time())
        except AgentError as error:
            # its heartbeat ends with this process or with the ledger's absence; then it counts as lost
            structlog.get_logger("receive").warning("association not closed", association=row, cause=str(error))
        level = (
            structlog.get_logger("receive").info if outcome == "released" else structlog.get_logger("receive").warning
        )
        level("association ended", association=row, outcome=outcome)


def _incoming(arriving: Arriving | None) -> IncomingFile:
    if arriving is None:
        raise IdentifierError("the C-STORE came without a data set")
    if arriving.error is not None:
        raise arriving.error
    if arriving.incoming is None:
        raise IdentifierError("the C-STORE came without a data set")
    if arriving.incoming.error is not None:
        raise arriving.incoming.error
    return arriving.incoming


def _check_command(event: Any, header: InstanceHeader) -> None:
    """Compare data set and command (PS3.4 B.2.3: A900)."""
    request = event.request
    for name, said, found in (
        ("SOP Class UID", str(request.AffectedSOPClassUID), header.sop_class_uid),
        ("SOP Instance UID", str(request.AffectedSOPInstanceUID), header.sop_instance_uid),
    ):
        if said != found:
            raise MismatchError(f"{name} is {said!a} in the command and {found!a} in the data set")


def _log(event: Any) -> Any:
    return structlog.get_logger("receive").bind(association=getattr(event.assoc, "steatosis_row", None))
