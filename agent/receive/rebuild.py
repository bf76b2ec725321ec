"""After a power cut: rows that the ledger lost are made again from the files, which were synced before them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from agent.domain.errors import RequestorError
from agent.domain.study import StoredFile
from agent.store.instance_files import InstanceFiles
from agent.worklist import arrivals
from agent.worklist.grouping import GroupBy
from agent.worklist.ledger import Ledger

_REMEDY: Final = "see to the disk and to who may read it, then restart `agent serve`: what it holds is recorded then"


@dataclass(frozen=True, kw_only=True)
class Rebuilt:
    """What start-up found."""

    rows: int
    unreadable: int
    """Files, and folders of them, that were passed over."""


def rebuild(ledger: Ledger, files: InstanceFiles, *, group_by: GroupBy, now: float) -> Rebuilt:
    """Record every file without a row. Listeners may receive meanwhile: recording twice changes nothing.

    What cannot be read is told with its path and its reason, left where it is, and passed over.
    """
    unreadable: list[Path] = []

    def pass_over(path: Path, error: OSError | RequestorError) -> None:
        cause = error.cause if isinstance(error, RequestorError) else error.strerror or type(error).__name__
        log = structlog.get_logger("receive")
        log.warning("passed over: cannot be read", path=str(path), cause=cause, remedy=_REMEDY)
        unreadable.append(path)

    def read(sha256: str) -> StoredFile | None:
        try:
            return None if files.received_at(sha256) >= now else files.read_back(sha256)
        except (OSError, RequestorError) as error:
            pass_over(files.path_of(sha256), error)
            return None

    known, rows = arrivals.known_digests(ledger), 0
    suspects = [sha256 for sha256 in files.digests(pass_over) if sha256 not in known]
    known = arrivals.known_digests(ledger)  # listeners may have recorded theirs while the folders were read
    for sha256 in suspects:
        if sha256 not in known and (stored := read(sha256)) is not None:
            arrivals.record_instance(ledger, stored, association_id=None, group_by=group_by, now=now)
            rows += 1
    return Rebuilt(rows=rows, unreadable=len(unreadable))
