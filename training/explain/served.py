"""Studies of a cohort to explain, each with the frames that serving would score."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice, zip_longest
from pathlib import Path

from inference.contract import GRADES
from inference.predictor import Predictor
from inference.sector import luma
from training.cohort.as_served import Scorer
from training.cohort.manifest import Frame, by_study, read_manifest
from training.explain.pictures import Picture, Study


def served_studies(predictor: Predictor, manifest: Path, most: int) -> list[Study]:
    """Return studies of a manifest as serving would score them, of each grade in turn; refused ones are passed over.

    Raises
    ------
    ValueError
        The manifest is wrong, or no study can be scored.
    """
    scorer = Scorer(predictor)
    found = list(islice(_scored(scorer, read_manifest(manifest)), most))
    if not found:
        raise ValueError(f"No study of {manifest} can be scored; `predict --manifest` says why.")
    return found


def _scored(scorer: Scorer, frames: Sequence[Frame]) -> Iterator[Study]:
    for rows in _in_turn(list(by_study(frames).values())):
        pictures = []
        for view, candidate in scorer.used(rows):
            height, width = candidate.crop.shape[:2]
            whole = replace(candidate.prepared, crop=(0, 0, width, height))  # only the crop is kept
            pictures.append(Picture(title=view, pixels=luma(candidate.crop), prepared=whole))
        if pictures:
            title = f"Study {rows[0].study}, reference {GRADES[rows[0].true_grade]}"
            yield Study(title=title, pictures=tuple(pictures))


def _in_turn(studies: Sequence[list[Frame]]) -> Iterator[list[Frame]]:
    """Yield studies so that the first few have different grades."""
    by_grade: dict[int, list[list[Frame]]] = defaultdict(list)
    for rows in studies:
        by_grade[rows[0].true_grade].append(rows)
    for turn in zip_longest(*(by_grade[grade] for grade in sorted(by_grade))):
        yield from (rows for rows in turn if rows is not None)
