"""`python -m training`: make a bundle, compare systems, look after cohorts, report and explain."""

from __future__ import annotations

import click

from training.bundle.commands import (
    calibrate,
    calibration,
    drift_reference,
    evaluate,
    export,
    fit,
    gate,
    predict,
    recalibrate,
    reexport,
    reference,
    regate,
)
from training.cohort.commands import cohort
from training.explain.commands import cues, explain, refusals, report, robustness
from training.systems.commands import system, systems_command, table_command


@click.group(help=__doc__)
def main() -> None:
    """Gather the commands of the rooms."""


for command in (
    fit,
    export,
    calibrate,
    gate,
    evaluate,
    reference,
    regate,
    recalibrate,
    reexport,
    calibration,
    predict,
    drift_reference,
    cohort,
    system,
    systems_command,
    table_command,
    report,
    refusals,
    robustness,
    cues,
    explain,
):
    main.add_command(command)

if __name__ == "__main__":
    main()
