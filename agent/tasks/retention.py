"""Making room: files of finished studies go when the archive itself lists every instance of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from agent.domain.errors import AgentError
from agent.domain.identifiers import Archive
from agent.retrieve.listing import instances_in
from agent.scu.association import OpenAssociation, associate
from agent.scu.config import ScuConfig
from agent.scu.find import FIND_CONTEXT
from agent.store.layout import Layout
from agent.worklist import retention
from agent.worklist.ledger import Ledger
from agent.worklist.retention import Removable

_MOST_STUDIES: Final = 50
"""Removed, or asked for in vain, in one look."""


@dataclass(frozen=True, kw_only=True)
class Retention:
    """How long instance files are kept.

    Parameters
    ----------
    keep_seconds, keep_bytes
        Older, or beyond that many, they may go; None: no limit.
    audit
        Is told of each study before its files go.
    """

    ledger: Ledger
    layout: Layout
    archive: Archive
    scu: ScuConfig
    keep_seconds: float | None
    keep_bytes: int | None
    audit: Callable[[Removable], None]
    log: Any

    def look(self, now: float) -> int:
        """Remove what may go; returns how many studies."""
        chosen = list(self._chosen(now))
        if not chosen:
            return 0
        try:
            with associate(self.archive, self.scu, [FIND_CONTEXT]) as association:
                return sum(self._removed(association, study, now) for study in chosen)
        except AgentError as error:
            self.log.warning("nothing removed: the archive cannot be asked", cause=error.cause, remedy=error.remedy)
            return 0

    def _chosen(self, now: float) -> Iterator[Removable]:
        excess = 0 if self.keep_bytes is None else retention.bytes_kept(self.ledger) - self.keep_bytes
        old = float("-inf") if self.keep_seconds is None else now - self.keep_seconds
        if excess <= 0 and self.keep_seconds is None:
            return
        for number, study in enumerate(retention.removable(self.ledger, received_before=now if excess > 0 else old)):
            if number >= _MOST_STUDIES or (study.last_at >= old and excess <= 0):
                return
            excess -= study.bytes
            yield study

    def _removed(self, association: OpenAssociation, study: Removable, now: float) -> bool:
        listed = {found.sop_instance_uid for found in instances_in(association, study.study_instance_uid)}
        missing = study.sop_instance_uids - listed
        if missing:
            self.log.warning("kept: the archive lacks instances", study=study.study_instance_uid, missing=len(missing))
            return False
        try:
            self.audit(study)
            gone = retention.remove(self.ledger, study, now=now, unlink=self._unlink)
        except OSError as error:
            self.log.warning("files not removed", study=study.study_instance_uid, cause=error.strerror)
            return False
        if gone:
            self.log.info("files removed", study=study.study_instance_uid, bytes=study.bytes)
        return gone

    def _unlink(self, sha256: str) -> None:
        self.layout.instance(sha256).unlink(missing_ok=True)
