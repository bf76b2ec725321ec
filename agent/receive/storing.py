"""What is done with a whole data set, whichever path it came by: checked, made durable, recorded, then answered."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from agent.domain.errors import AgentError, IdentifierError, MismatchError
from agent.domain.study import InstanceHeader, StoredFile
from agent.receive.associations import Associations
from agent.receive.commits import Commits
from agent.receive.fast.command import StoreCommand
from agent.receive.spooling import Arriving
from agent.receive.status import SUCCESS, status_of
from agent.store.incoming_file import IncomingFile
from agent.store.instance_files import InstanceFiles
from agent.worklist import arrivals
from agent.worklist.grouping import GroupBy
from agent.worklist.ledger import Ledger
from agent.worklist.recording import Recorded

_LOG: Final = structlog.get_logger("receive")


@dataclass(frozen=True, kw_only=True)
class Storing:
    """Keeps what the associations of one listener send."""

    ledger: Ledger
    files: InstanceFiles
    group_by: GroupBy
    associations: Associations
    commits: Commits = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "commits", Commits(self.ledger, self.files, self.group_by))

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
        self.associations.log(association).warning("instance refused", status=f"{status:04X}", cause=cause)

    def _tell_stored(self, association: Any, stored: StoredFile, recorded: Recorded, seconds: float) -> None:
        _LOG.info(
            "instance stored",
            association=self.associations.row(association),
            study=stored.header.study_instance_uid,
            instance=stored.header.sop_instance_uid,
            bytes=stored.bytes,
            new=recorded.new,
            seconds=seconds,
        )
        if recorded.conflict:
            log, instance = self.associations.log(association), stored.header.sop_instance_uid
            log.warning("another version came first and is scored", instance=instance)

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
        kept = self.commits.keep(incoming, header, self.associations.row(association))
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
        if not command.has_originator and not self.associations.is_archive(association):
            return None
        return arrivals.open_retrieval(self.ledger, header.study_instance_uid)


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
