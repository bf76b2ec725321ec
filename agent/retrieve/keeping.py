"""Instances that come back on the association of a C-GET: to the store first, then to the ledger, then Success."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pynetdicom import evt

from agent.domain.errors import AgentError, MismatchError, RequestorError, StorageFullError
from agent.domain.identifiers import checked_uid
from agent.store.incoming_file import IncomingFile
from agent.store.instance_files import InstanceFiles
from agent.store.part_ten import read_part_ten_header
from agent.worklist import arrivals
from agent.worklist.grouping import GroupBy
from agent.worklist.ledger import Ledger

_OUT_OF_RESOURCES = 0xA700  # PS3.4 Table B.2-1


@dataclass(kw_only=True)
class Keeper:
    """Answers the C-STORE sub-operations of one retrieval.

    `failure` holds what went wrong on our side: the archive cannot be blamed for it.
    """

    ledger: Ledger
    files: InstanceFiles
    group_by: GroupBy
    study_instance_uid: str
    retrieval_id: int
    now: Callable[[], float]
    log: Any
    failure: AgentError | None = None

    def __call__(self, event: evt.Event) -> int:
        """Keep one instance and return the status to answer."""
        try:
            self._keep(event)
        except RequestorError as error:
            self.log.warning("instance not kept", cause=error.cause, status=f"{error.status:04X}")
            return error.status
        except AgentError as error:
            self.failure = error
            return _OUT_OF_RESOURCES
        except OSError as error:
            self.failure = StorageFullError(f"a retrieved instance cannot be written: {error.strerror}")
            return _OUT_OF_RESOURCES
        return 0x0000

    def _keep(self, event: evt.Event) -> None:
        self.files.check_space()
        request: Any = event.request  # a C_STORE
        incoming = self.files.begin(
            sop_class_uid=checked_uid(str(request.AffectedSOPClassUID), "Affected SOP Class UID"),
            sop_instance_uid=checked_uid(str(request.AffectedSOPInstanceUID), "Affected SOP Instance UID"),
            transfer_syntax_uid=str(event.context.transfer_syntax),
        )
        try:
            incoming.write(request.DataSet.getvalue())
            self._record(incoming, str(request.AffectedSOPInstanceUID))
        finally:
            incoming.discard()

    def _record(self, incoming: IncomingFile, sop_instance_uid: str) -> None:
        if incoming.error is not None:
            raise incoming.error
        header, _, _ = read_part_ten_header(incoming.path)
        if (header.study_instance_uid, header.sop_instance_uid) != (self.study_instance_uid, sop_instance_uid):
            raise MismatchError("the archive sent an instance of another study, or under another UID, than asked for")
        stored = self.files.keep(incoming, header)
        arrivals.record_instance(
            self.ledger,
            stored,
            association_id=None,
            group_by=self.group_by,
            now=self.now(),
            retrieval_id=self.retrieval_id,
        )
        self.files.check_kept(stored)
