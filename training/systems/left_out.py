"""A finished run's answers to patients left out, and the calibration of a bundle by them.

Every answer is of networks that never saw the patient, so they may calibrate. The bundle's members are networks of
several folds together, whose mean errs less, as a rule, than those of one fold. So intervals are wide, if
anything: CV+ (Barber et al., Ann Statist 2021) with one estimate in the middle.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from training.bundle.calibrate import (
    fat_line,
    fit_temperature,
    grade_threshold,
    interval_quantiles,
    probabilities,
    scaled,
    youden,
)
from training.evaluation.predictions import EXTERNAL, Prediction, read_predictions
from training.keeping import reading
from training.systems.configuration import Experiment
from training.systems.crossval import COVERAGE, LEAST_TO_CALIBRATE
from training.systems.fewer import names

Answer = tuple[str, int, int, float, np.ndarray, np.ndarray]
AGAIN: Final = (
    "Give the command that made it once more, `python -m training system` with the same options: it fits nothing "
    "again, and adds what is missing from the weights that are kept."
)


class NotExportableError(ValueError):
    """A run cannot be made a bundle; the message says why, and what can be done."""


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """Answers of M members of one fold to N studies that they never saw, each study with 1, 2, ... of its views."""

    patients: np.ndarray
    """str [N]."""
    views: np.ndarray
    """int [N]."""
    grades: np.ndarray
    """int [N]."""
    fat_true: np.ndarray
    """[N], percent; not a number where unknown."""
    logits: np.ndarray
    """[N, M, 4]."""
    fat_fraction: np.ndarray
    """[N, M], before calibration."""

    def some(self, chosen: np.ndarray) -> LeftOut:
        """Return those of a mask."""
        return LeftOut(**{name: value[chosen] for name, value in vars(self).items()})


def read_left_out(run: Path, experiment: Experiment) -> LeftOut:
    """Read what a finished run kept.

    Raises
    ------
    NotExportableError
        It is not finished, or is of a version that did not keep answers with fewer views.
    """
    path = run / "predictions.csv"
    if not path.exists():
        raise NotExportableError(f"{run} is not finished: it has no {path.name}. {AGAIN}")
    by_fold: dict[int, list[Prediction]] = {}
    for one in read_predictions(path):
        if one.fold != EXTERNAL:
            by_fold.setdefault(int(one.fold), []).append(one)
    rows = [row for fold, told in sorted(by_fold.items()) for row in _of_fold(run, experiment, fold, told)]
    patients, views, grades, fat_true, logits, fat_fraction = zip(*rows, strict=True)
    return LeftOut(
        patients=np.array(patients),
        views=np.array(views),
        grades=np.array(grades),
        fat_true=np.array(fat_true, float),
        logits=np.stack(logits),
        fat_fraction=np.stack(fat_fraction),
    )


def _of_fold(run: Path, experiment: Experiment, fold: int, told: list[Prediction]) -> Iterator[Answer]:
    kept = [_scores(run / f"fold-{fold}" / f"member-{member}") for member in range(experiment.system.members)]
    fewer = names(len(experiment.system.views))
    for logits_name, fat_name in (("logits", "fat_fraction"), *fewer.values()):
        if any(logits_name not in scores for scores in kept):
            raise NotExportableError(f"{run} was run before answers with fewer views were kept. {AGAIN}")
        logits = np.stack([scores[logits_name] for scores in kept], axis=1)
        fat_fraction = np.stack([scores[fat_name] for scores in kept], axis=1)
        if len(logits) != len(told):
            raise NotExportableError(f"predictions.csv of {run} is of other studies than its folds. {AGAIN}")
        count = next((number for number, pair in fewer.items() if pair[0] == logits_name), None)
        for place, one in enumerate(told):
            if np.isfinite(logits[place]).all():
                fat_true = np.nan if one.fat_true is None else one.fat_true
                yield one.patient, count or one.views, one.grade_true, fat_true, logits[place], fat_fraction[place]


def _scores(folder: Path) -> dict[str, np.ndarray]:
    path = folder / "scores.npz"
    try:
        with reading(path), np.load(path) as found:
            return {name: found[name] for name in found.files}
    except FileNotFoundError as error:
        raise NotExportableError(f"{folder.parent.parent} is not finished: it has no {path}. {AGAIN}") from error


def refuse_too_few(left_out: LeftOut) -> None:
    """Raise NotExportableError where patients do not suffice to calibrate what every report tells."""
    patients = len(set(left_out.patients.tolist()))
    measured = len(set(left_out.patients[np.isfinite(left_out.fat_true)].tolist()))
    if patients < LEAST_TO_CALIBRATE:
        raise NotExportableError(f"{patients} patients are too few to calibrate on; {LEAST_TO_CALIBRATE} are needed.")
    if measured < LEAST_TO_CALIBRATE:
        raise NotExportableError(
            f"{measured} of {patients} patients have a fat fraction, which every report tells with an interval; "
            f"{LEAST_TO_CALIBRATE} are needed. Fill in fat_fraction_percent of the manifest where it was measured."
        )
    ill = left_out.grades >= 1
    if ill.all() or not ill.any():
        raise NotExportableError("All patients are of one kind, S0 or not, so no operating point can be chosen.")


def calibrated(left_out: LeftOut, coverage: float = COVERAGE) -> dict[str, Any]:
    """Return the parts of `bundle.json` that calibration decides, as `training.bundle.calibrate` does on phantoms.

    Numbers of views that fewer than `LEAST_TO_CALIBRATE` studies have get nothing of their own.
    """
    temperature = fit_temperature(left_out.logits, left_out.grades)
    flat = probabilities(left_out.logits, temperature)
    measured = np.isfinite(left_out.fat_true)
    raw, truth = left_out.fat_fraction.mean(axis=1), left_out.fat_true
    slope, intercept = fat_line(raw[measured], truth[measured])
    residual = truth - np.clip(slope * raw + intercept, 0.0, 100.0)
    scaling, intervals, probability = {}, {}, flat.copy()
    for count in np.unique(left_out.views):
        own = left_out.views == count
        if own.sum() >= LEAST_TO_CALIBRATE:
            scaling[str(count)], probability[own] = scaled(left_out.logits[own], left_out.grades[own], coverage)
        if (own & measured).sum() >= LEAST_TO_CALIBRATE:
            intervals[str(count)] = interval_quantiles(residual[own & measured], coverage)
    usual = left_out.views == _usual(left_out)
    return {
        "calibration": {
            "temperature": temperature,
            "fat_fraction": {"slope": slope, "intercept": intercept},
            "fat_fraction_interval": {
                "coverage": coverage,
                "quantiles": interval_quantiles(residual[measured], coverage),
                "quantiles_by_views": intervals,
            },
            "conformal_grade": {"coverage": coverage, "threshold": grade_threshold(flat, left_out.grades, coverage)},
            "scaling_by_views": scaling,
        },
        "operating_points": {"steatosis": youden(probability[usual, 1:].sum(axis=1), left_out.grades[usual] >= 1)},
    }


def _usual(left_out: LeftOut) -> int:
    """Return the largest number of views that enough studies of both kinds have: where an operating point is chosen.

    Every study is there with one view, so one is enough of where nothing else is (`refuse_too_few`).
    """
    for count in sorted(np.unique(left_out.views).tolist(), reverse=True):
        ill = left_out.grades[left_out.views == count] >= 1
        if len(ill) >= LEAST_TO_CALIBRATE and ill.any() and not ill.all():
            return int(count)
    raise NotExportableError("No number of views has enough studies with and without steatosis to calibrate on.")
