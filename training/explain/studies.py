"""The views' shares of whole studies: phantoms, or those of a cohort's manifest."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from inference.geometry import InputGeometry
from training.cohort.frames import read_frame
from training.cohort.manifest import by_study, read_manifest
from training.explain.pictures import Picture, Study, picture_of
from training.explain.views import MOST_VIEWS, Answer, Predicts, view_contributions


@dataclass(frozen=True, kw_only=True)
class StudyShares:
    """What each view contributes to one study's answers."""

    study: str
    views: tuple[str, ...]
    log_odds: tuple[float, ...]
    """Of each view, to the log-odds of S1 or more."""
    fat_fraction: tuple[float, ...]
    """Of each view, percent points."""
    base_log_odds: float
    """Mean answer over the reference studies, which the shares lead away from."""
    total_log_odds: float


def shares_of(predictor: Predicts, study: Study, reference: Answer) -> StudyShares:
    """Share a study's answers out among its views; see `training.explain.views.view_contributions`."""
    names = [picture.title for picture in study.pictures]
    if len(set(names)) < len(names):
        names = [f"{place + 1}: {name}" for place, name in enumerate(names)]
    found = view_contributions(predictor, study.tensor, names, reference)
    return StudyShares(
        study=study.title,
        views=found.log_odds.names,
        log_odds=found.log_odds.shares,
        fat_fraction=found.fat_fraction.shares,
        base_log_odds=found.log_odds.base,
        total_log_odds=found.log_odds.total,
    )


def cohort_studies(manifest: Path, geometry: InputGeometry, most: int) -> list[Study]:
    """Return the first studies of a manifest, prepared as serving does, each with up to `MOST_VIEWS` frames.

    Raises
    ------
    ValueError
        The manifest is wrong, a file cannot be read, or no frame shows a sector.
    """
    found = list(islice(_readable(manifest, geometry), most))
    if not found:
        raise ValueError(f"No frame of {manifest} shows an ultrasound sector.")
    return found


def _readable(manifest: Path, geometry: InputGeometry) -> Iterator[Study]:
    for name, rows in by_study(read_manifest(manifest)).items():
        pictures: list[Picture] = []
        for row in rows[:MOST_VIEWS]:
            pixels, region = read_frame(row.file, row.frame)
            picture = picture_of(row.view or row.file.name, pixels, geometry, region)
            if picture is not None:
                pictures.append(picture)
        if pictures:
            yield Study(title=str(name), pictures=tuple(pictures))


def summary(found: Sequence[StudyShares]) -> Iterator[str]:
    """Give a line for each study, and the mean size of each view's share over all."""
    sizes = defaultdict(list)
    for one in found:
        told = ", ".join(f"{view} {share:+.2f}" for view, share in zip(one.views, one.log_odds, strict=True))
        yield f"{one.study}: log-odds {one.base_log_odds:+.2f} → {one.total_log_odds:+.2f}: {told}"
        for view, share in zip(one.views, one.log_odds, strict=True):
            sizes[view].append(abs(share))
    for view, shares in sizes.items():
        yield f"mean size {np.mean(shares):.2f} of {len(shares)}: {view}"
