"""`python -m training predict --manifest` and `recalibrate --manifest`: a bundle on a cohort of one's own."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from training.evaluation.predictions import Prediction

TOLD: Final = (
    "auroc",
    "auroc_s2",
    "auroc_s3",
    "sensitivity",
    "specificity",
    "ece",
    "coverage_interval",
    "coverage_set",
)


def manifest_option(told: str) -> Any:
    """Return the option that names a cohort."""
    return click.option("--manifest", type=click.Path(path_type=Path), help=told)


def refuse_with(context: click.Context, given: str, others: Sequence[str]) -> None:
    """Refuse options that say nothing beside `given`; they would be passed over in silence."""
    for name in others:
        if context.get_parameter_source(name) == ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--{name} is of phantoms; it says nothing of {given}.")


def predict_cohort(bundle: Path, manifest: Path, out: Path, keep: Path) -> None:
    """Score the studies of a manifest as serving would; writes predictions and what has none."""
    from inference.bundle import Bundle
    from training.bundle.on_cohort import told, write_answers
    from training.cohort.answers import answered
    from training.cohort.manifest import read_manifest

    read = Bundle.load(bundle)
    found = answered(bundle, read_manifest(manifest), keep)
    made = write_answers(out, found, read)
    for line in [*told(found, made, read, out), *figure_lines(made, read.steatosis_operating_point)]:
        click.echo(line)
    click.echo(f"now: python -m training report {out} --bundle {bundle} --manifest {manifest} --out report.html")


def figure_lines(made: Sequence[Prediction], operating_point: float | None = None) -> Iterator[str]:
    """Give a line for each figure of each system, one that cannot be told as a dash."""
    from training.evaluation.figures import BINS, FIGURES, answers_of, figures
    from training.metrics import chance_error

    for system in dict.fromkeys(one.system for one in made):
        answers = answers_of([one for one in made if one.system == system], operating_point=operating_point)
        found = figures(answers)
        yield f"{system}, {len(answers)} studies; perfect probabilities would show an error of " + (
            f"{chance_error(answers.steatosis, BINS):.3f} by chance"
        )
        for name in TOLD:
            value, low, high = found[name]
            shown = "–" if math.isnan(value) else f"{value:.3f} ({low:.3f}–{high:.3f})"
            yield f"  {FIGURES[name][0]:40} {shown}"


def recalibrate_cohort(
    bundle: Path, manifest: Path, version: str, keep: Path, out: Path | None, about: str, predictions: Path | None
) -> None:
    """Calibrate a bundle for the cohort of a manifest; says what came of it."""
    from training.bundle.recalibrate_cohort import lines, recalibrate_on
    from training.evaluation.left_out import beside, write_left_out
    from training.evaluation.predictions import write_predictions

    done = recalibrate_on(bundle, manifest, version, keep, out=out, about=about)
    if predictions is not None:
        predictions.parent.mkdir(parents=True, exist_ok=True)
        write_predictions(predictions, done.predictions)
        write_left_out(beside(predictions), done.left_out)
    for line in lines(done):
        click.echo(line)
