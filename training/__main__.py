"""`python -m training`: make a bundle, compare systems, look after cohorts, report and explain."""

from __future__ import annotations

from typing import Any

import click

from inference.description import BundleError
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
from training.systems.commands import system, system_export, systems_command, table_command


class _Group(click.Group):
    """Commands whose foreseeable faults end in a sentence."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run one."""
        try:
            return super().invoke(ctx)
        except BundleError as error:
            raise click.ClickException(f"{error.cause} ({error.remedy})") from error
        except FileNotFoundError as error:
            if error.filename is None:
                raise
            what = error.strerror if error.strerror and error.strerror.startswith("no ") else "there is no such file"
            raise click.ClickException(
                f"{error.filename}: {what}. Is the path right, and has the step before it been run? "
                "`python -m training COMMAND --help` says what is taken from where."
            ) from error


@click.group(cls=_Group, help=__doc__)
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
    system_export,
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
