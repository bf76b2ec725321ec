"""Commands that watch the model."""

from __future__ import annotations

import json
from pathlib import Path

import click

from agent.cli.options import Group, config_option, json_option, quiet_logs, settings_of
from agent.cli.printing import print_entries, progress


@click.command("drift")
@click.option("--all", "every", is_flag=True, help="Print every figure, not only those that have moved.")
@json_option
@config_option
def drift(every: bool, as_json: bool, config: Path | None) -> int:
    """Compare the latest days of each scanner and site with the bundle's reference and with their own first studies.

    The exit status is 1 where a figure has drifted from its own beginning: run it once a day.
    """
    from agent.serve.composition.watching import drift_entries, drift_told

    settings = settings_of(config)
    quiet_logs(settings)
    report, entries = drift_entries(settings)
    shown = entries if every or as_json else [one for one in entries if one["verdict"] in ("moved", "drifted")]
    columns = ("kind", "unit", "figure", "reference", "studies", "psi", "chance", "p", "verdict")
    for line in drift_told(report):
        progress(line)
    print_entries(shown, as_json, columns, digits=3)
    return 1 if report.drifted else 0


@click.group("shadow", cls=Group)
def shadow() -> None:
    """Look at the bundle that scores beside the live one (`model.shadow_bundle`)."""


@shadow.command("report")
@json_option
@config_option
def shadow_report_command(as_json: bool, config: Path | None) -> int:
    """Say how the shadow bundle agrees with the live one: grades, fat fractions, and the studies where they differ."""
    from agent.serve.commands.agreement_told import shadow_told
    from agent.serve.composition.watching import shadow_report

    settings = settings_of(config)
    quiet_logs(settings)
    report = shadow_report(settings)
    click.echo(json.dumps(report.as_dict(), indent=2) if as_json else shadow_told(report))
    return 0


@click.command("readers")
@json_option
@config_option
def readers(as_json: bool, config: Path | None) -> int:
    """Say how readers' grades agree with the reported ones: over all, by month and by reader."""
    from agent.serve.commands.agreement_told import readers_told
    from agent.serve.composition.watching import readers_report_of

    settings = settings_of(config)
    quiet_logs(settings)
    report = readers_report_of(settings)
    click.echo(json.dumps(report.as_dict(), indent=2) if as_json else readers_told(report))
    return 0
