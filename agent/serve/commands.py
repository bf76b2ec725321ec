"""What `replay`, `retry` and `cancel` do: they write work items into the ledger; the workers' reconciler finds them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agent.domain.errors import AgentError, NotFoundError
from agent.domain.work_item import CANCELED_BY_OPERATOR, Cause, State, WorkItem
from agent.serve.bundles import bundle_digest_of
from agent.serve.context import layout_of, ledger_of
from agent.settings import Settings
from agent.worklist import reading, replay, work_items
from agent.worklist.ledger import Ledger

_FINAL: Final = (State.COMPLETED, State.CANCELED)
_POLL_SECONDS: Final = 0.2


@dataclass(frozen=True, kw_only=True)
class ReplayRequest:
    """The operator's `agent replay`."""

    studies: tuple[str, ...]
    source: str | None
    since: float | None
    bundle: Path | None
    dry_run: bool
    wait: bool


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which work items `retry` and `cancel` mean."""

    study: str | None
    state: str | None
    reason: str | None
    since: float | None
    dry_run: bool


def replay_studies(
    settings: Settings, request: ReplayRequest, progress: Callable[[str], None]
) -> tuple[list[dict[str, Any]], int]:
    """Schedule a replay of each study; one that is nowhere does not stop the others.

    Returns
    -------
    tuple
        An entry for each study scheduled, and the exit status.
    """
    ledger = ledger_of(settings)
    studies = dict.fromkeys(request.studies or _received_since(ledger, request.since))
    digest = bundle_digest_of(request.bundle or settings.model.bundle)
    entries, status = [], 0
    for number, study in enumerate(studies, 1):
        if len(studies) > 1:
            progress(f"{number} of {len(studies)}: {study}")
        try:
            entries.append(_replay_one(settings, ledger, study, request, digest))
        except AgentError as error:
            progress(f"agent: {error}")
            status = max(status, error.exit_code)
    if request.wait and not request.dry_run:
        entries = [_outcome(ledger, entry, progress) for entry in entries]
        status = max([status, *(0 if entry["state"] == State.COMPLETED else 1 for entry in entries)])
    return entries, status


def retry_work_items(settings: Settings, choice: Choice) -> list[dict[str, Any]]:
    """Make a new work item for each chosen one that failed, was canceled or is held."""
    ledger, entries = ledger_of(settings), []
    for item in _chosen(ledger, choice):
        if item.state is not State.CANCELED and not item.held:
            continue
        made = None if choice.dry_run else _retried(ledger, item)
        entries.append(
            {"study_instance_uid": item.study_instance_uid, "work_item": made, "retried": item.id, "state": item.state}
        )
    return entries


def cancel_work_items(settings: Settings, choice: Choice) -> list[dict[str, Any]]:
    """Cancel each chosen work item that is not finished."""
    ledger, entries = ledger_of(settings), []
    for item in _chosen(ledger, choice):
        if item.state in _FINAL:
            continue
        if not choice.dry_run:
            replay.cancel(ledger, item.id, reason=CANCELED_BY_OPERATOR, now=time.time())
        state = item.state if choice.dry_run else State.CANCELED
        entries.append({"study_instance_uid": item.study_instance_uid, "work_item": item.id, "state": state})
    return entries


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
    from agent.serve.dicom import scu_of

    return bool(study_at(settings.archive.query, study, scu_of(settings)))


def _received_since(ledger: Ledger, since: float | None) -> list[str]:
    items = reading.find_work_items(ledger, study=None, state=None, since=since)
    return [item.study_instance_uid for item in items]


def _outcome(ledger: Ledger, entry: dict[str, Any], progress: Callable[[str], None]) -> dict[str, Any]:
    """Wait for a work item to end, saying each state once."""
    told = None
    while True:
        item = work_items.find(ledger, entry["work_item"])
        if item is None:
            raise NotFoundError(f"work item {entry['work_item']} is gone from the ledger")
        if (item.state, item.step) != told:
            told = (item.state, item.step)
            progress(f"work item {item.id}: {item.state} {'' if item.state in _FINAL else item.step}")
        if item.state in _FINAL or item.held:
            return {**entry, "state": item.state, "reason": item.reason or entry["reason"]}
        time.sleep(_POLL_SECONDS)


def _chosen(ledger: Ledger, choice: Choice) -> list[WorkItem]:
    found = reading.find_work_items(ledger, study=choice.study, state=choice.state, since=choice.since)
    return [item for item in found if choice.reason is None or (item.reason or "").startswith(choice.reason)]


def _retried(ledger: Ledger, item: WorkItem) -> int:
    return replay.retry(ledger, item, cause=Cause.RETRY, now=time.time())
