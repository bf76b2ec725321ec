"""Retrieving a study for one work item: list, fetch what is missing, count."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import structlog

from agent.domain.eligibility import ULTRASOUND_IMAGE_CLASSES
from agent.domain.errors import AgentError, ArchiveError, ArchiveRefusedError, NotFoundError
from agent.domain.identifiers import Archive
from agent.domain.work_item import WorkItem
from agent.retrieve.fetching import MOVE_CONTEXT, can_get, get, get_contexts, move
from agent.retrieve.keeping import Keeper
from agent.retrieve.listing import RemoteInstance, RemoteStudy, instances_in, list_studies, study_in
from agent.scu.association import associate
from agent.scu.config import ScuConfig
from agent.scu.find import FIND_CONTEXT
from agent.store.instance_files import InstanceFiles
from agent.worklist import retrievals
from agent.worklist.grouping import GroupBy
from agent.worklist.ledger import Ledger

__all__ = ["RemoteStudy", "RetrieveContext", "images_at", "list_studies", "retrieve_study", "study_at"]

_LOOK_SECONDS: Final = 0.1


@dataclass(frozen=True, kw_only=True)
class RetrieveContext:
    """What fetching from an archive needs."""

    ledger: Ledger
    files: InstanceFiles
    scu: ScuConfig
    group_by: GroupBy
    now: Callable[[], float]


def study_at(archive: Archive, study_instance_uid: str, scu: ScuConfig) -> int | None:
    """Ask how many instances of a study an archive lists.

    Returns
    -------
    int or None
        None where it does not list the study.

    Raises
    ------
    ArchiveError, ArchiveRefusedError
        It cannot be asked.
    """
    with associate(archive, scu, [FIND_CONTEXT]) as association:
        study = study_in(association, study_instance_uid)
        if study is None:
            return None
        if study.instances is not None:
            return study.instances
        return len(instances_in(association, study_instance_uid))


def images_at(archive: Archive, study_instance_uid: str, scu: ScuConfig) -> set[str]:
    """Ask which ultrasound images of a study an archive lists, as SOP Instance UIDs.

    Raises
    ------
    ArchiveError, ArchiveRefusedError
        It cannot be asked.
    """
    with associate(archive, scu, [FIND_CONTEXT]) as association:
        listed = instances_in(association, study_instance_uid)
    return {one.sop_instance_uid for one in listed if one.may_be_ultrasound}


def retrieve_study(context: RetrieveContext, archive: Archive, item: WorkItem, retrieval_id: int) -> str:
    """Fetch the ultrasound images of a study that a retrieval does not hold yet.

    Where the archive lists no ultrasound image, everything is fetched, so that the refusal can say what there was.

    Returns
    -------
    str
        "C-GET" or "C-MOVE"; "C-FIND" where nothing was missing.

    Raises
    ------
    NotFoundError
        The archive does not list the study.
    ArchiveError
        It could not be reached, failed, or sent less than it lists; what has come is kept for the next attempt.
    ArchiveRefusedError
        It refuses, and will refuse again.
    StorageFullError, LedgerError
        An instance could not be kept.
    """
    log = structlog.get_logger("retrieve").bind(
        work_item=item.id, study=item.study_instance_uid, archive=str(archive), retrieval=retrieval_id
    )
    retrieval = _Retrieval(context, archive, item.study_instance_uid, retrieval_id, log)
    started = context.now()
    listed, wanted = retrieval.listed()
    method = retrieval.fetch(listed, wanted) if retrieval.missing(wanted) else "C-FIND"
    missing = retrieval.missing(wanted)
    seconds = round(context.now() - started, 3)
    log.info("study fetched", method=method, listed=len(listed), wanted=len(wanted), missing=len(missing), s=seconds)
    if missing:
        came = len(wanted) - len(missing)
        raise ArchiveError(
            f"{archive} sent {came} of the {len(wanted)} instances that it lists, by {method}",
            remedy="see the archive's own log" if method == "C-GET" else "can the archive reach our listener?",
        )
    return method


@dataclass(frozen=True)
class _Retrieval:
    context: RetrieveContext
    archive: Archive
    study: str
    id: int
    log: Any

    def listed(self) -> tuple[tuple[RemoteInstance, ...], tuple[RemoteInstance, ...]]:
        """List what the archive has, and what of it is wanted."""
        with associate(self.archive, self.context.scu, [FIND_CONTEXT]) as association:
            listed = instances_in(association, self.study)
        if not listed:
            raise NotFoundError(f"{self.archive} does not list study {self.study}", remedy="check the UID")
        return listed, tuple(one for one in listed if one.may_be_ultrasound) or listed

    def missing(self, wanted: tuple[RemoteInstance, ...]) -> tuple[RemoteInstance, ...]:
        """Say what of it has not come."""
        have = retrievals.retrieved_uids(self.context.ledger, self.id)
        return tuple(one for one in wanted if one.sop_instance_uid not in have)

    def fetch(self, listed: tuple[RemoteInstance, ...], wanted: tuple[RemoteInstance, ...]) -> str:
        """Fetch what is missing by C-GET, and by C-MOVE what that did not bring; returns the last one tried.

        An archive may accept the C-GET context and then fail or abort: Orthanc does where its settings forbid C-GET.
        """
        fault: AgentError | None = None
        answered = False
        try:
            answered = self._get(listed, self.missing(wanted))
            if answered and not self.missing(wanted):
                return "C-GET"
        except (ArchiveError, ArchiveRefusedError) as error:
            self.log.warning("C-GET failed", cause=error.cause)
            fault = error
        try:
            self._move(listed, self.missing(wanted))
        except (ArchiveError, ArchiveRefusedError) as error:
            if answered:
                return "C-GET"  # the caller counts what it left out
            raise _both(fault, error) from error
        self._wait_for(wanted)
        return "C-MOVE"

    def _get(self, listed: tuple[RemoteInstance, ...], missing: tuple[RemoteInstance, ...]) -> bool:
        """Fetch by C-GET; False where the archive does not offer it for what is missing."""
        scu = self.context.scu
        classes = sorted({one.sop_class_uid for one in missing if one.sop_class_uid} or ULTRASOUND_IMAGE_CLASSES)
        keeper = Keeper(
            ledger=self.context.ledger,
            files=self.context.files,
            group_by=self.context.group_by,
            study_instance_uid=self.study,
            retrieval_id=self.id,
            now=self.context.now,
            log=self.log,
        )
        contexts = get_contexts(classes)
        try:
            with associate(
                self.archive, scu, contexts, on_store=keeper, answer_seconds=scu.timeouts.retrieve
            ) as association:
                if not can_get(association, classes):
                    return False
                get(association, self.study, missing, _whole_series(listed, missing))
        finally:
            if keeper.failure is not None:
                raise keeper.failure  # ours, not the archive's
        return True

    def _move(self, listed: tuple[RemoteInstance, ...], missing: tuple[RemoteInstance, ...]) -> None:
        """Have it sent to our own listener, which finds the retrieval in the ledger."""
        scu = self.context.scu
        with associate(self.archive, scu, [MOVE_CONTEXT], answer_seconds=scu.timeouts.retrieve) as association:
            move(association, self.study, missing, _whole_series(listed, missing), to=scu.ae_title)

    def _wait_for(self, wanted: tuple[RemoteInstance, ...]) -> None:
        """Let sub-operations of a C-MOVE reach the ledger, as long as more keep coming."""
        patience = self.context.scu.timeouts.negotiate
        missing, quiet_since = self.missing(wanted), time.monotonic()
        while missing and time.monotonic() - quiet_since < patience:
            time.sleep(_LOOK_SECONDS)
            before, missing = missing, self.missing(wanted)
            if len(missing) < len(before):
                quiet_since = time.monotonic()


def _whole_series(listed: tuple[RemoteInstance, ...], missing: tuple[RemoteInstance, ...]) -> set[str]:
    """Series of which everything listed is missing: they may be asked for by their own UID."""
    rest = {one.series_instance_uid for one in set(listed) - set(missing)}
    return {one.series_instance_uid for one in missing} - rest


def _both(first: AgentError | None, second: AgentError) -> AgentError:
    """Tell what both ways failed by; it may pass if either may."""
    if first is None:
        return second
    kind: type[AgentError] = ArchiveError if first.retriable or second.retriable else ArchiveRefusedError
    return kind(f"{first.cause}; {second.cause}", remedy=second.remedy or first.remedy)
