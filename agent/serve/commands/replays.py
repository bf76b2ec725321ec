"""What `agent replay` does: it plans and schedules, study by study, and waits for the outcome where asked to."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from agent.domain.errors import AgentError, NotFoundError, SettingsError
from agent.domain.work_item import WITHHELD, State, WorkItem
from agent.serve.composition.bundles import bundle_digest_of
from agent.serve.composition.context import kept_ledger_of, layout_of
from agent.settings import Settings
from agent.worklist import reading, replay, work_items
from agent.worklist.ledger import Ledger

_FINAL: Final = (State.COMPLETED, State.CANCELED)
_POLL_SECONDS: Final = 0.2
_TOLD_EVERY_SECONDS: Final = 2.0
_FEW: Final = 10


@dataclass(frozen=True, kw_only=True)
class ReplayRequest:
    """The operator's `agent replay`."""

    studies: tuple[str, ...]
    source: str | None
    since: float | None
    bundle: Path | None
    dry_run: bool
    wait: bool


@dataclass
class _Progress:
    """Says how far long work is, but not at every study of thousands."""

    say: Callable[[str], None]
    total: int
    told_at: float = 0.0

    def at(self, number: int, text: str) -> None:
        now = time.monotonic()
        if self.total > 1 and (number == self.total or now - self.told_at >= _TOLD_EVERY_SECONDS):
            self.told_at = now
            self.say(f"{number} of {self.total} {text}")


def replay_studies(
    settings: Settings, request: ReplayRequest, progress: Callable[[str], None]
) -> tuple[list[dict[str, Any]], int]:
    """Schedule a replay of each study; one that is nowhere does not stop the others.

    Returns
    -------
    tuple
        An entry for each study scheduled, and the exit status.
    """
    ledger = kept_ledger_of(settings)
    studies = list(dict.fromkeys(request.studies or _studies_since(settings, ledger, request)))
    digest = bundle_digest_of(request.bundle or settings.model.bundle)
    entries, status, told = [], 0, _Progress(progress, len(studies))
    for number, study in enumerate(studies, 1):
        try:
            entries.append(_replay_one(settings, ledger, study, request, digest))
        except AgentError as error:
            progress(f"agent: {error}")
            status = max(status, error.exit_code)
        told.at(number, "planned" if request.dry_run else "scheduled")
    if request.wait and not request.dry_run:
        entries = _outcomes(ledger, entries, progress)
        status = max(
            [
                status,
                *(0 if entry["state"] == State.COMPLETED or entry["reason"] == WITHHELD else 1 for entry in entries),
            ]
        )
    return entries, status


def _studies_since(settings: Settings, ledger: Ledger, request: ReplayRequest) -> list[str]:
    """Studies that arrived since then; with `--from archive`, those that the archive dates since then."""
    if request.since is None:
        return []
    if request.source != replay.Source.ARCHIVE:
        return reading.studies_since(ledger, request.since)
    from agent.retrieve.query_retrieve import list_studies
    from agent.serve.composition.dicom import scu_of

    if settings.archive.query is None:
        raise SettingsError("no archive may be queried", remedy="set archive.query")
    since = datetime.fromtimestamp(request.since, UTC).date()
    return [study.study_instance_uid for study in list_studies(settings.archive.query, scu_of(settings), since=since)]


def _replay_one(settings: Settings, ledger: Ledger, study: str, request: ReplayRequest, digest: str) -> dict[str, Any]:
    layout = layout_of(settings)
    planned = replay.plan(
        ledger,
        study,
        wanted=None if request.source is None else replay.Source(request.source),
        has_file=lambda sha256: layout.instance(sha256).exists(),
        archive_holds=lambda uid: _archive_holds(settings, uid),
        bundle_digest=digest,
    )
    entry = {
        "study_instance_uid": study,
        "work_item": None,
        "source": planned.source,
        "state": "would be scheduled",
        "reason": "known result: proved again" if planned.known else None,
    }
    if request.dry_run:
        return entry
    path = None if request.bundle is None else str(request.bundle.resolve())
    made = replay.schedule(ledger, planned, bundle_digest=digest, now=time.time(), bundle_path=path)
    return {**entry, "work_item": made, "state": State.SCHEDULED}


def _archive_holds(settings: Settings, study: str) -> bool:
    """Ask the archive; where none may be queried, say so rather than that the study is nowhere."""
    if settings.archive.query is None:
        return False
    from agent.retrieve.query_retrieve import study_at
    from agent.serve.composition.dicom import scu_of

    return bool(study_at(settings.archive.query, study, scu_of(settings)))


def _outcomes(ledger: Ledger, entries: list[dict[str, Any]], progress: Callable[[str], None]) -> list[dict[str, Any]]:
    """Wait for all of them to end."""
    ended: dict[int, WorkItem] = {}
    open_ones = list(dict.fromkeys(entry["work_item"] for entry in entries))
    told, single = _Progress(progress, len(open_ones)), _Single(progress)
    while open_ones:
        found = work_items.find_all(ledger, open_ones)
        if gone := set(open_ones) - {item.id for item in found}:
            raise NotFoundError(f"work item {min(gone)} is gone from the ledger")
        if told.total == 1:
            single.tell(found[0])
        ended |= {item.id: item for item in found if item.state in _FINAL or item.held or item.withheld}
        open_ones = [item.id for item in found if item.id not in ended]
        states = Counter(str(item.state) for item in ended.values())
        told.at(len(ended), "ended: " + (", ".join(f"{count} {state}" for state, count in states.items()) or "none"))
        time.sleep(_POLL_SECONDS if len(open_ones) <= _FEW else _TOLD_EVERY_SECONDS)
    outcomes = [ended[entry["work_item"]] for entry in entries]
    return [
        {**entry, "state": item.state, "reason": item.reason or entry["reason"]}
        for entry, item in zip(entries, outcomes, strict=True)
    ]


@dataclass
class _Single:
    """Says each state of one work item once."""

    say: Callable[[str], None]
    told: tuple[str, str] | None = None

    def tell(self, item: WorkItem) -> None:
        if (item.state, item.step) != self.told:
            self.told = (item.state, item.step)
            self.say(f"work item {item.id}: {item.state} {'' if item.state in _FINAL else item.step}")
