"""What the rooms that speak DICOM are given. What only workers need is loaded where it is made."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from agent.domain.errors import LedgerError
from agent.domain.identifiers import Peer
from agent.receive.bounds import Bounds
from agent.receive.commitment import CommitmentHandler, CommitmentReport, nobody_asked
from agent.receive.listener import ListenerConfig
from agent.receive.status import SUCCESS
from agent.scu.config import ScuConfig
from agent.serve.composition.context import GIGABYTE, layout_of
from agent.store.instance_files import InstanceFiles
from agent.worklist.ledger import Ledger

if TYPE_CHECKING:
    from agent.orders.check_order import OrderChecker
    from agent.retrieve.query_retrieve import RetrieveContext
    from agent.settings import Settings


def scu_of(settings: Settings) -> ScuConfig:
    """How we call archives."""
    dicom = settings.dicom
    return ScuConfig(ae_title=dicom.ae_title, tls_cert=dicom.tls_cert, tls_key=dicom.tls_key, tls_ca=dicom.tls_ca)


def files_of(settings: Settings) -> InstanceFiles:
    """Open the spool."""
    return InstanceFiles(
        layout_of(settings),
        min_free_bytes=int(settings.storage.min_free_gb * GIGABYTE),
        max_object_bytes=int(settings.dicom.max_object_gb * GIGABYTE),
    )


def retrieve_of(settings: Settings, ledger: Ledger) -> RetrieveContext:
    """Collect what fetching from an archive needs."""
    from agent.retrieve.query_retrieve import RetrieveContext

    return RetrieveContext(
        ledger=ledger,
        files=files_of(settings),
        scu=scu_of(settings),
        group_by=settings.study.group_by,
        now=time.time,
    )


def orders_of(settings: Settings, ledger: Ledger, owner: str) -> OrderChecker | None:
    """Make what compares with the Modality Worklist, where one is set."""
    from agent.orders.check_order import OrderChecker

    worklist = settings.worklist.query
    if worklist is None:
        return None
    return OrderChecker(
        ledger=ledger,
        layout=layout_of(settings),
        owner=owner,
        worklist=worklist,
        scu=scu_of(settings),
        now=time.time,
    )


def listener_of(settings: Settings, owner: str) -> ListenerConfig:
    """How we are called. Archives that we send to or query may call us too."""
    dicom = settings.dicom
    query = () if settings.archive.query is None else (settings.archive.query,)
    return ListenerConfig(
        ae_title=dicom.ae_title,
        host=dicom.host,
        port=dicom.port,
        peers=_callers(settings),
        archives=(*settings.results.destinations, *query),
        max_associations=dicom.max_associations,
        max_associations_per_peer=dicom.max_associations_per_peer,
        bounds=Bounds(
            associate_seconds=dicom.associate_seconds,
            idle_seconds=dicom.idle_seconds,
            min_bytes_per_second=dicom.min_bytes_per_second,
        ),
        tls_cert=dicom.tls_cert,
        tls_key=dicom.tls_key,
        tls_ca=dicom.tls_ca,
        group_by=settings.study.group_by,
        owner=owner,
        receive_path=dicom.receive_path,
    )


def _callers(settings: Settings) -> tuple[Peer, ...]:
    """Who may call: where anybody is named, and studies are uploaded on the page, ourselves as well."""
    dicom, upload = settings.dicom, settings.web.upload_to
    if not dicom.peers or upload is None:
        return dicom.peers
    return (*dicom.peers, Peer(ae_title=dicom.ae_title, host=upload.host))


def commitments_of(ledger: Ledger) -> CommitmentHandler:
    """Make what takes reports of storage commitment, whichever listener an archive reaches."""

    def take(report: CommitmentReport) -> int:
        from agent.deliver.proof import take_report

        try:
            known = take_report(ledger, report, time.time())
        except LedgerError:  # the archive may report again, and C-FIND proves where it does not
            return nobody_asked(report)
        return SUCCESS if known else nobody_asked(report)

    return take
