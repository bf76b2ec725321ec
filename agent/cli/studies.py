"""Commands that score studies and say what is known of them."""

from __future__ import annotations

import getpass
import json
from datetime import datetime
from pathlib import Path

import click

from agent.cli.options import Date, Entity, StudyUid, config_option, json_option, quiet_logs, seconds, settings_of
from agent.cli.printing import print_entries, progress, told
from agent.domain.errors import NotFoundError
from agent.domain.identifiers import Archive


@click.command()
@click.argument("studies", metavar="STUDY-UID...", nargs=-1, type=StudyUid())
@click.option("--from", "source", type=click.Choice(["spool", "archive"]), help="Default: the spool if it is whole.")
@click.option(
    "--since",
    metavar="YYYY-MM-DD",
    type=Date(),
    help="Every study received since this date (UTC).",
)
@click.option("--model", type=click.Path(path_type=Path, file_okay=False), help="Score with another bundle.")
@click.option("--wait", is_flag=True, help="Wait for the outcome and print it.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@json_option
@config_option
def replay(
    studies: tuple[str, ...],
    source: str | None,
    since: datetime | None,
    model: Path | None,
    wait: bool,
    dry_run: bool,
    as_json: bool,
    config: Path | None,
) -> int:
    """Score studies again, from the spool or fetched back from the archive.

    The same instances and model make no new object: what the archive lacks is sent again, byte for byte.
    """
    from agent.serve.commands.replays import ReplayRequest, replay_studies

    if not studies and since is None:
        raise click.UsageError("name a STUDY-UID, or give --since")
    settings = settings_of(config)
    quiet_logs(settings)
    request = ReplayRequest(
        studies=studies, source=source, since=seconds(since), bundle=model, dry_run=dry_run, wait=wait
    )
    entries, status = replay_studies(settings, request, progress)
    print_entries(entries, as_json, ("study_instance_uid", "work_item", "source", "state", "reason"))
    return status


@click.command()
@click.option("--state", help="RECEIVING, SCHEDULED, 'IN PROGRESS', COMPLETED, CANCELED, held, withheld or failed.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=1000, show_default=True, help="How many at most.")
@json_option
@config_option
def worklist(state: str | None, limit: int, as_json: bool, config: Path | None) -> int:
    """List the work items, newest first."""
    from agent.serve.composition.context import kept_ledger_of
    from agent.worklist import reading

    if state is not None and state not in reading.FILTERS:
        raise click.UsageError(f"--state {state!r} is none of {', '.join(reading.FILTERS)}")
    entries = reading.worklist(kept_ledger_of(settings_of(config)), state, limit=limit)
    print_entries(
        entries,
        as_json,
        ("id", "study_instance_uid", "state", "step", "grade", "fat_fraction_percent", "created_at", "reason"),
    )
    return 0


@click.command()
@click.argument("study", metavar="STUDY-UID", type=StudyUid())
@click.option("--unblind", is_flag=True, help="Tell a withheld result, too; that you looked is audited.")
@json_option
@config_option
def show(study: str, unblind: bool, as_json: bool, config: Path | None) -> int:
    """Say everything known of a study; the result of a blinded one only with --unblind."""
    from agent.serve.commands.releasing import SEEN, note
    from agent.serve.composition.context import kept_ledger_of
    from agent.worklist import reading

    settings = settings_of(config)
    ledger = kept_ledger_of(settings)
    shown = reading.show(ledger, study, unblinded=unblind)
    if unblind and shown["withheld"]:
        note(settings, ledger, study, by=getpass.getuser(), what=SEEN)
    click.echo(json.dumps(shown, indent=2) if as_json else told(shown))
    return 0


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@json_option
@config_option
def score(paths: tuple[Path, ...], as_json: bool, config: Path | None) -> int:
    """Score DICOM files or folders without network, ledger or queue: one JSON line per study."""
    from agent.serve.commands.score_files import score_paths

    del as_json  # one JSON line per study either way; the option is taken for uniformity
    settings = settings_of(config)
    quiet_logs(settings)
    found = False
    for line in score_paths(settings, paths, progress):
        found = True
        click.echo(json.dumps(line))
    if not found:
        raise NotFoundError("no DICOM instance was found under the given paths")
    return 0


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--to", type=Entity(), help="Another listener; default: that of the settings, on this machine.")
@json_option
@config_option
def push(paths: tuple[Path, ...], to: Archive | None, as_json: bool, config: Path | None) -> int:
    """Send DICOM files or folders to the listener by C-STORE, as a modality would: a line per study.

    What is no DICOM file is passed over and told.
    """
    from agent.serve.commands.pushing import own_listener, push_paths

    settings = settings_of(config)
    quiet_logs(settings)
    entries = push_paths(settings, to or own_listener(settings), paths, progress)
    print_entries(entries, as_json, ("study_instance_uid", "stored", "refused"))
    return int(not entries or any(entry["refused"] for entry in entries))
