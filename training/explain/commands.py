"""`python -m training explain ...` and `python -m training report`."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

if TYPE_CHECKING:
    from inference.geometry import InputGeometry
    from inference.predictor import Predictor
    from training.evaluation.report import Panel
    from training.explain.pictures import Study

BUNDLE = Path(__file__).resolve().parents[2] / "inference" / "bundles" / "reference"
REFERENCES = 24


def _bundle_option(command: click.Command) -> click.Command:
    return click.option(
        "--bundle", type=click.Path(path_type=Path, exists=True, file_okay=False), default=BUNDLE,
        help="Bundle folder.  [default: the one that ships]",
    )(command)  # fmt: skip


def _aul_option(command: click.Command) -> click.Command:
    return click.option(
        "--real-frames", type=click.Path(path_type=Path, exists=True, file_okay=False),
        help="Folder of the AUL images; those kept out of training are used.",
    )(command)  # fmt: skip


@click.group()
def explain() -> None:
    """Where the evidence comes from, and whether the maps deserve trust."""


@explain.command()
@_bundle_option
@_aul_option
@click.option("--studies", type=click.IntRange(1), default=12, show_default=True, help="Phantoms to look at.")
@click.option("--draws", type=click.IntRange(1), default=2, show_default=True, help="Random weights for each stage.")
@click.option("--members", type=click.IntRange(1), default=2, show_default=True, help="Members to check.")
def sanity(bundle: Path, real_frames: Path | None, studies: int, draws: int, members: int) -> None:
    """Check that random weights give other maps (Adebayo et al. 2018)."""
    from training.explain.sanity import check
    from training.explain.subjects import GraphSubject

    predictor, geometry = _open(bundle)
    shown = [*_phantoms(studies, geometry), *_real(real_frames, geometry, studies)]
    subjects = [
        GraphSubject(f"member {index}", graph) for index, graph in enumerate(predictor.bundle.members[:members])
    ]
    found = check(subjects, shown, (geometry.height, geometry.width), draws=draws)
    for title, rows in (("weights random from the heads down", found.cascade), ("one part random", found.alone)):
        click.echo(title)
        for row in rows:
            click.echo(f"  {row.label:28} rank {row.rank[0]:+.2f}  size {row.rank_size[0]:.2f}  SSIM {row.ssim[0]:.2f}")
    if found.members is not None:
        click.echo(f"{found.members.label}: rank {found.members.rank[0]:+.2f}")
    for failure in found.failures:
        click.echo(failure, err=True)
    if not found.ok:
        raise SystemExit(1)
    click.echo("maps depend on the weights")


@explain.command()
@_bundle_option
@_aul_option
@click.option(
    "--split", "splits", type=click.Choice(["test", "calibration"]), multiple=True, default=("test",),
    help="Which real frames; no member learnt from either.  [default: test]",
)  # fmt: skip
@click.option("--studies", type=click.IntRange(1), default=100, show_default=True, help="Phantoms to look at.")
@click.option("--record", is_flag=True, help="Keep the figures in the bundle's description and card.")
def overlap(bundle: Path, real_frames: Path | None, splits: tuple[str, ...], studies: int, record: bool) -> None:
    """Measure whether maps lie on the liver more than chance would have it, as a whole and by the grade told."""
    from inference.contract import GRADES
    from training.bundle.card import record_maps
    from training.explain.overlap import located
    from training.explain.overlap import overlap as summed

    predictor, geometry = _open(bundle)
    sets = {"phantoms": _phantoms(studies, geometry)}
    sets |= {f"AUL, {split} frames": _real(real_frames, geometry, 10_000, split) for split in splits}
    passed, kept = True, []
    for name, shown in sets.items():
        if not shown:
            continue
        lying = located(predictor, shown, geometry)
        whole = summed(name, lying)
        passed &= whole.ok
        by_grade = {grade: [one for one in lying if one.grade == grade] for grade in GRADES}
        apart = [
            summed(f"{name}, told {grade}", some)
            for grade, some in by_grade.items()
            if any(np.isfinite(one.share) for one in some)
        ]
        for found in (whole, *apart):
            kept.append(asdict(found))
            click.echo(json.dumps(kept[-1], indent=1))
    if record:
        record_maps(bundle, kept)
    if not passed:
        click.echo("maps do not lie on the liver more than chance", err=True)
        raise SystemExit(1)


@explain.command()
@_bundle_option
@click.option("--manifest", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Studies of a cohort.")
@click.option("--studies", type=click.IntRange(1), default=20, show_default=True, help="Studies to explain at most.")
@click.option("--out", type=click.Path(path_type=Path), help="JSON file of every study's shares.")
def views(bundle: Path, manifest: Path | None, studies: int, out: Path | None) -> None:
    """Share each study's evidence out among its views, by exact Shapley values; phantoms without a manifest."""
    from training.explain.studies import cohort_studies, shares_of, summary
    from training.explain.views import reference_answer

    predictor, geometry = _open(bundle)
    references = [study.tensor for study in _phantoms(studies + REFERENCES, geometry)[studies:]]
    try:
        shown = _phantoms(studies, geometry) if manifest is None else cohort_studies(manifest, geometry, studies)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    reference = reference_answer(predictor, references)
    found = [shares_of(predictor, study, reference) for study in shown]
    for line in summary(found):
        click.echo(line)
    if out is not None:
        out.write_text(json.dumps([asdict(one) for one in found], indent=1) + "\n", encoding="utf-8")
        click.echo(f"{out} holds the shares of {len(found)} studies")


