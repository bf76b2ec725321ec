"""Documents that must not drift from the code."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from agent.cli import cli
from agent.cli.reference import PAGES
from agent.receive.contexts import TRANSFER_SYNTAXES
from agent.serve.documents.conformance import conformance_statement
from agent.settings import Settings, load_settings

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("page", PAGES)
def test_generated_pages_say_what_the_program_does(page: str) -> None:
    assert (ROOT / "docs" / page).read_text(encoding="utf-8") == PAGES[page](), "run `make docs`"


def test_the_conformance_statement_is_that_of_the_configuration() -> None:
    settings = load_settings(None, {"AGENT_DICOM__AE_TITLE": "LIVER", "AGENT_DICOM__MAX_ASSOCIATIONS": "17"})
    said = conformance_statement(settings)
    assert "| AE title | `LIVER` |" in said
    assert "| Simultaneous associations as acceptor | 17 |" in said
    for uid in TRANSFER_SYNTAXES:
        assert f"`{uid}`" in said


def test_the_conformance_statement_lists_the_headings_that_it_has() -> None:
    lines = conformance_statement(load_settings(None, {})).splitlines()
    headings = [line.removeprefix("## ") for line in lines if line.startswith("## ")]
    start = lines.index("## 2 Table of contents") + 2
    assert [line.removeprefix("- ") for line in lines[start : start + len(headings)]] == headings


def test_every_setting_has_a_help_text() -> None:
    for section in Settings.model_fields.values():
        for key, field in section.annotation.model_fields.items():  # type: ignore[union-attr]
            assert field.description, key


def test_readme_names_every_command() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in cli.list_commands(click.Context(cli)):
        assert f"agent {name}" in readme, name


def test_every_command_has_help() -> None:
    context = click.Context(cli)
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        assert command.help, name
        for option in command.params:
            assert not isinstance(option, click.Option) or option.help, f"{name} {option.name}"
