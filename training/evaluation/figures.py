"""Figures of merit of one system on one set of patients, with bootstrap intervals over patients."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from scipy.stats import norm, spearmanr

from inference.contract import GRADES
from training.bundle.calibrate import youden
from training.evaluation.predictions import EXTERNAL, Prediction
from training.metrics import Interval, auroc, calibration_error, quadratic_kappa

ROUNDS: Final = 1000
BINS: Final = 10
"""Of the calibration error, equal width; fewer than the shipped bundle's fifteen, since folds are small."""


@dataclass(frozen=True, kw_only=True)
class Answers:
    """Predictions of N studies as arrays."""

    patients: np.ndarray
    probability: np.ndarray
    """[N, 4]."""
    grades: np.ndarray
    decided: np.ndarray
    """bool [N], steatosis by an operating point that was chosen on other patients."""
    points: np.ndarray
    """[N], that point: the least probability of S1 or more that is told as steatosis."""
    fat: np.ndarray
    fat_true: np.ndarray
    low: np.ndarray
    high: np.ndarray
    """Percent [N], not a number where there is none."""
    in_set: np.ndarray
    """1 where the grade set holds the true grade, 0 where not, not a number where there is no set."""
    set_size: np.ndarray

    def __len__(self) -> int:
        return len(self.grades)

    def some(self, chosen: np.ndarray) -> Answers:
        """Return the studies of an index or a mask."""
        return Answers(**{name: value[chosen] for name, value in vars(self).items()})

    @property
    def steatosis(self) -> np.ndarray:
        """Probability of S1 or more, [N]."""
        return self.probability[:, 1:].sum(axis=1)


def answers_of(predictions: Sequence[Prediction], *, operating_point: float | None = None) -> Answers:
    """Return predictions of one system as arrays; the operating point of each fold is chosen on the other folds.

    Where one is given, it holds for all. For external patients it is chosen on all folds, and where there are none, or
    one, on the patients themselves, which flatters.

    Raises
    ------
    ValueError
        There is no prediction, or they are of several systems.
    """
    if len({prediction.system for prediction in predictions}) != 1:
        raise ValueError("Figures are of one system's predictions; there are none, or several systems.")
    probability = np.array([prediction.probabilities for prediction in predictions], dtype=float)
    grades = np.array([prediction.grade_true for prediction in predictions])

    def number(name: str) -> np.ndarray:
        values = [getattr(prediction, name) for prediction in predictions]
        return np.array([math.nan if value is None else value for value in values], dtype=float)

    sets = [prediction.grade_set for prediction in predictions]
    steatosis = probability[:, 1:].sum(axis=1)
    points: np.ndarray | float | None = operating_point
    if points is None:
        points = _operating_points(steatosis, grades, [prediction.fold for prediction in predictions])
    return Answers(
        patients=np.array([prediction.patient for prediction in predictions]),
        probability=probability,
        grades=grades,
        decided=steatosis >= points,
        points=np.broadcast_to(points, steatosis.shape),
        fat=number("fat_estimate"),
        fat_true=number("fat_true"),
        low=number("fat_low"),
        high=number("fat_high"),
        in_set=np.array(
            [math.nan if own is None else float(GRADES[grade] in own) for own, grade in zip(sets, grades, strict=True)]
        ),
        set_size=np.array([math.nan if own is None else float(len(own)) for own in sets]),
    )


def chosen_on(predictions: Sequence[Prediction]) -> float | None:
    """Return the operating point that these patients would choose for others; None where all are ill, or none."""
    ill = np.array([prediction.grade_true >= 1 for prediction in predictions], dtype=bool)
    if not len(ill) or ill.all() or not ill.any():
        return None
    return youden(np.array([sum(prediction.probabilities[1:]) for prediction in predictions]), ill)


def _operating_points(steatosis: np.ndarray, grades: np.ndarray, folds: Sequence[int | str]) -> np.ndarray:
    fold = np.array([-1 if name == EXTERNAL else int(name) for name in folds])
    points = np.zeros(len(fold))
    for number in np.unique(fold):
        others = (fold != number) & (fold >= 0)
        positive = grades >= 1
        if not others.any() or positive[others].all() or not positive[others].any():
            others = fold == number
        mixed = positive[others].any() and not positive[others].all()
        points[fold == number] = youden(steatosis[others], positive[others]) if mixed else 0.5
    return points


Figure = Callable[[Answers], float]


def _share(among: np.ndarray, of: np.ndarray) -> float:
    return float((among & of).sum() / of.sum()) if of.any() else math.nan


def _f1(a: Answers) -> float:
    right = (a.decided & (a.grades >= 1)).sum()
    return float(2 * right / max(a.decided.sum() + (a.grades >= 1).sum(), 1))


def _area(least: int) -> Figure:
    return lambda a: auroc(a.probability[:, least:].sum(axis=1), a.grades >= least)


def _rho(a: Answers) -> float:
    measured = np.isfinite(a.fat) & np.isfinite(a.fat_true)
    said, true = a.fat[measured], a.fat_true[measured]
    told = len(said) > 2 and np.ptp(said) > 0 and np.ptp(true) > 0
    return float(spearmanr(said, true).statistic) if told else math.nan


def _brier(a: Answers) -> float:
    return float(((a.steatosis - (a.grades >= 1)) ** 2).mean())


