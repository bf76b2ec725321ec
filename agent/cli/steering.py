"""Commands that decide about work items: again, not at all, or now."""

from __future__ import annotations

import getpass
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from agent.cli.options import StudyUid, config_option, json_option, quiet_logs, seconds, settings_of
from agent.cli.printing import print_entries, progress


def _filters(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options by which `retry` and `cancel` choose work items."""
    for option in (
        click.argument("study", metavar="[STUDY-UID]", required=False, type=StudyUid()),
        click.option("--state", help="As `worklist --state` takes it."),
        click.option("--reason", help="Beginning of the reason, e.g. delivery-failed."),
        click.option("--since", type=click.DateTime(["%Y-%m-%d"]), help="Made since this date (UTC)."),
        click.option("--dry-run", is_flag=True, help="Only say which."),
        json_option,
        config_option,
    ):
        command = option(command)
    return command


def _choice(kind: type[Any], chosen: dict[str, Any]) -> Any:
    if not any(chosen[name] for name in ("study", "state", "reason", "since")):
        raise click.UsageError("say which: a STUDY-UID, --state, --reason or --since")
    return kind(**{**chosen, "since": seconds(chosen["since"])})


@click.command()
@_filters
def retry(config: Path | None, as_json: bool, **chosen: Any) -> int:
    """Make new work items for failed or canceled ones, with the same result key."""
    from agent.serve.commands.steering import Choice, retry_work_items

    entries = retry_work_items(settings_of(config), _choice(Choice, chosen))
    print_entries(entries, as_json, ("study_instance_uid", "work_item", "retried", "state"))
    return 0


@click.command()
@_filters
def cancel(config: Path | None, as_json: bool, **chosen: Any) -> int:
    """End work items in any state that is not final."""
    from agent.serve.commands.steering import Choice, cancel_work_items

    entries = cancel_work_items(settings_of(config), _choice(Choice, chosen))
    print_entries(entries, as_json, ("study_instance_uid", "work_item", "state"))
    return 0


@click.command()
@click.argument("study", metavar="[STUDY-UID]", required=False, type=StudyUid())
@click.option("--all", "every", is_flag=True, help="Every study that is withheld now.")
@click.option("--dry-run", is_flag=True, help="Only say which.")
@json_option
@config_option
def release(study: str | None, every: bool, dry_run: bool, as_json: bool, config: Path | None) -> int:
    """Release blinded results: they are sent to their archives and shown. Released ones are passed over."""
    from agent.serve.commands.releasing import release_results

    if (study is None) != every:
        raise click.UsageError("name one STUDY-UID, or give --all")
    settings = settings_of(config)
    quiet_logs(settings)
    entries = release_results(settings, study, by=getpass.getuser(), dry_run=dry_run)
    print_entries(entries, as_json, ("study_instance_uid", "work_item", "state"))
    if not entries:
        progress("nothing is withheld" if every else "nothing of this study is withheld")
    return 0
