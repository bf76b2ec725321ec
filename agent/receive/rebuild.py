"""After a power cut: rows that the ledger lost are made again from the files, which were synced before them."""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from agent.domain.errors import RequestorError
from agent.store.instance_files import InstanceFiles
from agent.worklist import arrivals
from agent.worklist.grouping import GroupBy
from agent.worklist.ledger import Ledger


@dataclass(frozen=True, kw_only=True)
class Rebuilt:
    """What start-up found."""

    rows: int
    unreadable: int


def rebuild(ledger: Ledger, files: InstanceFiles, *, group_by: GroupBy, now: float) -> Rebuilt:
    """Record every file without a row. Listeners may receive meanwhile: recording twice changes nothing."""
    known, rows, unreadable = arrivals.known_digests(ledger), 0, 0
    suspects = [sha256 for sha256 in files.digests() if sha256 not in known]
    known = arrivals.known_digests(ledger)  # listeners may have recorded theirs while the folders were read
    for sha256 in suspects:
        if sha256 in known or files.received_at(sha256) >= now:
            continue
        try:
            stored = files.read_back(sha256)
        except RequestorError as error:
            structlog.get_logger("receive").warning("file without row cannot be read", cause=str(error), file=sha256)
            unreadable += 1
            continue
        arrivals.record_instance(ledger, stored, association_id=None, group_by=group_by, now=now)
        rows += 1
    return Rebuilt(rows=rows, unreadable=unreadable)
