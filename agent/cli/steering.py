"""Commands that decide about work items: again, not at all, or now."""

from __future__ import annotations

import getpass
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.cli.options import Date, StudyUid, config_option, json_option, quiet_logs, seconds, settings_of
from agent.cli.printing import print_entries, progress

if TYPE_CHECKING:
    from agent.settings import Settings


def _filters(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options by which `retry` and `cancel` choose work items."""
    for option in (
        click.argument("study", metavar="[STUDY-UID]", required=False, type=StudyUid()),
        click.option("--state", help="As `worklist --state` takes it."),
        click.option("--reason", help="Beginning of the reason, e.g. delivery-failed."),
        click.option("--since", metavar="YYYY-MM-DD", type=Date(), help="Made since this date (UTC)."),
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


def _say_why_nothing(settings: Settings, study: str | None, wanted: str) -> None:
    """Say that nothing was to be done; raises NotFoundError where the study that was named is unknown."""
    if study is None:
        progress(f"nothing that was asked for {wanted}")
        return
    from agent.serve.composition.context import kept_ledger_of
    from agent.worklist import reading

    shown = reading.show(kept_ledger_of(settings), study)
    told = " ".join(filter(None, (shown["state"], shown["reason"])))
    progress(f"nothing of study {study} {wanted}: it is {told}")


@click.command()
@_filters
def retry(config: Path | None, as_json: bool, **chosen: Any) -> int:
    """Make new work items for failed or canceled ones, with the same result key."""
    from agent.serve.commands.steering import Choice, retry_work_items

    settings = settings_of(config)
    entries = retry_work_items(settings, _choice(Choice, chosen))
    print_entries(entries, as_json, ("study_instance_uid", "work_item", "retried", "state"))
    if not entries:
        _say_why_nothing(settings, chosen["study"], "failed, was canceled or is held")
    return 0


@click.command()
@_filters
def cancel(config: Path | None, as_json: bool, **chosen: Any) -> int:
    """End work items in any state that is not final."""
    from agent.serve.commands.steering import Choice, cancel_work_items

    settings = settings_of(config)
    entries = cancel_work_items(settings, _choice(Choice, chosen))
    print_entries(entries, as_json, ("study_instance_uid", "work_item", "state"))
    if not entries:
        _say_why_nothing(settings, chosen["study"], "is unfinished")
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
