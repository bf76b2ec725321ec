"""What the page's buttons do: the commands of the same names, for one study."""

from __future__ import annotations

from typing import Any

from agent.domain.errors import NotFoundError
from agent.serve.commands.releasing import release_results
from agent.serve.commands.replays import ReplayRequest, replay_studies
from agent.serve.commands.steering import Choice, cancel_work_items, retry_work_items
from agent.settings import Settings


def act(settings: Settings, action: str, study: str, *, dry_run: bool) -> list[dict[str, Any]]:
    """Do what the command does, or say what it would do: an entry for each work item that it touches.

    Raises
    ------
    AgentError
        It cannot be done.
    """
    if action == "release":
        return release_results(settings, study, by="page", dry_run=dry_run)
    if action == "replay":
        return _replay(settings, study, dry_run=dry_run)
    does = {"retry": retry_work_items, "cancel": cancel_work_items}[action]
    return does(settings, Choice(study=study, state=None, reason=None, since=None, dry_run=dry_run))


def _replay(settings: Settings, study: str, *, dry_run: bool) -> list[dict[str, Any]]:
    told: list[str] = []
    request = ReplayRequest(studies=(study,), source=None, since=None, bundle=None, dry_run=dry_run, wait=False)
    entries, _status = replay_studies(settings, request, told.append)
    if not entries:
        raise NotFoundError("; ".join(line.removeprefix("agent: ") for line in told) or f"study {study} is nowhere")
    return entries
