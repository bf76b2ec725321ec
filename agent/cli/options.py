"""Options, settings and parameter types that commands share."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from agent.domain.identifiers import Archive, is_uid

if TYPE_CHECKING:
    from agent.settings import Settings

_SENTENCE: Final = 400
"""Characters of a command's first sentence that are listed: all of it."""
NOTICE: Final = "For research use only; not for use in diagnostic procedures."

config_option = click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="AGENT_CONFIG",
    help="Settings file (TOML); environment variables AGENT_<SECTION>__<KEY> win over it.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


class Group(click.Group):
    """A group that lists its commands with their whole first sentence, over several lines where one is too short."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write them."""
        named = ((name, self.get_command(ctx, name)) for name in self.list_commands(ctx))
        rows = [(name, command.get_short_help_str(limit=_SENTENCE)) for name, command in named if command is not None]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


class Date(click.DateTime):
    """A day; anything else is wrong use."""

    def __init__(self) -> None:
        super().__init__(["%Y-%m-%d"])

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Read it."""
        try:
            day: datetime = super().convert(value, param, ctx)
        except click.BadParameter:
            self.fail(f"{value!a} is no day, which is written like 2026-11-30", param, ctx)
        return day


class StudyUid(click.ParamType[str]):
    """A Study Instance UID; anything else is wrong use."""

    name = "STUDY-UID"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Take it as it stands."""
        if is_uid(str(value)):
            return str(value)
        self.fail(f"{value!a} is not a Study Instance UID", param, ctx)


class Entity(click.ParamType[Archive]):
    """An application entity that is called, `AE@host:port`; anything else is wrong use."""

    name = "AE@HOST:PORT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Archive:
        """Read it."""
        try:
            return Archive.parse(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


def settings_of(config: Path | None) -> Settings:
    """Read file and environment."""
    from agent.settings import load_settings

    return load_settings(config, os.environ)


def quiet_logs(settings: Settings) -> None:
    """Log warnings alone: a command's own words are enough."""
    from agent.observe.logs import set_up_logging

    set_up_logging(settings.log.format or "auto", role="cli", level="warning")


def seconds(date: datetime | None) -> float | None:
    """Seconds since the epoch of a date's first moment (UTC)."""
    return None if date is None else date.replace(tzinfo=UTC).timestamp()