@click.command()
@_bundle_option
@_aul_option
@click.option("--each", type=click.IntRange(1), default=60, show_default=True, help="Synthetic frames of each kind.")
@click.option("--seed", type=int, help="Of what is drawn and cut; another makes frames nobody has counted yet.")
@click.option("--hearts/--no-hearts", default=True, show_default=True, help="pydicom's, no gate may be chosen by them.")
@click.argument("pictures", type=click.Path(path_type=Path, exists=True), nargs=-1)
def refusals(
    bundle: Path, real_frames: Path | None, each: int, seed: int | None, hearts: bool, pictures: tuple[Path, ...]
) -> None:
    """Count what the gate takes and refuses; PICTURES are files or folders of photographs."""
    from training.evaluation.refusals import SEED, counts, heart_counts

    predictor, _ = _open(bundle)
    files = [file for path in pictures for file in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    found = counts(predictor, real_frames, files, each, seed=SEED if seed is None else seed)
    for one in chain(found, heart_counts(predictor) if hearts else ()):
        verb, number = ("taken", one.taken) if one.liver else ("refused", one.frames - one.taken)
        why = ", ".join(f"{reason} {number}" for reason, number in one.reasons.items())
        click.echo(f"{one.name:44} {verb:7} {number:4} of {one.frames:4} = {100 * one.right:5.1f} %   {why}")


@click.command()
@_bundle_option
@click.option(
    "--real-frames", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True,
    help="Folder of the AUL images; those kept out of training are used.",
)  # fmt: skip
@click.option("--every", type=click.IntRange(1), default=3, show_default=True, help="Only each so many of them.")
def robustness(bundle: Path, real_frames: Path, every: int) -> None:
    """Show how the evidence on real frames follows added fat, and how frames are stored and set."""
    from training.evaluation.robustness import responses

    predictor, _ = _open(bundle)
    click.echo(
        "| real frames | taken | ρ with as it is | shift | edits in order | 30 points add |\n|---|---|---|---|---|---|"
    )
    for one in responses(predictor, real_frames, every=every):
        click.echo(
            f"| {one.way} ({one.frames}) | {100 * one.taken:.0f} % | {one.alike:.2f} | {one.shift:+.2f} "
            f"| {100 * one.ordered:.0f} % | {one.gained:+.2f} |"
        )


@click.command()
@_bundle_option
@_aul_option
@click.option("--each", type=click.IntRange(20), default=240, show_default=True, help="Phantoms of each kind.")
def cues(bundle: Path, real_frames: Path | None, each: int) -> None:
    """Show how the evidence goes with brightness, its fall and contrast, on real frames and on phantoms."""
    from training.evaluation.cues import followed

    predictor, _ = _open(bundle)
    click.echo(
        "| frames | stored | taken | liver | slope | contrast | spread | line | AUROC | of the line |\n"
        + "|---" * 10
        + "|"
    )
    for one in followed(predictor, real_frames, each):
        rho = " | ".join(f"{value:+.2f}" for value in one.rho.values())
        areas = ("–" if area != area else f"{area:.3f}" for area in (one.area, one.line_area))
        click.echo(f"| {one.name} ({one.frames}) | {one.way} | {100 * one.taken:.0f} % | {rho} | {' | '.join(areas)} |")


@click.command()
@click.argument("predictions", type=click.Path(path_type=Path, exists=True, dir_okay=False), nargs=-1, required=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path("report.html"), show_default=True)
@click.option("--title", default="Evaluation of hepatic steatosis grading", show_default=True)
@click.option("--about", default="", help="What was tested on whom, in a sentence.")
@click.option(
    "--bundle", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Draw panels of its maps."
)
@_aul_option
@click.option("--manifest", type=click.Path(path_type=Path), help="Draw panels of a cohort's studies, not of phantoms.")
@click.option(
    "--panels", "most", type=click.IntRange(1), default=3, show_default=True, help="Studies drawn of each set."
)
@click.option(
    "--operating-point",
    type=click.FloatRange(0, 1),
    help="P(≥ S1) from which steatosis is told.  [default: the bundle's]",
)
def report(
    predictions: tuple[Path, ...], out: Path, title: str, about: str, bundle: Path | None, real_frames: Path | None,
    manifest: Path | None, most: int, operating_point: float | None,
) -> None:  # fmt: skip
    """Write one HTML page of figures and plots from files of predictions."""
    from training.evaluation.left_out import beside, read_left_out
    from training.evaluation.plots import contributions, curves
    from training.evaluation.predictions import read_predictions
    from training.evaluation.report import Plot, sections, write_report

    if manifest is not None and bundle is None:
        raise click.UsageError("--manifest says whose maps are drawn, --bundle of which bundle; give both.")
    try:
        found = [prediction for path in predictions for prediction in read_predictions(path)]
        left_out = [(path.name, read_left_out(beside(path))) for path in predictions if beside(path).exists()]
        shown: list[Panel] = []
        if bundle is not None:
            predictor, geometry = _open(bundle)
            shown = _panels(predictor, geometry, real_frames, manifest, most)
            if operating_point is None:
                operating_point = predictor.bundle.steatosis_operating_point
        made = sections(found, operating_point=operating_point)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    fitted, clinical = [], []
    for path in predictions:
        logs = [_log(log) for log in sorted(path.parent.glob("fold-*/member-*/log.csv"))]
        if logs:
            fitted.append(Plot(svg=curves(logs), caption=f"{path.parent.name}: {len(logs)} fits."))
        kept = path.parent / "clinical_contributions.json"
        if kept.exists():
            content = json.loads(kept.read_text(encoding="utf-8"))
            svg = contributions(
                content["names"], content["mean_size"], "mean size of the contribution, log-odds of ≥ S1"
            )
            clinical.append(Plot(svg=svg, caption=f"{path.parent.name}: {len(content['patients'])} patients left out."))
    write_report(
        out, made, title=title, about=about, panels=shown, clinical=clinical, fitted=fitted, left_out=left_out,
        limits="Figures hold for the patients they were made on; phantoms are not patients.",
    )  # fmt: skip
    click.echo(f"{out} is written: {len(made)} sections, {len(shown)} panels")


def _log(path: Path) -> list[dict[str, float]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(stream)]


def _open(bundle: Path) -> tuple[Predictor, InputGeometry]:
    from inference.predictor import Predictor

    predictor = Predictor.open(bundle, "onnxruntime")
    return predictor, predictor.bundle.geometry


def _phantoms(count: int, geometry: InputGeometry) -> list[Study]:
    from training.explain.pictures import phantom_study

    return [phantom_study(index, geometry) for index in range(count)]


def _real(folder: Path | None, geometry: InputGeometry, most: int, split: str = "test") -> list[Study]:
    from itertools import islice

    from training.explain.pictures import Study, outlined_pictures

    if folder is None:
        return []
    return [
        Study(title=one.title, pictures=(one,))
        for one in islice(outlined_pictures(folder, geometry, split=split), most)
    ]


def _panels(
    predictor: Predictor, geometry: InputGeometry, real_frames: Path | None, manifest: Path | None, most: int
) -> list[Panel]:
    from training.explain.panels import panels
    from training.explain.served import served_studies

    cohort = [] if manifest is None else served_studies(predictor, manifest, most)
    shown = [*(cohort or _phantoms(most, geometry)), *_real(real_frames, geometry, most)]
    references = [study.tensor for study in _phantoms(most + REFERENCES, geometry)[most:]]
    return panels(predictor, shown, geometry, references)
