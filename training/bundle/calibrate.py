"""Calibration on patients that no member has seen: temperature, slope, conformal sets and intervals, thresholds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from scipy.optimize import minimize, minimize_scalar

from inference.backends.interface import MemberOutputs
from inference.contract import OUTPUT_FAT_FRACTION, OUTPUT_GRADE_LOGITS, OUTPUT_LIVER_LOGIT
from training.frames.data import grade_of

PULL: Final = 0.5
"""Of `fit_scaling`: offsets as if drawn from a normal with unit spread."""
LIVER_PASSED: Final = 0.99
"""Share of phantom liver views that pass until the gate's own threshold is chosen (`training.bundle.regate`)."""


@dataclass(frozen=True, kw_only=True)
class Scored:
    """Raw outputs of the shipped graphs for N studies with the truth behind them."""

    outputs: Sequence[Sequence[MemberOutputs]]
    """One sequence of members per study."""
    fat_fraction: np.ndarray
    """[N], percent."""
    views: np.ndarray
    """[N], number of views of each study."""

    @property
    def grades(self) -> np.ndarray:
        """Grade 0 to 3, [N]."""
        return grade_of(self.fat_fraction)

    def stacked(self, name: str) -> np.ndarray:
        """Return an output that does not depend on the number of views, [N, members, ...]."""
        return np.stack([[member[name] for member in study] for study in self.outputs])

    def with_views(self, count: int) -> Scored:
        """Return the studies of that many views."""
        return self.some(np.flatnonzero(self.views == count))

    def some(self, chosen: np.ndarray) -> Scored:
        """Return the studies of these places."""
        return Scored(
            outputs=[self.outputs[index] for index in chosen],
            fat_fraction=self.fat_fraction[chosen],
            views=self.views[chosen],
        )


def probabilities(logits: np.ndarray, temperature: float, offsets: np.ndarray | float = 0.0) -> np.ndarray:
    """Return the ensemble's probabilities [N, 4] from logits [N, members, 4], as `inference.ensemble` forms them.

    `offsets` [4] are added to the scaled logits.
    """
    scaled = logits / temperature + offsets
    scaled = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return (scaled / scaled.sum(axis=-1, keepdims=True)).mean(axis=1)


def fit_temperature(logits: np.ndarray, grades: np.ndarray) -> float:
    """Return the temperature with the least negative log-likelihood (Guo et al. 2017)."""

    def loss(log_temperature: float) -> float:
        chosen = probabilities(logits, math.exp(log_temperature))[np.arange(len(grades)), grades]
        return float(-np.log(np.maximum(chosen, 1e-12)).mean())

    return float(math.exp(minimize_scalar(loss, bounds=(-2.0, 2.0), method="bounded").x))


