"""Commands for the audit trail."""

from __future__ import annotations

from pathlib import Path

import click

from agent.cli.options import Group, config_option, json_option, settings_of
from agent.cli.printing import print_entries


@click.group(cls=Group)
def audit() -> None:
    """Look into the audit trail: who sent and received what."""


@audit.command("verify")
@json_option
@config_option
def audit_verify(as_json: bool, config: Path | None) -> int:
    """Follow the chain of the whole trail; the head that it prints, noted elsewhere, proves everything before."""
    from agent.serve.composition.auditing import verify_trail

    entry = verify_trail(settings_of(config))
    print_entries([entry], as_json, ("ok", "records", "first", "torn", "fault", "head"))
    return 0 if entry["ok"] else 1


@audit.command("export")
@click.option("--after", type=click.IntRange(0), default=0, show_default=True, help="Only records behind this number.")
@json_option
@config_option
def audit_export(after: int, as_json: bool, config: Path | None) -> int:
    """Print the messages, XML of DICOM PS3.15 A.5, one a line; with --json with number and hashes."""
    from agent.serve.composition.auditing import export_trail

    for record in export_trail(settings_of(config), after):
        click.echo(record.line().decode().rstrip() if as_json else record.message)
    return 0
