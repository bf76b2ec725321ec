"""`python -m training fit`, `export`, `calibrate`, `gate`, `evaluate`, and `reference`, which is all of them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from training.bundle.cohort_commands import (
    figure_lines,
    manifest_option,
    predict_cohort,
    recalibrate_cohort,
    refuse_with,
)
from training.bundle.configuration import DRIFT_PATIENTS, DRIFT_SEED, Experiment, read_experiment

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "inference" / "bundles" / "reference"


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """End in a sentence where an experiment, its weights, its device or its run folder cannot be used."""
    try:
        yield
    except ValueError as error:
        raise click.ClickException(str(error)) from error


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
@_told()
def fit(**options: Any) -> None:
    """Render the phantoms and fit the members; an interrupted run goes on where it stopped."""
    from training.bundle.reference import fit_members

    experiment, run, _ = _settled(**options)
    fit_members(experiment, run)


@click.command()
@_options
@_told()
def export(**options: Any) -> None:
    """Write the members as ONNX graphs with golden vectors."""
    from training.bundle.reference import export_bundle

    export_bundle(*_settled(**options))


@click.command()
@_options
@_told()
def calibrate(**options: Any) -> None:
    """Calibrate the exported graphs on patients no member has seen; writes bundle.json."""
    from training.bundle.reference import calibrate_bundle

    calibrate_bundle(*_settled(**options))


@click.command()
@_options
@_told()
def gate(**options: Any) -> None:
    """Fit the liver gate of the exported graphs on more frames, and choose its threshold on others."""
    from training.bundle.reference import gate_bundle

    click.echo(json.dumps(gate_bundle(*_settled(**options)), indent=1))


@click.command()
@_options
@_told()
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
@_told()
def regate(bundle: Path, experiment: str, real_frames: str, version: str, kept: float, threshold: float | None) -> None:
    """Fit the liver gate of a finished bundle anew; grades and fat fractions stay as they are."""
    from training.bundle.regate import regate as fit_again

    data = replace(read_experiment(experiment).data, real_frames=real_frames)
    click.echo(json.dumps(fit_again(bundle, data, version, kept=kept, threshold=threshold), indent=1))


@click.command()
@click.option(
    "--bundle", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True, help="Changed in place."
)
@click.option("--version", required=True, help="Of the changed bundle.")
@_told()
def reexport(bundle: Path, version: str) -> None:
    """Write a finished bundle's graphs anew, as the exporter now writes them; what members learnt stays."""
    from inference.description import BundleError
    from training.bundle.reexport import reexport as write_again

    try:
        moved = write_again(bundle, version)
    except BundleError as error:
        raise click.ClickException(str(error)) from error
    click.echo(json.dumps(moved, indent=1))


_kept_in = click.option(
    "--keep",
    type=click.Path(path_type=Path),
    default=ROOT / "runs" / "fresh",
    help="Folder of what was looked at; an interrupted run goes on there.  [default: runs/fresh]",
)


@click.command()
@click.option(
    "--bundle", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True, help="Changed in place."
)
@click.option("--experiment", default="reference", show_default=True, help="Whose patients are used.")
@click.option("--version", required=True, help="Of the changed bundle.")
@_kept_in
@manifest_option("Of a cohort of your own, to calibrate for instead of phantoms.")
@click.option("--out", type=click.Path(path_type=Path), help="New folder of the changed bundle.  [default: in place]")
@click.option("--about", default="", help="The cohort in a few words, for the card.")
@click.option("--predictions", type=click.Path(path_type=Path), help="CSV of the answers out of fold, for `report`.")
@click.pass_context
@_told()
def recalibrate(
    context: click.Context,
    bundle: Path,
    experiment: str,
    version: str,
    keep: Path,
    manifest: Path | None,
    out: Path | None,
    about: str,
    predictions: Path | None,
) -> None:
    """Fit calibration and operating point of a finished bundle anew, and its figures; members stay as they are.

    With --manifest on a cohort: figures are out of fold by patient, those of phantoms stay those of the version before.
    """
    if manifest is not None:
        refuse_with(context, "a cohort's manifest", ("experiment",))
        recalibrate_cohort(bundle, manifest, version, keep, out, about, predictions)
        return
    if out or about or predictions:
        raise click.UsageError("--out, --about and --predictions go with --manifest.")
    from training.bundle.recalibrate import recalibrate as fit_again

    click.echo(json.dumps(fit_again(bundle, read_experiment(experiment), version, keep), indent=1))


