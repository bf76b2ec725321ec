"""Documents that must not drift from the code."""

from __future__ import annotations

from pathlib import Path

from agent.cli import cli
from agent.serve.delivery_reference import delivery_reference
from agent.serve.reference import settings_reference
from agent.settings import Settings

ROOT = Path(__file__).parents[2]


def test_settings_page_is_generated() -> None:
    assert (ROOT / "docs/settings.md").read_text(encoding="utf-8") == settings_reference(), "run `make docs`"


def test_delivery_page_is_generated() -> None:
    assert (ROOT / "docs/delivery.md").read_text(encoding="utf-8") == delivery_reference(), "run `make docs`"


def test_every_setting_has_a_help_text() -> None:
    for section in Settings.model_fields.values():
        for key, field in section.annotation.model_fields.items():  # type: ignore[union-attr]
            assert field.description, key


def test_readme_names_every_command() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in cli.commands:
        assert f"agent {name}" in readme, name


def test_every_command_has_help() -> None:
    for name, command in cli.commands.items():
        assert command.help, name
