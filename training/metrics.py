"""Figures of merit and their bootstrap intervals; NumPy only."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.stats import rankdata

Interval = tuple[float, float, float]


def mean(values: np.ndarray) -> float:
    """Return the mean, a figure for `bootstrap`."""
    return float(values.mean())


def auroc(score: np.ndarray, positive: np.ndarray) -> float:
    """Return the area under the ROC curve (Mann-Whitney); not a number where one class is missing."""
    positive = np.asarray(positive, dtype=bool)
    count, others = int(positive.sum()), int((~positive).sum())
    if not count or not others:
        return float("nan")
    return float((rankdata(score)[positive].sum() - count * (count + 1) / 2) / (count * others))


def quadratic_kappa(grade: np.ndarray, truth: np.ndarray, grades: int = 4) -> float:
    """Return Cohen's kappa with quadratic weights; not a number where both gave all the one grade."""
    table = np.zeros((grades, grades))
    np.add.at(table, (truth, grade), 1)
    weight = (np.subtract.outer(np.arange(grades), np.arange(grades)) / (grades - 1)) ** 2
    chance = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
    by_chance = float((weight * chance).sum())
    return float(1.0 - (weight * table).sum() / by_chance) if by_chance > 0 else float("nan")


def calibration_error(probability: np.ndarray, positive: np.ndarray, bins: int = 15) -> float:
    """Return the expected calibration error of a binary probability, equal-width bins."""
    place = np.minimum((probability * bins).astype(int), bins - 1)
    gap = np.zeros(bins)
    np.add.at(gap, place, probability - positive)
    return float(np.abs(gap).sum() / len(probability))


def chance_error(probability: np.ndarray, bins: int = 15, *, draws: int = 200, seed: int = 0) -> float:
    """Return the calibration error that perfect probabilities would show on so many patients, by chance alone."""
    rng = np.random.default_rng(seed)
    made = rng.random((draws, len(probability))) < probability
    return float(np.mean([calibration_error(probability, drawn, bins) for drawn in made]))


def bootstrap(
    figure: Callable[..., float], *arrays: np.ndarray, rounds: int = 1000, seed: int = 0, level: float = 0.95
) -> Interval:
    """Return (value, low, high) of a figure, resampling patients."""
    rng = np.random.default_rng(seed)
    size = len(arrays[0])
    draws = [figure(*(array[chosen] for array in arrays)) for chosen in rng.integers(0, size, (rounds, size))]
    low, high = np.nanquantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return figure(*arrays), float(low), float(high)