def fit_scaling(logits: np.ndarray, grades: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the temperature and the grades' offsets [4] with the least negative log-likelihood.

    Vector scaling (Guo et al. 2017) with one temperature: where a system is sure of the wrong share of patients, no
    temperature helps. A weak pull towards no offsets keeps small folds from being fitted to the last patient.
    """

    def loss(parameters: np.ndarray) -> float:
        offsets = np.concatenate([[0.0], parameters[1:]])
        chosen = probabilities(logits, math.exp(parameters[0]), offsets)[np.arange(len(grades)), grades]
        return float(-np.log(np.maximum(chosen, 1e-12)).mean() + PULL * (offsets**2).sum() / len(grades))

    found = minimize(loss, np.array([math.log(fit_temperature(logits, grades)), 0.0, 0.0, 0.0]), method="L-BFGS-B").x
    return float(math.exp(found[0])), np.concatenate([[0.0], found[1:]])


def conformal_rank(scores: np.ndarray, coverage: float) -> float:
    """Return the split-conformal quantile: the ceil((n + 1) * coverage)-th smallest score, or the largest."""
    ordered = np.sort(scores)
    return float(ordered[min(math.ceil((len(ordered) + 1) * coverage), len(ordered)) - 1])


def grade_threshold(probability: np.ndarray, grades: np.ndarray, coverage: float) -> float:
    """Return the threshold of the adaptive prediction set: mass before the true grade stays below it often enough."""
    order = np.argsort(-probability, axis=1, kind="stable")
    ordered = np.take_along_axis(probability, order, axis=1)
    before = np.cumsum(ordered, axis=1) - ordered
    mass = before[order == grades[:, None]]
    # The set takes grades strictly below the threshold.
    return min(1.0, float(np.nextafter(np.float32(conformal_rank(mass, coverage)), np.float32(2.0))))


def interval_quantiles(residual: np.ndarray, coverage: float) -> list[float]:
    """Return the shifts from the estimate to the interval's ends, percent points, each side at half the miss rate."""
    side = 1.0 - (1.0 - coverage) / 2.0
    return [-conformal_rank(-residual, side), conformal_rank(residual, side)]


def youden(score: np.ndarray, positive: np.ndarray) -> float:
    """Return the threshold with the largest sensitivity plus specificity."""
    candidates = np.unique(score)
    gains = [(score >= cut)[positive].mean() - (score >= cut)[~positive].mean() for cut in candidates]
    return float(candidates[int(np.argmax(gains))])


def _by_views(scored: Scored, logits: np.ndarray, coverage: float) -> tuple[dict[str, Any], np.ndarray]:
    """Return scaling and conformal threshold for each number of views, and the probabilities [N, 4] so scaled."""
    found, probability = {}, np.zeros((len(logits), 4))
    for count in np.unique(scored.views):
        own = scored.views == count
        found[str(count)], probability[own] = scaled(logits[own], scored.grades[own], coverage)
    return found, probability


def scaled(logits: np.ndarray, grades: np.ndarray, coverage: float) -> tuple[dict[str, Any], np.ndarray]:
    """Return scaling and conformal threshold of studies with one number of views, and their probabilities so scaled.

    Parameters
    ----------
    logits
        [N, members, 4].
    grades
        True ones, int [N].
    """
    temperature, offsets = fit_scaling(logits, grades)
    probability = probabilities(logits, temperature, offsets)
    return {
        "temperature": temperature,
        "offsets": [float(value) for value in offsets],
        "threshold": grade_threshold(probability, grades, coverage),
    }, probability


def fat_line(raw: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Return slope and intercept of true fat fractions (percent, [N]) over the members' mean (percent, [N])."""
    if np.ptp(raw) <= 1e-3:  # members that tell everybody the same
        return 0.0, float(truth.mean())
    slope, intercept = np.polyfit(raw, truth, 1)
    return float(slope), float(intercept)


def calibrate(scored: Scored, coverage: float, expected_views: int) -> dict[str, Any]:
    """Return the parts of `bundle.json` that calibration decides.

    Parameters
    ----------
    scored
        Calibration patients, each shown with 1, 2, 3 and 4 of their views.
    coverage
        Of the conformal sets and intervals.
    expected_views
        Number of views at which the operating point is chosen.
    """
    logits, grades = scored.stacked(OUTPUT_GRADE_LOGITS), scored.grades
    temperature = fit_temperature(logits, grades)
    by_views, probability = _by_views(scored, logits, coverage)
    raw = scored.stacked(OUTPUT_FAT_FRACTION)[..., 0].mean(axis=1)
    slope, intercept = fat_line(raw, scored.fat_fraction)
    residual = scored.fat_fraction - np.clip(slope * raw + intercept, 0.0, 100.0)
    usual = scored.views == expected_views
    liver = np.concatenate(
        [np.mean([member[OUTPUT_LIVER_LOGIT] for member in study], axis=0) for study in scored.outputs]
    )
    return {
        "calibration": {
            "temperature": temperature,
            "fat_fraction": {"slope": slope, "intercept": intercept},
            "fat_fraction_interval": {
                "coverage": coverage,
                "quantiles": interval_quantiles(residual, coverage),
                "quantiles_by_views": {
                    str(count): interval_quantiles(residual[scored.views == count], coverage)
                    for count in np.unique(scored.views)
                },
            },
            "conformal_grade": {
                "coverage": coverage,
                "threshold": grade_threshold(probabilities(logits, temperature), grades, coverage),
            },
            "scaling_by_views": by_views,
        },
        "operating_points": {"steatosis": youden(probability[usual, 1:].sum(axis=1), grades[usual] >= 1)},
        "liver_logit_minimum": min(0.0, float(np.quantile(liver, 1.0 - LIVER_PASSED))),
    }
