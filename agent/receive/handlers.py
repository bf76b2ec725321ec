"""What happens at each event of an association."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import structlog
from pynetdicom import evt
from pynetdicom.pdu_primitives import A_RELEASE

from agent.domain.errors import UNREADABLE, AgentError, IdentifierError, LedgerError, MismatchError
from agent.domain.study import InstanceHeader, StoredFile
from agent.receive.admission import Admission, Rejection, congestion, crowded
from agent.receive.bounds import AlertHandler, Bounds, Doorkeeper, unheard
from agent.receive.commitment import CommitmentHandler, nobody_asked, report_of
from agent.receive.commits import Commits
from agent.receive.connection import BoundedSocket, take_over
from agent.receive.fast.buffers import Buffers
from agent.receive.fast.command import StoreCommand
from agent.receive.fast.socket import FastSocket
from agent.receive.requests import Requests
from agent.receive.services import Services
from agent.receive.spooling import Arriving, SpoolingProvider
from agent.receive.status import PROCESSING_FAILURE, SUCCESS, status_of
from agent.store.incoming_file import IncomingFile
from agent.store.instance_files import InstanceFiles
from agent.worklist import arrivals
from agent.worklist.grouping import GroupBy
from agent.worklist.ledger import Ledger
from agent.worklist.recording import Recorded

_LOG: Final = structlog.get_logger("receive")


@dataclass
class _Open:
    """An association that the ledger knows as open."""

    row: int
    released: bool = False
    is_archive: bool | None = None
    """Whether one of our archives calls; None until it was asked."""


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
    commits: Commits = field(init=False, repr=False)
    _open: dict[Any, _Open] = field(default_factory=dict, init=False, repr=False)
    _buffers: Buffers = field(default_factory=Buffers, init=False, repr=False)
    _requests: Requests = field(default_factory=Requests, init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "commits", Commits(self.ledger, self.files, self.group_by))

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
                FastSocket(plain, wake_up, self.bounds, provider, self._buffers, self.store)
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
            rejection = self._admitted(event.assoc, calling, called, host)
        except LedgerError as error:
            rejection = congestion(str(error))
        if rejection is not None:
            log = self._log(event.assoc)
            log.warning("association rejected", cause=rejection.cause, calling=_shown(calling), host=host)
            self.on_alert(_shown(calling), host, f"association rejected: {rejection.alert}")
            event.assoc.acse.send_reject(rejection.result, rejection.source, rejection.diagnostic)
            event.assoc.kill()

    def on_established(self, event: Any) -> None:
        """Say who sends."""
        requestor = event.assoc.requestor
        calling = str(requestor.primitive.calling_ae_title).strip()
        self._log(event.assoc).info("association accepted", calling=_shown(calling), host=requestor.address)

    def on_answer(self, event: Any) -> None:
        """Note that we agree to a release: the connection may close before pynetdicom says that it is released."""
        opened = self._open.get(event.assoc)
        if opened is not None and isinstance(event.primitive, A_RELEASE) and event.primitive.result is not None:
            opened.released = True

    def on_released(self, event: Any) -> None:
        """Note that the peer was done."""
        self._ended(event.assoc, "released")

    def on_aborted(self, event: Any) -> None:
        """Note that the peer or we broke off: studies that it was sending wait anew."""
        self._ended(event.assoc, "aborted")

    def on_closed(self, event: Any) -> None:
        """Clean up after a connection that is gone, in whatever way."""
        self.doorkeeper.leave(event.assoc.requestor.address, event.assoc.requestor.port)
        if event.assoc.requestor.primitive is None:
            event.assoc.dul.to_user_queue.put(None)  # its thread need not wait for a request any more
        self._clean(event.assoc)

    def sweep(self) -> None:
        """Clean up after associations whose threads ended without a word: their rows must not stay open."""
        for association in tuple(self._open):
            if not association.is_alive():
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
            self._log(event.assoc).warning("report of storage commitment cannot be read", cause=type(error).__name__)
            return PROCESSING_FAILURE, None
        status = self.on_commitment(report)
        self._log(event.assoc).info(
            "storage commitment reported",
            transaction=_shown(report.transaction_uid),
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
        status, tell = self.store(event.assoc, command, request._dataset_file)
        tell()
        return status

    def store(
        self, association: Any, command: StoreCommand, arriving: Arriving | None
    ) -> tuple[int, Callable[[], None]]:
        """Make an instance durable and recorded; returns the status to answer, and what tells the log of it."""
        started = time.monotonic()
        try:
            stored, recorded = self._keep(association, command, arriving)
        except (AgentError, OSError) as error:
            status = status_of(error)
            return status, functools.partial(self._tell_refused, association, status, error)
        seconds = round(time.monotonic() - started, 4)
        return SUCCESS, functools.partial(self._tell_stored, association, stored, recorded, seconds)

    def _tell_refused(self, association: Any, status: int, error: Exception) -> None:
        cause = str(error)
        if isinstance(error, OSError):
            cause = f"{type(error).__name__}: {error.strerror}"
        self._log(association).warning("instance refused", status=f"{status:04X}", cause=cause)

    def _tell_stored(self, association: Any, stored: StoredFile, recorded: Recorded, seconds: float) -> None:
        opened = self._open.get(association)
        _LOG.info(
            "instance stored",
            association=None if opened is None else opened.row,
            study=stored.header.study_instance_uid,
            instance=stored.header.sop_instance_uid,
            bytes=stored.bytes,
            new=recorded.new,
            seconds=seconds,
        )
        if recorded.conflict:
            instance = stored.header.sop_instance_uid
            self._log(association).warning("another version came first and is scored", instance=instance)

    def _admitted(self, association: Any, calling: str, called: str, host: str) -> Rejection | None:
        """Judge a request and record the association, so that studies wait while it sends."""
        now = time.time()
        open_now = arrivals.count_associations(self.ledger, now)
        of_peer = arrivals.count_associations(self.ledger, now, calling=_shown(calling)[:16], host=host)
        rejection = self.admission.refuse(
            called=called, calling=calling, host=host, open_now=open_now, open_of_peer=of_peer
        )
        if rejection is None:
            most, calling = self.admission.max_associations, _shown(calling)[:16]
            row = arrivals.open_association(
                self.ledger,
                most,
                owner=self.owner,
                calling=calling,
                called=called,
                host=host,
                now=now,
                most_of_peer=self.admission.max_associations_per_peer,
            )
            if row is None:
                return crowded("others were let in since they were counted")
            self._open[association] = _Open(row)
        return rejection

    def _keep(self, association: Any, command: StoreCommand, arriving: Arriving | None) -> tuple[StoredFile, Recorded]:
        """Check and keep a data set. The order is the promise: synced file, then row, then Success."""
        arriving, incoming = _arrived(arriving)
        self.files.check_space()
        incoming.start_sync()
        header = incoming.header()
        _check_command(command, header)
        retrieval_id = self._retrieval(association, command, header)
        if retrieval_id is not None:
            return self._keep_retrieved(arriving, incoming, header, retrieval_id)
        opened = self._open.get(association)
        kept = self.commits.keep(incoming, header, None if opened is None else opened.row)
        self.files.check_kept(kept[0])
        arriving.kept = True
        return kept

    def _keep_retrieved(
        self, arriving: Arriving, incoming: IncomingFile, header: InstanceHeader, retrieval_id: int
    ) -> tuple[StoredFile, Recorded]:
        stored = self.files.keep(incoming, header)
        arriving.kept = True
        recorded = arrivals.record_instance(
            self.ledger,
            stored,
            association_id=None,
            group_by=self.group_by,
            now=time.time(),
            retrieval_id=retrieval_id,
        )
        self.files.check_kept(stored)
        return stored, recorded

    def _retrieval(self, association: Any, command: StoreCommand, header: InstanceHeader) -> int | None:
        """Find the retrieval that a sub-operation of our C-MOVE belongs to.

        Tolerance: an archive that leaves the Move Originator out (PS3.7 Table 9.1-1 allows it) is known by its name.
        """
        if not command.has_originator and not self._is_archive(association):
            return None
        return arrivals.open_retrieval(self.ledger, header.study_instance_uid)

    def _is_archive(self, association: Any) -> bool:
        opened, requestor = self._open.get(association), association.requestor
        if opened is None or opened.is_archive is None:
            found = self.admission.is_archive(str(requestor.primitive.calling_ae_title), requestor.address)
            if opened is None:
                return found
            opened.is_archive = found
        return opened.is_archive

    def _clean(self, association: Any) -> None:
        provider = association.dimse
        if isinstance(provider, SpoolingProvider):
            provider.discard_all()
        if isinstance(association.dul.socket, BoundedSocket):
            association.dul.socket.wake_up.close()
        opened = self._open.get(association)
        released = association.is_released or (opened is not None and opened.released)
        self._ended(association, "released" if released else "aborted")

    def _ended(self, association: Any, outcome: str) -> None:
        opened = self._open.pop(association, None)
        if opened is None:
            return
        log = structlog.get_logger("receive").bind(association=opened.row)
        try:
            arrivals.close_association(self.ledger, opened.row, outcome=outcome, now=time.time())
        except LedgerError as error:
            # its heartbeat ends with this process or with the ledger's absence; then it counts as lost
            log.warning("association not closed", cause=str(error))
        (log.info if outcome == "released" else log.warning)("association ended", outcome=outcome)

    def _log(self, association: Any) -> Any:
        opened = self._open.get(association)
        return structlog.get_logger("receive").bind(association=None if opened is None else opened.row)


def _shown(text: str) -> str:
    """Write a peer's text so that it cannot forge a line of a log."""
    return ascii(text)[1:-1]


def _arrived(arriving: Arriving | None) -> tuple[Arriving, IncomingFile]:
    """Take what was spooled, or raise why it was not."""
    if arriving is not None and arriving.error is not None:
        raise arriving.error
    if arriving is None or arriving.incoming is None:
        raise IdentifierError("the C-STORE came without a data set")
    if arriving.incoming.error is not None:
        raise arriving.incoming.error
    return arriving, arriving.incoming


def _check_command(command: StoreCommand, header: InstanceHeader) -> None:
    """Compare data set and command (PS3.4 B.2.3: A900)."""
    for name, said, found in (
        ("SOP Class UID", command.sop_class_uid, header.sop_class_uid),
        ("SOP Instance UID", command.sop_instance_uid, header.sop_instance_uid),
    ):
        if said != found:
            raise MismatchError(f"{name} is {said!a} in the command and {found!a} in the data set")
