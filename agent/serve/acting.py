"""What the page's buttons do: the commands of the same names, for one study."""

from __future__ import annotations

import time
from typing import Any

from agent.domain.errors import NotFoundError
from agent.domain.work_item import Cause, State
from agent.serve.commands import Choice, ReplayRequest, cancel_work_items, replay_studies
from agent.settings import Settings
from agent.worklist import reading, replay
from agent.worklist.ledger import Ledger


def act(settings: Settings, ledger: Ledger, action: str, study: str, *, dry_run: bool) -> list[dict[str, Any]]:
    """Do what the command does, or say what it would do: an entry for each work item that it touches.

    Raises
    ------
    AgentError
        It cannot be done.
    """
    if action == "replay":
        return _replay(settings, study, dry_run=dry_run)
    if action == "cancel":
        return cancel_work_items(settings, Choice(study=study, state=None, reason=None, since=None, dry_run=dry_run))
    return _retry_newest(ledger, study, dry_run=dry_run)


def _replay(settings: Settings, study: str, *, dry_run: bool) -> list[dict[str, Any]]:
    told: list[str] = []
    request = ReplayRequest(studies=(study,), source=None, since=None, bundle=None, dry_run=dry_run, wait=False)
    entries, _status = replay_studies(settings, request, told.append)
    if not entries:
        raise NotFoundError("; ".join(line.removeprefix("agent: ") for line in told) or f"study {study} is nowhere")
    return entries


def _retry_newest(ledger: Ledger, study: str, *, dry_run: bool) -> list[dict[str, Any]]:
    """Retry the newest work item alone: what it replaced is past."""
    items = reading.find_work_items(ledger, study=study, state=None, since=None)[:1]
    return [
        {
            "study_instance_uid": study,
            "retried": item.id,
            "work_item": None if dry_run else replay.retry(ledger, item, cause=Cause.RETRY, now=time.time()),
            "state": item.state,
            "reason": item.reason,
        }
        for item in items
        if item.state is State.CANCELED or item.held
    ]
