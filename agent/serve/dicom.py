"""What the rooms that speak DICOM are given."""

from __future__ import annotations

import time

from agent.receive.listener import ListenerConfig
from agent.retrieve.query_retrieve import RetrieveContext
from agent.scu.config import ScuConfig
from agent.serve.context import GIGABYTE, layout_of
from agent.settings import Settings
from agent.store.instance_files import InstanceFiles
from agent.worklist.ledger import Ledger


def scu_of(settings: Settings) -> ScuConfig:
    """How we call archives."""
    dicom = settings.dicom
    return ScuConfig(ae_title=dicom.ae_title, tls_cert=dicom.tls_cert, tls_key=dicom.tls_key, tls_ca=dicom.tls_ca)


def files_of(settings: Settings) -> InstanceFiles:
    """Open the spool."""
    return InstanceFiles(layout_of(settings), int(settings.storage.min_free_gb * GIGABYTE))


def retrieve_of(settings: Settings, ledger: Ledger) -> RetrieveContext:
    """Collect what fetching from an archive needs."""
    return RetrieveContext(
        ledger=ledger,
        files=files_of(settings),
        scu=scu_of(settings),
        group_by=settings.study.group_by,
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
        peers=dicom.peers,
        archives=(*settings.results.destinations, *query),
        max_associations=dicom.max_associations,
        tls_cert=dicom.tls_cert,
        tls_key=dicom.tls_key,
        tls_ca=dicom.tls_ca,
        group_by=settings.study.group_by,
        owner=owner,
        receive_path=dicom.receive_path,
    )
