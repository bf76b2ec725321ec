"""An archive in this process that misbehaves on command, for the contract that delivery and retrieval keep."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
)
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import (
    Comprehensive3DSRStorage,
    SecondaryCaptureImageStorage,
    StorageCommitmentPushModel,
    StudyRootQueryRetrieveInformationModelFind,
    UltrasoundImageStorage,
    Verification,
)
from pynetdicom.transport import ThreadedAssociationServer

from agent.domain.identifiers import Archive
from agent.scu.config import ScuConfig, Timeouts
from tests.support.ports import free_port

SCU = ScuConfig(ae_title="STEATOSIS", timeouts=Timeouts(connect=5.0, negotiate=5.0, answer=5.0, retrieve=10.0))
"""Patient: on a busy machine an archive in threads of this process may take a second for an answer."""
IMPATIENT = Timeouts(connect=1.0, negotiate=0.6, answer=0.6, retrieve=2.0)
HASTY = replace(SCU, timeouts=IMPATIENT)
"""For archives that are to be given up."""
_SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian]


@dataclass
class Manners:
    """How it answers; change them between, or while, it is called."""

    reject: tuple[int, int, int] | None = None
    """Result, source, reason of A-ASSOCIATE-RJ."""
    store_status: int = 0x0000
    statuses: list[int] = field(default_factory=list)
    """Statuses of the next C-STOREs, before `store_status`."""
    abort_on: set[str] = field(default_factory=set)
    """SOP Instance UIDs at which it aborts the association."""
    hang_seconds: float = 0.0
    """Before it answers a C-STORE."""
    hang_association: float = 0.0
    hang_second_association: float = 0.0
    """Before it answers an association that is requested while another is open."""
    longest_pdu: int = 0
    """That it takes; 0: any."""
    most_associations: int | None = None
    """Open at once; one more is rejected for the moment."""
    lies: bool = False
    """It answers Success and keeps nothing."""
    refuses: tuple[str, ...] = ()
    """SOP classes that it does not accept for now."""
    find_status: int = 0x0000
    action_status: int = 0x0000
    """Answer to N-ACTION."""
    abort_on_action: bool = False
    denials: dict[str, int] = field(default_factory=dict)
    """SOP Instance UID to the Failure Reason that it reports; it commits to whatever else it is asked for."""
    report_after: float | None = 0.0
    """Seconds until it reports; None: never."""
    report_to: int | None = None
    """Port of our listener, where it reports on an association of its own."""


class WaywardArchive:
    """Stores, lists, and does what `manners` say.

    Parameters
    ----------
    refused
        SOP classes that it does not accept.
    commits
        It offers storage commitment.
    takes_jpeg
        It accepts JPEG Baseline beside what is not compressed.
    """

    def __init__(
        self,
        *,
        refused: tuple[str, ...] = (),
        commits: bool = False,
        takes_jpeg: bool = False,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.manners = Manners()
        self.port = free_port()
        self.stored: dict[str, bytes] = {}
        self.where: dict[str, tuple[str, str, str]] = {}
        """Study, series and SOP class by SOP Instance UID."""
        self.received: list[str] = []
        self.finds = 0
        self.associations = 0
        self.asked: list[tuple[str, list[str]]] = []
        """Transaction UID and SOP Instance UIDs of each N-ACTION."""
        self.report_answers: list[int | None] = []
        self._refused = refused if commits else (*refused, StorageCommitmentPushModel)
        self._syntaxes = [*_SYNTAXES, *([JPEGBaseline8Bit] if takes_jpeg else [])]
        self._tls = tls
        self._server: Any = None
        self._lock = threading.Lock()

    @property
    def archive(self) -> Archive:
        return Archive(ae_title="PACS", host="127.0.0.1", port=self.port)

    @property
    def name(self) -> str:
        return str(self.archive)

    def start(self) -> None:
        entity = AE("PACS")
        entity.maximum_pdu_size = 0
        offered = (
            Comprehensive3DSRStorage,
            SecondaryCaptureImageStorage,
            UltrasoundImageStorage,
            StudyRootQueryRetrieveInformationModelFind,
            StorageCommitmentPushModel,
            Verification,
        )
        for sop_class in offered:
            if sop_class not in self._refused:
                entity.add_supported_context(sop_class, self._syntaxes)
        handlers: list[Any] = [
            (evt.EVT_REQUESTED, self._on_request),
            (evt.EVT_C_STORE, self._on_store),
            (evt.EVT_C_FIND, self._on_find),
            (evt.EVT_N_ACTION, self._on_action),
        ]
        self._server = entity.make_server(
            ("127.0.0.1", self.port),
            evt_handlers=handlers,
            server_class=ThreadedAssociationServer,
            ssl_context=self._tls,
        )
        entity._servers.append(self._server)
        # `start_server` polls every half second, and so long would each test wait for its end
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server = None

    def __enter__(self) -> WaywardArchive:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.manners.hang_seconds = self.manners.hang_association = 0.0
        self.stop()

    @property
    def running(self) -> bool:
        return self._server is not None

    @property
    def open(self) -> list[Any]:
        """Associations that are open now."""
        return self._server.active_associations if self._server is not None else []

    def _on_request(self, event: evt.Event) -> None:
        self.associations += 1
        acceptor = event.assoc.acceptor
        acceptor.maximum_length = self.manners.longest_pdu
        acceptor.supported_contexts = [
            context for context in acceptor.supported_contexts if context.abstract_syntax not in self.manners.refuses
        ]
        time.sleep(self.manners.hang_association)
        others = sum(one.is_established for one in self.open)
        if others:
            until = time.monotonic() + self.manners.hang_second_association
            while self.manners.hang_second_association and time.monotonic() < until:  # or until it is told to end
                time.sleep(0.02)
        is_full = self.manners.most_associations is not None and others >= self.manners.most_associations
        reject = (2, 3, 2) if is_full else self.manners.reject  # transient, local limit exceeded
        if reject is not None:
            event.assoc.acse.send_reject(*reject)
            event.assoc.is_rejected = True
            # pynetdicom would close the socket before its other thread has sent the PDU
            end = time.monotonic() + 5
            while event.assoc.dul.state_machine.current_state in ("Sta2", "Sta3") and time.monotonic() < end:
                time.sleep(0.005)

    def _on_store(self, event: evt.Event) -> int:
        manners, request = self.manners, event.request
        uid = str(request.AffectedSOPInstanceUID)
        with self._lock:
            self.received.append(uid)
        if uid in manners.abort_on:
            event.assoc.abort()
            return 0xC000
        time.sleep(manners.hang_seconds)
        status = manners.statuses.pop(0) if manners.statuses else manners.store_status
        if (status == 0 or status & 0xF000 == 0xB000) and not manners.lies:
            data = event.dataset
            self.where[uid] = (data.StudyInstanceUID, data.SeriesInstanceUID, str(request.AffectedSOPClassUID))
            self.stored[uid] = request.DataSet.getvalue()
        return status

    def _on_action(self, event: evt.Event) -> tuple[int, Dataset | None]:
        information = event.action_information
        uids = [str(item.ReferencedSOPInstanceUID) for item in information.ReferencedSOPSequence]
        self.asked.append((str(information.TransactionUID), uids))
        if self.manners.abort_on_action:
            event.assoc.abort()
            return 0x0110, None
        if self.manners.action_status == 0 and self.manners.report_after is not None:
            classes = [str(item.ReferencedSOPClassUID) for item in information.ReferencedSOPSequence]
            report = self._report(str(information.TransactionUID), list(zip(classes, uids, strict=True)))
            threading.Timer(self.manners.report_after, self._send_report, (event.assoc, report)).start()
        return self.manners.action_status, None

    def _report(self, transaction: str, references: list[tuple[str, str]]) -> Dataset:
        report, committed, failed = Dataset(), [], []
        for sop_class, uid in references:
            item = Dataset()
            item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, uid
            if uid in self.manners.denials:
                item.FailureReason = self.manners.denials[uid]
            (failed if uid in self.manners.denials else committed).append(item)
        report.TransactionUID = transaction
        report.ReferencedSOPSequence = committed
        if failed:
            report.FailedSOPSequence = failed
        return report

    def _send_report(self, association: Any, report: Dataset) -> None:
        kind = 2 if "FailedSOPSequence" in report else 1  # PS3.4 Table J.3-3
        if self.manners.report_to is None:
            self.report_answers.append(_reported(association, report, kind))
            return
        entity = AE("PACS")
        entity.add_requested_context(StorageCommitmentPushModel)
        role = build_role(StorageCommitmentPushModel, scp_role=True)
        own = entity.associate("127.0.0.1", self.manners.report_to, ae_title="STEATOSIS", ext_neg=[role])
        self.report_answers.append(_reported(own, report, kind))
        own.release()

    def _on_find(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        self.finds += 1
        if self.manners.find_status:
            yield self.manners.find_status, None
            return
        query = event.identifier
        for uid, (study, series, _) in list(self.where.items()):
            if (study, series) == (query.StudyInstanceUID, query.SeriesInstanceUID):
                match = Dataset()
                match.QueryRetrieveLevel = "IMAGE"
                match.StudyInstanceUID, match.SeriesInstanceUID, match.SOPInstanceUID = study, series, uid
                yield 0xFF00, match


def _reported(association: Any, report: Dataset, kind: int) -> int | None:
    instance = "1.2.840.10008.1.20.1.1"  # the one SOP Instance of the service (PS3.4 J.3.5)
    try:
        status, _ = association.send_n_event_report(report, kind, StorageCommitmentPushModel, instance)
    except RuntimeError:  # the association is gone
        return None
    return int(status.Status) if "Status" in status else None
