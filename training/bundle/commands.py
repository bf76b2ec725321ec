"""`python -m training fit`, `export`, `calibrate`, `gate`, `evaluate`, and `reference`, which is all of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from training.bundle.configuration import Experiment, read_experiment

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "inference" / "bundles" / "reference"


def _options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--experiment", default="reference", show_default=True, help="Name or path of a configuration."),
        click.option("--run", type=click.Path(path_type=Path), help="Run folder; default runs/EXPERIMENT."),
        click.option("--bundle", type=click.Path(path_type=Path), help="Bundle folder; default RUN/bundle."),
        click.option("--real-frames", default="", help="Folder of the AUL images, for the liver gate only."),
    ):
        command = option(command)
    return command


def _settled(experiment: str, run: Path | None, bundle: Path | None, real_frames: str) -> tuple[Experiment, Path, Path]:
    read = read_experiment(experiment)
    if real_frames:
        read = replace(read, data=replace(read.data, real_frames=real_frames))
    run = run or ROOT / "runs" / Path(experiment).stem
    return read, run, bundle or run / "bundle"


@click.command()
@_options
def fit(**options: Any) -> None:
    """Render the phantoms and fit the members; an interrupted run goes on where it stopped."""
    from training.bundle.reference import fit_members

    experiment, run, _ = _settled(**options)
    fit_members(experiment, run)


@click.command()
@_options
def export(**options: Any) -> None:
    """Write the members as ONNX graphs with golden vectors."""
    from training.bundle.reference import export_bundle

    export_bundle(*_settled(**options))


@click.command()
@_options
def calibrate(**options: Any) -> None:
    """Calibrate the exported graphs on patients no member has seen; writes bundle.json."""
    from training.bundle.reference import calibrate_bundle

    calibrate_bundle(*_settled(**options))


@click.command()
@_options
def gate(**options: Any) -> None:
    """Fit the liver gate of the exported graphs on more frames, and choose its threshold on others."""
    from training.bundle.reference import gate_bundle

    click.echo(json.dumps(gate_bundle(*_settled(**options)), indent=1))


@click.command()
@_options
def evaluate(**options: Any) -> None:
    """Evaluate the bundle on held-out patients; writes the figures and the model card."""
    from training.bundle.reference import evaluate_bundle

    click.echo(json.dumps(evaluate_bundle(*_settled(**options)), indent=1))


@click.command()
@_options
@click.pass_context
def reference(context: click.Context, **options: Any) -> None:
    """Do all of it: fit, export, calibrate, gate, evaluate."""
    for step in (fit, export, calibrate, gate, evaluate):
        context.invoke(step, **options)


@click.command()
@click.option(
    "--bundle", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True, help="Changed in place."
)
@click.option("--experiment", default="reference", show_default=True, help="Whose seeds and sizes are used.")
@click.option("--real-frames", default="", help="Folder of the AUL images.")
@click.option("--version", required=True, help="Of the changed bundle.")
@click.option(
    "--kept", type=click.FloatRange(0.0, 1.0), default=0.0, show_default=True, help="Share that the old line keeps."
)
@click.option("--threshold", type=float, help="Least liver logit that is taken.  [default: by the calibration frames]")
def regate(bundle: Path, experiment: str, real_frames: str, version: str, kept: float, threshold: float | None) -> None:
    """Fit the liver gate of a finished bundle anew; grades and fat fractions stay as they are."""
    from training.bundle.regate import regate as fit_again

    data = replace(read_experiment(experiment).data, real_frames=real_frames)
    click.echo(json.dumps(fit_again(bundle, data, version, kept=kept, threshold=threshold), indent=1))


@click.command("drift-reference")
@click.option(
    "--bundle",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=SHIPPED,
    help="Finished; reference.json is written into it.  [default: the one that ships]",
)
@click.option("--patients", type=click.IntRange(1), default=400, show_default=True)
@click.option("--seed", type=int, default=20261201, show_default=True, help="Of no experiment's data.")
def drift_reference(bundle: Path, patients: int, seed: int) -> None:
    """Write how figures and answers are distributed over new phantom patients, for serving to compare with."""
    from training.bundle.drift_reference import fresh_drift_reference

    click.echo(fresh_drift_reference(bundle, patients, seed))


@click.command()
@click.option(
    "--bundle",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=SHIPPED,
    help="Folder.  [default: the one that ships]",
)
@click.option("--patients", type=click.IntRange(1), default=600, show_default=True)
@click.option("--seed", type=int, default=20261200, show_default=True, help="Of no experiment's data.")
@click.option(
    "--trimmed", type=click.FloatRange(0.0, 1.0), default=0.5, show_default=True, help="Share not kept whole."
)
@click.option("--foreign", is_flag=True, help="Scanners of another site.")
@click.option("--workers", type=click.IntRange(1), default=2, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path("predictions.csv"), show_default=True)
def predict(bundle: Path, patients: int, seed: int, trimmed: float, foreign: bool, workers: int, out: Path) -> None:
    """Score new phantom patients with a bundle, with one to four views each; writes predictions for `report`.

    What was looked at is kept under runs/fresh, so an interrupted run goes on where it was.
    """
    from inference.bundle import Bundle
    from training.bundle.evaluate import fresh_predictions
    from training.bundle.fresh import looked_at
    from training.bundle.halves import Halves
    from training.evaluation.figures import answers_of, calibration_floor, figures
    from training.evaluation.predictions import write_predictions

    read = Bundle.load(bundle)
    halves = Halves(read.members)
    seen, fat = looked_at(
        read, halves, patients, seed, ROOT / "runs" / "fresh", workers=workers, trimmed=trimmed, foreign=foreign
    )
    found = fresh_predictions(read, halves, seen, fat, seed)
    write_predictions(out, found)
    for system in dict.fromkeys(one.system for one in found):
        answers = answers_of([one for one in found if one.system == system])
        made = figures(answers)
        click.echo(f"{system:32} ece by chance      {calibration_floor(answers):.3f}")
        for name in ("auroc", "auroc_s2", "auroc_s3", "ece", "coverage_interval", "coverage_set"):
            value, low, high = made[name]
            click.echo(f"{system:32} {name:18} {value:.3f} ({low:.3f}–{high:.3f})")
