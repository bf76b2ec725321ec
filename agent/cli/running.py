"""Commands that run the agent or look at it as a whole."""

from __future__ import annotations

import gc
import json
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from agent.cli.options import Date, Entity, config_option, json_option, quiet_logs, settings_of
from agent.cli.printing import print_entries, progress
from agent.domain.identifiers import Archive


@click.command()
@config_option
@click.option(
    "--role",
    type=click.Choice(["all", "listener", "worker", "web"]),
    default="all",
    show_default=True,
    help="What this host runs; all also supervises an embedded broker.",
)
def serve(config: Path | None, role: str) -> int:
    """Receive, score, report and deliver until SIGTERM."""
    gc.disable()  # until everything is loaded, which `serve` says: collecting takes a tenth of that time
    from agent.serve.lean import load_structlog

    load_structlog()
    from agent.serve.serve import serve as run

    return run(role, config)


@click.command()
@click.option("--deep", is_flag=True, help="Check every row of the ledger against its file.")
@json_option
@config_option
def doctor(deep: bool, as_json: bool, config: Path | None) -> int:
    """Probe our own listener, certificates, archives, broker, ledger, disk, model; say the true cause of each fault."""
    from agent.serve.commands.doctor import examine

    settings = settings_of(config)
    quiet_logs(settings)
    findings = examine(settings, deep=deep)
    if as_json:
        click.echo(json.dumps(findings, indent=2))
    else:
        for finding in findings:
            _print_finding(finding)
    return 0 if all(finding["ok"] for finding in findings) else 1


def _print_finding(finding: Mapping[str, Any]) -> None:
    """Print one thing that was looked at; what is not well with what to do."""
    if not finding["ok"]:
        mark = click.style("FAULT", fg="red", bold=True)
    else:
        mark = click.style("warn ", fg="yellow") if finding["warning"] else click.style("ok   ", fg="green")
    told = finding["remedy"] and (finding["warning"] or not finding["ok"])
    remedy = f"\n        -> {finding['remedy']}" if told else ""
    click.echo(f"{mark} {finding['subject']}: {finding['message']}{remedy}")


@click.command()
@config_option
def conformance(config: Path | None) -> int:
    """Write the DICOM Conformance Statement of the configuration, as Markdown."""
    from agent.serve.documents.conformance import conformance_statement

    click.echo(conformance_statement(settings_of(config)), nl=False)
    return 0


@click.command()
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the pictures go; default: a temporary folder.",
)
@click.option("--patients", type=click.IntRange(1, 100), default=12, show_default=True, help="How many.")
@click.option("--to", type=Entity(), help="Push to this agent, which runs already, and look at its page.")
@json_option
def demo(folder: Path | None, patients: int, to: Archive | None, as_json: bool) -> int:
    """Show the whole way: a dozen synthetic patients pushed to an agent of their own and read back from an archive."""
    from agent.demo.demo import run_demo
    from agent.demo.pushing import push_demo

    if to is not None:
        return push_demo(to=to, patients=patients, as_json=as_json)
    return run_demo(folder=folder, patients=patients, as_json=as_json)


@click.command()
@config_option
def migrate(config: Path | None) -> int:
    """Bring the ledger to this version's tables; before an upgrade of several hosts. `serve` does it by itself."""
    from agent.serve.composition.context import ledger_of

    settings = settings_of(config)
    quiet_logs(settings)
    ledger_of(settings).close()
    progress("the ledger has this version's tables")
    return 0


@click.command()
@click.option(
    "--since",
    metavar="YYYY-MM-DD",
    type=Date(),
    help="Studies of this date and later; default: yesterday.",
)
@click.option("--all", "every", is_flag=True, help="Print every study, not only those that were missed.")
@json_option
@config_option
def reconcile(since: datetime | None, every: bool, as_json: bool, config: Path | None) -> int:
    """Compare the archive's ultrasound studies with what was scored; each miss with its reason.

    The exit status is 1 where a study was missed: run it once a day.
    """
    from agent.serve.commands.reconciling import MISSED
    from agent.serve.commands.reconciling import reconcile as compare

    settings = settings_of(config)
    quiet_logs(settings)
    day = (since or datetime.now(UTC) - timedelta(days=1)).date()
    found = list(compare(settings, day))
    missed = [entry for entry in found if entry.outcome == MISSED]
    shown = found if every else missed
    print_entries(
        [entry.as_dict() for entry in shown], as_json, ("study_date", "outcome", "study_instance_uid", "reason")
    )
    counted = ", ".join(f"{count} {outcome}" for outcome, count in Counter(e.outcome for e in found).items())
    progress(f"{len(found)} ultrasound studies since {day}{': ' + counted if found else ''}")
    if missed:
        progress("Fetch and score what was missed: agent replay --from archive STUDY-UID…")
    return 1 if missed else 0
