"""The statistics of watching: population stability, agreement of grades, agreement of fat fractions. Pure NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

_PERMUTATIONS: Final = 4999
_DRAWS: Final = 4000
_SEED: Final = 20261125
"""Fixed: the same counts are always judged the same."""
_SMOOTHING: Final = 0.5
"""Added to every bin: an empty one would make the index infinite."""
_NORMAL_95: Final = 1.959964
Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Stability:
    """How far a distribution has moved, and what chance alone would do."""

    psi: float
    """Population stability index: sum over bins of (now - then) ln(now / then). Below 0.1 is usually called steady,
    from 0.25 on a shift (Siddiqi 2006)."""
    chance: float | None
    """95th percentile of the index if nothing had moved; None where nobody asked."""
    p: float
    """Share of permutations with an index at least as large."""


def psi(then: NDArray[np.integer], now: NDArray[np.integer]) -> Floats:
    """Compute the population stability index of counts [..., bins] against others."""
    before = (then + _SMOOTHING) / (then + _SMOOTHING).sum(axis=-1, keepdims=True)
    after = (now + _SMOOTHING) / (now + _SMOOTHING).sum(axis=-1, keepdims=True)
    result: Floats = ((after - before) * np.log(after / before)).sum(axis=-1)
    return result


def stability(then: Counts, now: Counts) -> Stability:
    """Compare counts with a reference's by an exact permutation test.

    With few studies the index is large by chance: its mean is about (bins - 1) (1/n + 1/m) where nothing has moved
    (Yurdakul and Naranjo 2020), so twenty studies in ten bins stand at 0.45, far beyond every rule of thumb. Its
    chi-squared approximation fails there, too, since most bins hold one study or none. So the studies of both samples
    are shuffled between them as if they were one, which holds whatever the counts are.
    """
    rng = np.random.default_rng(_SEED)
    pooled, found = then + now, float(psi(then, now))
    drawn = rng.multivariate_hypergeometric(pooled, int(now.sum()), size=_PERMUTATIONS, method="marginals")
    by_chance = psi(pooled - drawn, drawn)
    p = (1 + int((by_chance >= found - 1e-12).sum())) / (1 + _PERMUTATIONS)
    return Stability(psi=found, chance=float(np.quantile(by_chance, 0.95)), p=p)


def discoveries(p_values: Sequence[float], rate: float) -> list[bool]:
    """Say which of many tests count: of those at most a share of `rate` is false (Benjamini and Hochberg 1995)."""
    count = len(p_values)
    order = sorted(range(count), key=lambda index: p_values[index])
    passed = [rank for rank, index in enumerate(order, 1) if p_values[index] <= rate * rank / count]
    chosen = set(order[: max(passed, default=0)])
    return [index in chosen for index in range(count)]


@dataclass(frozen=True, kw_only=True)
class Kappa:
    """Agreement of two graders beyond chance."""

    studies: int
    value: float | None
    """Cohen's kappa with quadratic weights (Cohen 1968); None where both gave the same single grade to all, so that
    chance explains everything."""
    low: float | None
    high: float | None
    """95 % interval."""
    exact: float
    """Share of the same grade."""
    table: tuple[tuple[int, ...], ...]
    """Studies by the first grader's grade (row) and the second's (column)."""


def weighted_kappa(first: Sequence[int], second: Sequence[int], grades: int) -> Kappa | None:
    """Agreement of grades 0 to `grades` - 1, with an interval; None without a study.

    The interval is a credible one: tables are drawn from the posterior of the cells' shares under a prior of one study
    spread over all cells (Berger, Bernardo and Sun 2015). A bootstrap of ten studies that all agree would claim a kappa
    of exactly 1; this says how little ten studies prove.
    """
    if not first:
        return None
    table = np.zeros((grades, grades), np.int64)
    np.add.at(table, (np.asarray(first), np.asarray(second)), 1)
    value = float(_kappas(table[None].astype(np.float64))[0])
    known = bool(np.isfinite(value)) and len(set(first)) + len(set(second)) > 2
    low = high = None
    if known:
        drawn = np.random.default_rng(_SEED).dirichlet(table.ravel() + 1.0 / table.size, size=_DRAWS)
        low, high = (float(edge) for edge in np.nanquantile(_kappas(drawn.reshape(-1, grades, grades)), (0.025, 0.975)))
    return Kappa(
        studies=len(first),
        value=value if known else None,
        low=low,
        high=high,
        exact=float(np.trace(table) / len(first)),
        table=tuple(tuple(int(cell) for cell in row) for row in table),
    )


def _kappas(tables: Floats) -> Floats:
    """Weighted kappa of each of [T, grades, grades] tables; not a number where chance leaves nothing to explain."""
    steps = np.arange(tables.shape[-1])
    weight = (steps[:, None] - steps[None, :]) ** 2.0
    chance = tables.sum(axis=2)[:, :, None] * tables.sum(axis=1)[:, None, :] / tables.sum(axis=(1, 2))[:, None, None]
    expected = (weight * chance).sum(axis=(1, 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        result: Floats = 1.0 - (weight * tables).sum(axis=(1, 2)) / np.where(expected > 0, expected, np.nan)
    return result


@dataclass(frozen=True, kw_only=True)
class BlandAltman:
    """Agreement of two measurements of the same studies (Bland and Altman 1986), second minus first."""

    studies: int
    bias: float
    bias_low: float | None = None
    bias_high: float | None = None
    """95 % interval of the bias, by Student's t; None, like what follows, with fewer than three studies."""
    low: float | None = None
    high: float | None = None
    """Limits of agreement, bias -/+ 1.96 SD."""
    deviation: float | None = None
    """Standard deviation of the differences."""


def bland_altman(first: Sequence[float], second: Sequence[float]) -> BlandAltman | None:
    """Compare measurements; None without a study."""
    if not first:
        return None
    difference = np.asarray(second, np.float64) - np.asarray(first, np.float64)
    count, bias = len(difference), float(difference.mean())
    if count < 3:
        return BlandAltman(studies=count, bias=bias)
    spread = float(difference.std(ddof=1))
    half = float(stdtrit(count - 1, 0.975)) * spread / count**0.5
    return BlandAltman(
        studies=count,
        bias=bias,
        bias_low=bias - half,
        bias_high=bias + half,
        low=bias - _NORMAL_95 * spread,
        high=bias + _NORMAL_95 * spread,
        deviation=spread,
    )