def _difference(a: Answers) -> np.ndarray:
    difference = a.fat - a.fat_true
    return difference[np.isfinite(difference)]


def _mean(values: np.ndarray) -> float:
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else math.nan


def _covered(a: Answers) -> float:
    known = np.isfinite(a.low) & np.isfinite(a.fat_true)
    return _mean(((a.low <= a.fat_true) & (a.fat_true <= a.high))[known].astype(float))


FIGURES: Final[dict[str, tuple[str, Figure]]] = {
    "auroc": ("AUROC ≥ S1", _area(1)),
    "auroc_s2": ("AUROC ≥ S2", _area(2)),
    "auroc_s3": ("AUROC S3", _area(3)),
    "accuracy": ("Accuracy, steatosis or not", lambda a: float((a.decided == (a.grades >= 1)).mean())),
    "sensitivity": ("Sensitivity", lambda a: _share(a.decided, a.grades >= 1)),
    "specificity": ("Specificity", lambda a: _share(~a.decided, a.grades < 1)),
    "ppv": ("Positive predictive value", lambda a: _share(a.grades >= 1, a.decided)),
    "npv": ("Negative predictive value", lambda a: _share(a.grades < 1, ~a.decided)),
    "f1": ("F1", _f1),
    "ece": ("Expected calibration error, ≥ S1", lambda a: calibration_error(a.steatosis, a.grades >= 1, BINS)),
    "brier": ("Brier score, ≥ S1", _brier),
    "accuracy_grades": ("Accuracy, four grades", lambda a: float((a.probability.argmax(axis=1) == a.grades).mean())),
    "kappa": ("Quadratic kappa", lambda a: quadratic_kappa(a.probability.argmax(axis=1), a.grades)),
    "mae": ("Fat fraction, mean absolute error (points)", lambda a: _mean(np.abs(_difference(a)))),
    "bias": ("Fat fraction, bias (points)", lambda a: _mean(_difference(a))),
    "rho": ("Fat fraction, Spearman's ρ", _rho),
    "coverage_interval": ("Coverage of the fat-fraction interval", _covered),
    "coverage_set": ("Coverage of the grade set", lambda a: _mean(a.in_set)),
    "set_size": ("Grades in the set", lambda a: _mean(a.set_size)),
}
"""Name, title and figure."""


def figures(answers: Answers, *, rounds: int = ROUNDS, seed: int = 0) -> dict[str, Interval]:
    """Return every figure with its 95 % bootstrap interval; patients are resampled, with all their studies."""
    names, place = np.unique(answers.patients, return_inverse=True)
    by_patient = [np.flatnonzero(place == number) for number in range(len(names))]
    rng = np.random.default_rng(seed)
    drawn: dict[str, list[float]] = {name: [] for name in FIGURES}
    with np.errstate(invalid="ignore", divide="ignore"):
        for _ in range(rounds):
            chosen = np.concatenate([by_patient[one] for one in rng.integers(0, len(names), len(names))])
            resampled = answers.some(chosen)
            for name, (_, figure) in FIGURES.items():
                drawn[name].append(figure(resampled))
        return {name: (figure(answers), *_ends(drawn[name])) for name, (_, figure) in FIGURES.items()}


def _ends(draws: Sequence[float]) -> tuple[float, float]:
    known = np.array(draws)[np.isfinite(draws)]
    return tuple(float(end) for end in np.quantile(known, [0.025, 0.975])) if len(known) else (math.nan, math.nan)


def limits_of_agreement(answers: Answers) -> tuple[float, float, float]:
    """Return bias and 95 % limits of agreement of the fat fraction in points (Bland & Altman 1986)."""
    difference = _difference(answers)
    if len(difference) < 2:
        return (math.nan,) * 3
    bias, spread = float(difference.mean()), float(difference.std(ddof=1))
    return bias, bias - 1.96 * spread, bias + 1.96 * spread


def delong(first: np.ndarray, second: np.ndarray, positive: np.ndarray) -> tuple[float, float]:
    """Return the difference of two AUROCs on the same patients and its two-sided p (DeLong et al. 1988).

    Parameters
    ----------
    first, second
        Scores [N] of two systems.
    positive
        bool [N].
    """
    positive = np.asarray(positive, bool)
    if positive.all() or not positive.any():
        raise ValueError("AUROC needs patients of both kinds.")
    ill, well = [], []
    for score in (first, second):
        wins = (np.asarray(score)[positive][:, None] > np.asarray(score)[~positive][None, :]).astype(float)
        wins += 0.5 * (np.asarray(score)[positive][:, None] == np.asarray(score)[~positive][None, :])
        ill.append(wins.mean(axis=1))
        well.append(wins.mean(axis=0))
    difference = float(ill[0].mean() - ill[1].mean())
    variance = sum(np.var(part[0] - part[1], ddof=1) / len(part[0]) for part in (ill, well) if len(part[0]) > 1)
    if variance <= 0:
        return difference, 1.0 if difference == 0 else 0.0
    return difference, float(2 * norm.sf(abs(difference) / math.sqrt(variance)))


def as_plain(found: dict[str, Interval]) -> dict[str, Any]:
    """Return figures for JSON, what is not a number as null."""
    return {name: [None if math.isnan(part) else part for part in value] for name, value in found.items()}
