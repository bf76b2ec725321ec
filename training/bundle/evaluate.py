"""Held-out figures of a bundle as it ships: its graphs' own nodes and serving's ensemble."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from inference.bundle import Bundle
from inference.contract import VIEWS
from inference.ensemble import StudyPrediction, combine
from training.bundle.calibrate import Scored
from training.bundle.halves import Halves, Seen
from training.evaluation.predictions import Prediction
from training.frames.data import grade_of
from training.metrics import auroc, bootstrap, calibration_error, mean, quadratic_kappa

VIEW_COUNTS: Final = (1, 2, 3, 4)


def score_studies(halves: Halves, seen: Seen, fat_fraction: np.ndarray, counts: Sequence[int], *, seed: int) -> Scored:
    """Score patients whose views, four of each one after the other, have been looked at.

    Each is shown with so many of the views, drawn by chance, for each of the counts.
    """
    rng = np.random.default_rng(seed)
    outputs, fat, views = [], [], []
    for index, truth in enumerate(fat_fraction):
        for count in counts:
            chosen = len(VIEWS) * index + rng.choice(len(VIEWS), count, replace=False)
            outputs.append(halves.study(seen, chosen))
            fat.append(truth)
            views.append(count)
    return Scored(outputs=outputs, fat_fraction=np.array(fat), views=np.array(views))


def figures(predictions: Sequence[StudyPrediction], fat_fraction: np.ndarray, grades: np.ndarray) -> dict[str, Any]:
    """Return figures of merit of N studies; those in lists are (value, low, high) with 95 % bootstrap intervals."""
    probability = np.stack([prediction.probabilities for prediction in predictions])
    estimate = np.array([prediction.fat_fraction_percent for prediction in predictions])
    interval = np.array([prediction.fat_fraction_interval for prediction in predictions])
    covered = (interval[:, 0] <= fat_fraction) & (fat_fraction <= interval[:, 1])
    in_set = [f"S{grade}" in prediction.grade_set for prediction, grade in zip(predictions, grades, strict=True)]
    steatosis = probability[:, 1:].sum(axis=1)
    areas = {
        f"auroc_s{grade}_or_more": bootstrap(auroc, probability[:, grade:].sum(axis=1), grades >= grade)
        for grade in (1, 2, 3)
    }
    return {
        "studies": len(grades),
        **areas,
        "accuracy": float((probability.argmax(axis=1) == grades).mean()),
        "quadratic_kappa": bootstrap(quadratic_kappa, probability.argmax(axis=1), grades),
        "fat_fraction_mae": bootstrap(mean, np.abs(estimate - fat_fraction)),
        "fat_fraction_bias": float((estimate - fat_fraction).mean()),
        "fat_fraction_limits_of_agreement": _limits(estimate - fat_fraction),
        "calibration_error_steatosis": bootstrap(calibration_error, steatosis, (grades >= 1).astype(float)),
        "interval_coverage": float(covered.mean()),
        "interval_width": float((interval[:, 1] - interval[:, 0]).mean()),
        "grade_set_coverage": float(np.mean(in_set)),
        "grade_set_size": float(np.mean([len(prediction.grade_set) for prediction in predictions])),
        "mean_entropy": float(-(probability * np.log(probability + 1e-12)).sum(axis=1).mean()),
    }


def evaluate(
    bundle: Bundle, halves: Halves, seen: Seen, fat_fraction: np.ndarray, *, seed: int = 1
) -> tuple[dict[str, Any], list[Prediction]]:
    """Return a bundle's figures on patients looked at before, for one to four views, and predictions for a report."""
    scored = score_studies(halves, seen, fat_fraction, VIEW_COUNTS, seed=seed)
    by_count, kept = {}, []
    for count in VIEW_COUNTS:
        part = scored.with_views(count)
        predictions = [combine(study, bundle.calibration) for study in part.outputs]
        by_count[f"{count}_views"] = figures(predictions, part.fat_fraction, part.grades)
        kept += _kept(f"{bundle.name} {bundle.version}", predictions, part, count, bundle.expected_views)
    places = np.arange(len(fat_fraction) * len(VIEWS)).reshape(-1, len(VIEWS))
    whole = [combine(halves.study(seen, own), bundle.calibration) for own in places]
    return {**by_count, "each_view_alone": _each_view(whole, grade_of(fat_fraction))}, kept


def fresh_predictions(
    bundle: Bundle, halves: Halves, seen: Seen, fat_fraction: np.ndarray, seed: int
) -> list[Prediction]:
    """Return a bundle's answers to patients looked at before, each with one to four of the views, for a report."""
    scored = score_studies(halves, seen, fat_fraction, VIEW_COUNTS, seed=seed)
    kept: list[Prediction] = []
    for count in VIEW_COUNTS:
        part = scored.with_views(count)
        predictions = [combine(study, bundle.calibration) for study in part.outputs]
        kept += _kept(f"{bundle.name} {bundle.version}, {count} views", predictions, part, count, bundle.expected_views)
    return kept


def _kept(
    system: str, predictions: Sequence[StudyPrediction], part: Scored, count: int, expected: int
) -> list[Prediction]:
    return [
        Prediction(
            system=system,
            patient=f"phantom-{index}",
            study=f"phantom-{index}, {count} views",
            fold=0,
            site="phantom",
            views=count,
            grade_true=int(part.grades[index]),
            fat_true=float(part.fat_fraction[index]),
            probabilities=tuple(float(value) for value in one.probabilities),
            fat_estimate=one.fat_fraction_percent,
            fat_low=one.fat_fraction_interval[0],
            fat_high=one.fat_fraction_interval[1],
            grade_set=one.grade_set,
            limits=(f"{count} of {expected} views",) if count < expected else (),
        )
        for index, one in enumerate(predictions)
    ]


def _each_view(studies: Sequence[StudyPrediction], grades: np.ndarray) -> dict[str, Any]:
    """Return the area of steatosis for each named view scored alone, by studies of all views in their order."""
    alone = np.stack([study.view_probabilities for study in studies])
    named = np.mean([[name == view for name, view in zip(s.view_names, VIEWS, strict=True)] for s in studies])
    areas = {view: bootstrap(auroc, alone[:, index, 1:].sum(axis=1), grades >= 1) for index, view in enumerate(VIEWS)}
    return {"auroc_s1_or_more": areas, "view_accuracy": float(named)}


def _limits(difference: np.ndarray) -> list[float]:
    """Return Bland and Altman's 95 % limits of agreement."""
    spread = 1.96 * difference.std(ddof=1)
    return [float(difference.mean() - spread), float(difference.mean() + spread)]