@click.command()
@click.option(
    "--bundle",
    "bundles",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    multiple=True,
    default=(SHIPPED,),
    help="Folder; several differ by calibration alone.  [default: the one that ships]",
)
@click.option("--experiment", default="reference", show_default=True, help="Whose test patients are used.")
@click.option("--home", type=click.IntRange(20), help="Test patients at home.  [default: the experiment's]")
@click.option("--foreign", type=click.IntRange(0), default=2000, show_default=True, help="Those of another site.")
@click.option(
    "--seed", type=int, help="Of the patients; one of no experiment's data makes new ones.  [default: the experiment's]"
)
@click.option("--workers", type=click.IntRange(1), help="Processes that render.  [default: the experiment's]")
@click.option("--out", type=click.Path(path_type=Path), help="Also as JSON.")
@_kept_in
@_told()
def calibration(
    bundles: tuple[Path, ...],
    experiment: str,
    home: int | None,
    foreign: int,
    seed: int | None,
    workers: int | None,
    out: Path | None,
    keep: Path,
) -> None:
    """Say how well calibrated bundles are on patients nothing was fitted to: as they ship, and refitted out of fold."""
    from inference.bundle import Bundle
    from training.bundle.out_of_fold import HEAD, as_line, as_row, tried
    from training.bundle.recalibrate import held_out

    read, settings = [Bundle.load(folder) for folder in bundles], read_experiment(experiment)
    members = read[0].members
    if any(one.members != members for one in read):
        raise click.ClickException("The bundles have different members; calibrations are compared on the same answers.")
    settings = replace(
        settings,
        data=replace(settings.data, seed=settings.data.seed if seed is None else seed),
        fit=replace(settings.fit, threads=workers or settings.fit.threads),
    )
    sites = {"home": held_out(members, settings, "test", home or settings.data.test_patients, keep)}
    if foreign:
        sites["foreign"] = held_out(members, settings, "test", foreign, keep, foreign=True)
    shipped = {f"{one.version}, as it ships": one.calibration for one in read}
    mixtures = [("home",), ("home", "foreign")][: len(sites)]
    click.echo(HEAD)
    rows = []
    for found in tried(sites, shipped, mixtures, read[0].expected_views):
        click.echo(as_line(found))
        rows.append(as_row(found))
    if out:
        out.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


@click.command("drift-reference")
@click.option(
    "--bundle",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=SHIPPED,
    help="Finished; reference.json is written into it.  [default: the one that ships]",
)
@click.option("--patients", type=click.IntRange(1), default=DRIFT_PATIENTS, show_default=True)
@click.option("--seed", type=int, default=DRIFT_SEED, show_default=True, help="Of no experiment's data.")
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
@manifest_option("Of a cohort of your own, to score instead of phantoms.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("predictions.csv"), show_default=True)
@_kept_in
@click.pass_context
@_told()
def predict(
    context: click.Context,
    bundle: Path,
    patients: int,
    seed: int,
    trimmed: float,
    foreign: bool,
    workers: int,
    manifest: Path | None,
    out: Path,
    keep: Path,
) -> None:
    """Score new phantom patients with a bundle, with one to four views each; writes predictions for `report`.

    With --manifest the studies of a cohort, each as serving would: what the gate refuses or nobody can read is named,
    and written beside the predictions. What was looked at is kept, so an interrupted run goes on where it was.
    """
    if manifest is not None:
        refuse_with(context, "a cohort's manifest", ("patients", "seed", "trimmed", "foreign", "workers"))
        predict_cohort(bundle, manifest, out, keep)
        return
    from inference.bundle import Bundle
    from training.bundle.evaluate import fresh_predictions
    from training.bundle.fresh import Draw, looked_at
    from training.bundle.halves import Halves
    from training.evaluation.predictions import write_predictions

    read = Bundle.load(bundle)
    draw = Draw(seed=seed, trimmed=trimmed, foreign=foreign)
    seen, fat = looked_at(read.members, read.geometry.height, patients, draw, keep, workers=workers)
    found = fresh_predictions(read, Halves(read.members), seen, fat, seed)
    write_predictions(out, found)
    for line in figure_lines(found):
        click.echo(line)
