"""A spool with one work item at RETRIEVE, and a listener that records sub-operations of C-MOVE as ours will."""

from __future__ import annotations

import io
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
import sqlalchemy as sa
from pydicom.uid import UID
from pynetdicom import AE, evt
from pynetdicom.transport import ThreadedAssociationServer

from agent.domain.study import Instance
from agent.domain.work_item import Cause, Step, WorkItem
from agent.retrieve.fetching import TRANSFER_SYNTAXES
from agent.retrieve.query_retrieve import RetrieveContext
from agent.scu.config import ScuConfig, Timeouts
from agent.store.durable import make_directory
from agent.store.instance_files import InstanceFiles
from agent.store.layout import Layout
from agent.store.part_ten import read_part_ten_header
from agent.worklist import arrivals, results, retrievals, work_items
from agent.worklist import tables as t
from agent.worklist.grouping import GroupBy
from agent.worklist.ledger import Ledger
from tests.support.ports import free_port
from tests.unit.deliver.outbox_fixture import secondary_capture

OWNER = "test/retrieve-1"
ULTRASOUND_IMAGE = "1.2.840.10008.5.1.4.1.1.6.1"
SCU = ScuConfig(ae_title="STEATOSIS", timeouts=Timeouts(connect=2.0, negotiate=2.0, answer=10.0, retrieve=10.0))


def ultrasound(study: str, series: str, instance: str, *, seed: int = 0) -> bytes:
    """Make a small ultrasound image as a Part 10 file."""
    data = pydicom.dcmread(io.BytesIO(secondary_capture(study, series, instance, seed=seed, modality="US", odd=False)))
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = UID(ULTRASOUND_IMAGE)
    del data.ConversionType
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, data, enforce_file_format=True)
    return buffer.getvalue()


@dataclass
class Spool:
    """A ledger, a store and an open retrieval."""

    ledger: Ledger
    layout: Layout
    context: RetrieveContext
    item: WorkItem
    retrieval_id: int

    def instances(self) -> list[Instance]:
        links, i = t.retrieval_instances, t.instances
        query = sa.select(i).join(links, links.c.instance_id == i.c.id)
        with self.ledger.read() as connection:
            rows = connection.execute(query.where(links.c.retrieval_id == self.retrieval_id)).all()
        return [results.as_instance(row) for row in rows]

    def forget(self, sop_instance_uid: str) -> None:
        """As if it had not come yet."""
        known = sa.select(t.instances.c.id).where(t.instances.c.sop_instance_uid == sop_instance_uid)
        with self.ledger.write() as connection:
            connection.execute(sa.delete(t.retrieval_instances).where(t.retrieval_instances.c.instance_id.in_(known)))


def make_spool(tmp_path: Path, study: str, scu: ScuConfig = SCU) -> Spool:
    """Open a retrieval for a study."""
    layout = Layout(tmp_path / "var")
    for folder in (layout.incoming, layout.instances):
        make_directory(folder)
    ledger = Ledger.in_folder(layout.ledger)
    ledger.migrate()
    with ledger.write() as connection:
        made = work_items.create(
            connection,
            group_id=study,
            study_instance_uid=study,
            result_key="a" * 64,
            bundle_digest="b" * 64,
            cause=Cause.REPLAY,
            step=Step.RETRIEVE,
            now=time.time(),
        )
    item = work_items.claim(ledger, made, OWNER, time.time())
    assert item is not None
    retrieval = retrievals.begin(ledger, item, archive="test", now=time.time())
    files = InstanceFiles(layout, 0)
    context = RetrieveContext(ledger=ledger, files=files, scu=scu, group_by=GroupBy.STUDY, now=time.time)
    return Spool(ledger, layout, context, item, retrieval)


class SpoolListener:
    """A Storage SCP that keeps what comes in the spool that it serves at the moment."""

    def __init__(self) -> None:
        self.port = free_port()
        self._spool: Spool | None = None
        self._server: Any = None

    def serve(self, spool: Spool) -> None:
        self._spool = spool

    def __enter__(self) -> SpoolListener:
        entity = AE("STEATOSIS")
        entity.add_supported_context(ULTRASOUND_IMAGE, list(TRANSFER_SYNTAXES))
        self._server = entity.make_server(
            ("127.0.0.1", self.port),
            evt_handlers=[(evt.EVT_C_STORE, self._on_store)],
            server_class=ThreadedAssociationServer,
        )
        entity._servers.append(self._server)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()

    def _on_store(self, event: evt.Event) -> int:
        spool, request = self._spool, event.request
        if spool is None:
            return 0xA700
        files = spool.context.files
        incoming = files.begin(
            sop_class_uid=str(request.AffectedSOPClassUID),
            sop_instance_uid=str(request.AffectedSOPInstanceUID),
            transfer_syntax_uid=str(event.context.transfer_syntax),
        )
        incoming.write(request.DataSet.getvalue())
        header, _, _ = read_part_ten_header(incoming.path)
        stored = files.keep(incoming, header)
        retrieval = arrivals.open_retrieval(spool.ledger, header.study_instance_uid)
        arrivals.record_instance(
            spool.ledger,
            stored,
            association_id=None,
            group_by=GroupBy.STUDY,
            now=time.time(),
            retrieval_id=retrieval,
        )
        return 0x0000
