"""`python -m training`: make a bundle, compare systems, look after cohorts, report and explain."""

from __future__ import annotations

import click

from training.bundle.commands import calibrate, evaluate, export, fit, reference
from training.cohort.commands import cohort
from training.explain.commands import explain, report
from training.systems.commands import system, systems_command, table_command


@click.group(help=__doc__)
def main() -> None:
    """Gather the commands of the rooms."""


for command in (
    fit,
    export,
    calibrate,
    evaluate,
    reference,
    cohort,
    system,
    systems_command,
    table_command,
    report,
    explain,
):
    main.add_command(command)

if __name__ == "__main__":
    main()
