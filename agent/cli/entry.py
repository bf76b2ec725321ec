"""The command line: parse, call, exit code. Data go to standard output, everything else to standard error."""

from __future__ import annotations

import sys
from itertools import chain
from typing import Final

import click

from agent import __version__
from agent.cli.auditing import audit
from agent.cli.models import model
from agent.cli.options import NOTICE
from agent.cli.running import conformance, demo, doctor, migrate, reconcile, serve
from agent.cli.steering import cancel, release, retry
from agent.cli.studies import push, replay, score, show, worklist
from agent.cli.watching import drift_command, readers_command, shadow_group
from agent.domain.errors import AgentError

_WRONG_USE: Final = 2


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


@click.group(epilog=NOTICE, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="steatosis-agent")
def cli() -> None:
    """Grade hepatic steatosis on abdominal ultrasound and file the result in PACS."""


_COMMANDS: Final = (
    (serve, doctor, conformance, demo, migrate, reconcile),
    (push, replay, worklist, show, score),
    (retry, cancel, release),
    (drift_command, shadow_group, readers_command),
    (model, audit),
)
for _command in chain.from_iterable(_COMMANDS):
    cli.add_command(_command)
