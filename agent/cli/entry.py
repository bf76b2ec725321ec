"""The command line: parse, call, exit code. Data go to standard output, everything else to standard error."""

from __future__ import annotations

import importlib
import sys
from typing import Final

import click

from agent import __version__
from agent.cli.options import NOTICE, Group
from agent.domain.errors import AgentError

_WRONG_USE: Final = 2
_COMMANDS: Final = {
    "auditing": ("audit",),
    "models": ("model",),
    "running": ("conformance", "demo", "doctor", "migrate", "reconcile", "serve"),
    "steering": ("cancel", "release", "retry"),
    "studies": ("push", "replay", "score", "show", "worklist"),
    "watching": ("drift", "readers", "shadow"),
}
"""Commands by the module of this package that holds each under its own name, which is loaded when one is asked for."""


class _Commands(Group):
    """A group whose commands are loaded when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name them all."""
        del ctx
        return sorted(name for names in _COMMANDS.values() for name in names)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load one; None where there is none of that name."""
        del ctx
        for module, names in _COMMANDS.items():
            if cmd_name in names:
                found: click.Command = getattr(importlib.import_module(f"agent.cli.{module}"), cmd_name)
                return found
        return None


def main() -> int:
    """Run the command line; returns the exit status (0 done, 1 fault, 2 wrong use or settings, 3 not found)."""
    try:
        status = cli.main(standalone_mode=False, prog_name="agent")
    except click.Abort:
        return 130
    except click.ClickException as error:
        error.show()
        return _WRONG_USE
    except AgentError as error:
        click.echo(f"agent: {error}", err=True)
        return error.exit_code
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    return status if isinstance(status, int) else 0


@click.group(cls=_Commands, epilog=NOTICE, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="steatosis-agent")
def cli() -> None:
    """Grade hepatic steatosis on abdominal ultrasound and file the result in PACS."""
