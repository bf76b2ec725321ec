"""The retrieval step: the archive's version of a study is fetched for one work item."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from agent.domain.errors import ArchiveError, NotFoundError
from agent.domain.identifiers import Archive
from agent.domain.work_item import Step, WorkItem
from agent.retrieve.query_retrieve import RetrieveContext, retrieve_study
from agent.worklist import removed, replay, retrievals
from agent.worklist.ledger import Ledger


@dataclass(frozen=True, kw_only=True)
class RetrieveStep:
    """Fetches a study and hands the work item to the score queue."""

    ledger: Ledger
    owner: str
    archive: Archive | None
    context: RetrieveContext
    wake: Callable[[int, Step], None]
    now: Callable[[], float]

    def __call__(self, item: WorkItem, log: Any) -> None:
        """Fetch the study of the work item."""
        studies = removed.studies_to_fetch(self.ledger, item)
        if studies:
            fetched = [self._fetch_again(replace(item, study_instance_uid=study), log) for study in studies]
        else:
            fetched = [self._fetch(item, log)]
        replay.settle_retrieval(self.ledger, item, self.owner, retrieval_ids=fetched, now=self.now())
        self.wake(item.id, Step.SCORE)

    def _fetch_again(self, item: WorkItem, log: Any) -> int:
        """Fetch one study whose files retention removed; returns its retrieval.

        The archive listed all of it when they were removed. That it does not now may pass: it is tried again.
        """
        gone = "retention removed files of the study, and they cannot be fetched"
        if self.archive is None:
            raise NotFoundError(f"{gone}: no archive may be queried", remedy=removed.SENT_AGAIN)
        try:
            return self._fetch(item, log)
        except NotFoundError as error:
            raise ArchiveError(f"{gone}: {error.cause}", remedy=removed.SENT_AGAIN) from error

    def _fetch(self, item: WorkItem, log: Any) -> int:
        """Fetch one study; returns its retrieval."""
        if self.archive is None:
            raise NotFoundError("no archive may be queried", remedy="set archive.query")
        retrieval_id = retrievals.begin(self.ledger, item, archive=str(self.archive), now=self.now())
        method = retrieve_study(self.context, self.archive, item, retrieval_id)
        retrievals.finish(self.ledger, retrieval_id, method=method, now=self.now())
        log.info("retrieved", method=method)
        return retrieval_id
