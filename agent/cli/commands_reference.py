"""The page of commands, written from the commands themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import click

from agent.cli.entry import cli

_HEAD: Final = """# Commands

Generated from `agent/cli` by `make docs`; do not edit.

Data go to standard output, everything else to standard error. Exit status: 0 done, 1 fault, 2 wrong use or settings,
3 not found. Every command says with `--help` what stands here. Nearly all take `--config FILE`, the settings file
(`AGENT_CONFIG` names it, too; environment variables `AGENT_<SECTION>__<KEY>` win over it), and `--json`, which prints
JSON.
"""

_EVERYWHERE: Final = ("config", "as_json")


def commands_reference() -> str:
    """Write every command with its arguments and options, in the order of their names."""
    return _HEAD + "".join(_section(command, names) for names, command in _commands(cli, ("agent",)))


def _commands(group: click.Group, above: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in sorted(group.list_commands(context)):
        names, command = (*above, name), group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from _commands(command, names)
        elif command is not None:
            yield names, command


def _section(command: click.Command, names: tuple[str, ...]) -> str:
    usage = " ".join((*names, *command.collect_usage_pieces(click.Context(command, info_name=names[-1]))))
    text = " ".join((command.help or "").split("\f")[0].split())
    shown = [option for option in command.params if isinstance(option, click.Option)]
    rows = "".join(
        f"| `{_spelled(option)}` | {_told(option)} |\n" for option in shown if option.name not in _EVERYWHERE
    )
    table = f"\n| option | |\n|---|---|\n{rows}" if rows else ""
    return f"\n## {' '.join(names)}\n\n`{usage}`\n\n{text}\n{table}"


def _spelled(option: click.Option) -> str:
    spelled = ", ".join(option.opts) + "".join(f" / {other}" for other in option.secondary_opts)
    if option.is_flag:
        return spelled
    value = option.make_metavar(click.Context(click.Command(None))).replace("|", " or ")
    return f"{spelled} {value}"


def _told(option: click.Option) -> str:
    notes = [(option.help or "").replace("|", "\\|")]
    if option.multiple:
        notes.append("May be given several times.")
    if option.required:
        notes.append("Required.")
    return " ".join(note for note in notes if note)
