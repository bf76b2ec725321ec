"""Commands for model bundles."""

from __future__ import annotations

from pathlib import Path

import click

from agent.cli.options import Group, config_option, json_option, settings_of
from agent.cli.printing import print_entries, progress


@click.group(cls=Group)
def model() -> None:
    """Look after model bundles."""


@model.command("list")
@json_option
@config_option
def model_list(as_json: bool, config: Path | None) -> int:
    """List the configured, the shipped and the installed bundles."""
    from agent.serve.commands.models import list_bundles

    print_entries(
        list_bundles(settings_of(config)), as_json, ("name", "version", "members", "digest", "folder", "configured")
    )
    return 0


@model.command("verify")
@click.argument("folder", required=False, type=click.Path(path_type=Path, file_okay=False))
@json_option
@config_option
def model_verify(folder: Path | None, as_json: bool, config: Path | None) -> int:
    """Check a bundle's digests, and its golden vectors on this machine."""
    from agent.serve.commands.models import verify_bundle

    entry = verify_bundle(settings_of(config), folder)
    print_entries([entry], as_json, ("name", "version", "backend", "precision", "ok", "worst"))
    return 0 if entry["ok"] else 1


@model.command("compile")
@click.argument("folder", required=False, type=click.Path(path_type=Path, file_okay=False))
@json_option
@config_option
def model_compile(folder: Path | None, as_json: bool, config: Path | None) -> int:
    """Build a bundle for this machine, try every engine, and remember the fastest that agrees."""
    from agent.serve.commands.models import compile_bundle

    entry = compile_bundle(settings_of(config), folder, progress)
    print_entries([entry], as_json, ("name", "version", "backend", "precision", "ok"))
    return 0 if entry["ok"] else 1


@model.command("install")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False, exists=True))
@json_option
@config_option
def model_install(folder: Path, as_json: bool, config: Path | None) -> int:
    """Check a bundle and copy it into the data folder."""
    from agent.serve.commands.models import install_bundle

    entry = install_bundle(settings_of(config), folder)
    print_entries([entry], as_json, ("name", "version", "members", "digest", "folder"))
    if not as_json and not entry["configured"]:
        click.echo(f'To score with it: [model] bundle = "{entry["folder"]}"', err=True)
    return 0
