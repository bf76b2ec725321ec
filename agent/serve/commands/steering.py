"""What `retry` and `cancel` do: they write work items into the ledger; the workers' reconciler finds them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Final

from agent.domain.work_item import CANCELED_BY_OPERATOR, RECEIVING, SUPERSEDED, Cause, State, WorkItem
from agent.serve.composition.bundles import bundle_digest_of
from agent.serve.composition.context import kept_ledger_of
from agent.settings import Settings
from agent.worklist import closing, reading, replay
from agent.worklist.ledger import Ledger

_FINAL: Final = (State.COMPLETED, State.CANCELED)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which work items `retry` and `cancel` mean."""

    study: str | None
    state: str | None
    reason: str | None
    since: float | None
    dry_run: bool


def retry_work_items(settings: Settings, choice: Choice) -> list[dict[str, Any]]:
    """Make a new work item for each chosen one that failed, was canceled or is held.

    One that a later work item of its group stands for is passed over: retrying twice sends nothing twice.
    """
    ledger, entries = kept_ledger_of(settings), []
    for item in _chosen(ledger, choice):
        if not _may_be_retried(ledger, item):
            continue
        made = None if choice.dry_run else replay.retry(ledger, item, cause=Cause.RETRY, now=time.time())
        entries.append(
            {"study_instance_uid": item.study_instance_uid, "work_item": made, "retried": item.id, "state": item.state}
        )
    return entries


def cancel_work_items(settings: Settings, choice: Choice) -> list[dict[str, Any]]:
    """Cancel each chosen work item that is not finished, and close studies that still receive."""
    ledger, entries = kept_ledger_of(settings), []
    if choice.state in (None, RECEIVING) and choice.reason is None:
        entries = _receiving_canceled(settings, ledger, choice)
    for item in _chosen(ledger, choice):
        if item.state in _FINAL:
            continue
        if not choice.dry_run:
            replay.cancel(ledger, item.id, reason=CANCELED_BY_OPERATOR, now=time.time())
        entries.append(_canceled(item.study_instance_uid, item.id, item.state if choice.dry_run else State.CANCELED))
    return entries


def _may_be_retried(ledger: Ledger, item: WorkItem) -> bool:
    ended = item.state is State.CANCELED and item.reason != SUPERSEDED
    return (ended or item.held) and reading.newest_of_its_group(ledger, item)


def _receiving_canceled(settings: Settings, ledger: Ledger, choice: Choice) -> list[dict[str, Any]]:
    closed = closing.cancel_receiving(
        ledger,
        study=choice.study,
        since=choice.since,
        bundle_digest=bundle_digest_of(settings.model.bundle),
        now=time.time(),
        dry_run=choice.dry_run,
    )
    state = RECEIVING if choice.dry_run else State.CANCELED
    return [_canceled(one.study_instance_uid, one.work_item_id, state) for one in closed]


def _canceled(study: str, work_item: int | None, state: str) -> dict[str, Any]:
    return {"study_instance_uid": study, "work_item": work_item, "state": state}


def _chosen(ledger: Ledger, choice: Choice) -> list[WorkItem]:
    return reading.find_work_items(
        ledger, study=choice.study, state=choice.state, since=choice.since, reason=choice.reason
    )
