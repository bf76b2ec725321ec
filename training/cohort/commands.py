"""`python -m training cohort ...`: check a manifest, import a published set, write phantoms as a cohort."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from training.cohort.manifest import Frame


@click.group()
def cohort() -> None:
    """Patients to learn from: manifests, published sets, phantoms."""


@cohort.command()
@click.argument("manifest", type=click.Path(path_type=Path))
def check(manifest: Path) -> None:
    """Say what a manifest holds, or all that is wrong with it."""
    from training.cohort.contradictions import copies, remarks
    from training.cohort.manifest import ManifestError, by_study, read_manifest

    try:
        frames = read_manifest(manifest)
        if reasons := [*_other_files(frames), *copies(frames)]:
            raise ManifestError(manifest, reasons)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    studies = by_study(frames)
    grades = Counter(rows[0].true_grade for rows in studies.values())
    click.echo(f"{len({frame.patient for frame in frames})} patients, {len(studies)} studies, {len(frames)} frames")
    click.echo("grades: " + ", ".join(f"S{grade} {grades[grade]}" for grade in sorted(grades)))
    for name in ("label_source", "view", "site", "scanner"):
        counted = Counter(getattr(frame, name) or "unknown" for frame in frames)
        click.echo(f"{name}: " + ", ".join(f"{value} {count}" for value, count in counted.most_common()))
    for remark in remarks(studies):
        click.echo(remark)


def _other_files(frames: Iterable[Frame]) -> list[str]:
    """Say which files cannot be learnt from, as far as their beginnings tell."""
    from training.cohort.frames import check_kind

    reasons = []
    for file, frame in dict.fromkeys((row.file, row.frame) for row in frames):
        try:
            check_kind(file, frame)
        except (OSError, ValueError) as error:
            reasons.append(str(error))
    return reasons


@cohort.command()
@click.argument("mat", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--any-file", is_flag=True, help="Take a file of the same structure with another checksum.")
def byra(mat: Path, folder: Path, any_file: bool) -> None:
    """Import the .mat of Byra et al. 2018 (Zenodo 1009146): frames as PNG, and a manifest."""
    from training.cohort.byra import MD5, import_byra

    try:
        manifest = import_byra(mat, folder, expected_md5=None if any_file else MD5)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    click.echo(
        f"{manifest} is written; leave-one-patient-out: python -m training system NAME --manifest {manifest} --folds 0"
    )


@cohort.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--patients", type=click.IntRange(1), default=20, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--foreign", is_flag=True, help="Scanners of another site.")
def phantoms(folder: Path, patients: int, seed: int, foreign: bool) -> None:
    """Write phantom patients as a cohort would be: pictures and a manifest."""
    from training.cohort.benchmark import write_cohort

    click.echo(f"{write_cohort(folder, patients, seed=seed, foreign=foreign)} is written")
