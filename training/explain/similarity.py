"""How alike two maps are, inside the sector, on the map's own grid: Spearman's rank correlation and SSIM."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.stats import rankdata

from training.explain.pictures import Study
from training.metrics import Interval, bootstrap

LEAST_CELLS: Final = 8
"""Of the grid inside the sector; fewer tell nothing."""
_SSIM_SPREAD: Final = 1.5
_SSIM_STABLE: Final = (0.01**2, 0.03**2)
"""Window and constants of Wang et al. for values from 0 to 1."""


def cells_inside(study: Study, height: int, width: int, shape: tuple[int, int]) -> np.ndarray:
    """Return which cells of maps of that shape lie mostly in the sector, bool [V, h, w], for a member's input size."""
    inside = np.zeros((len(study.pictures), *shape), dtype=bool)
    rows, columns = height // shape[0], width // shape[1]
    for number, picture in enumerate(study.pictures):
        x0, y0, x1, y1 = picture.prepared.content
        sector = picture.prepared.sector
        whole = np.zeros((height, width))
        across = (np.arange(x1 - x0) * sector.shape[1] / (x1 - x0)).astype(int)
        down = (np.arange(y1 - y0) * sector.shape[0] / (y1 - y0)).astype(int)
        whole[y0:y1, x0:x1] = sector[np.ix_(down, across)]
        cut = whole[: rows * shape[0], : columns * shape[1]]
        inside[number] = cut.reshape(shape[0], rows, shape[1], columns).mean(axis=(1, 3)) >= 0.5
    return inside


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Return Spearman's rank correlation of two lists; not a number where one is constant."""
    ranks = [rankdata(values) - (len(values) + 1) / 2 for values in (first, second)]
    spread = float(np.sqrt((ranks[0] ** 2).sum() * (ranks[1] ** 2).sum()))
    return float((ranks[0] * ranks[1]).sum() / spread) if spread else float("nan")


def structural_similarity(first: np.ndarray, second: np.ndarray, inside: np.ndarray) -> float:
    """Return SSIM of two maps [h, w], each scaled to its own maximum, over the cells inside."""
    blur = partial(gaussian_filter, sigma=_SSIM_SPREAD, mode="reflect")
    a, b = (np.asarray(values, np.float64) / max(float(values.max()), 1e-12) for values in (first, second))
    mean_a, mean_b = blur(a), blur(b)
    luminance, contrast = _SSIM_STABLE
    both = (2 * mean_a * mean_b + luminance) * (2 * (blur(a * b) - mean_a * mean_b) + contrast)
    each = (mean_a**2 + mean_b**2 + luminance) * (blur(a * a) - mean_a**2 + blur(b * b) - mean_b**2 + contrast)
    return float((both / each)[inside].mean())


@dataclass(frozen=True, kw_only=True)
class Similarity:
    """How alike maps were, over all comparisons of one row of the table."""

    label: str
    rank: Interval
    """Mean Spearman correlation, with 95 % bootstrap interval over patients."""
    rank_size: Interval
    """The same without its sign: a map turned over still shows the same picture."""
    ssim: Interval
    comparisons: int
    empty: float
    """Share of the comparisons left out since the changed member's map is blank or has one value everywhere."""


@dataclass
class Row:
    """Comparisons of one row, by study."""

    label: str
    rank: list[list[float]]
    ssim: list[list[float]]
    empty: int = 0

    def add(self, study: int, maps: np.ndarray, others: np.ndarray, inside: np.ndarray) -> None:
        """Compare the maps [V, h, w] of one study view by view; what has one value everywhere is counted as empty."""
        for own, other, cells in zip(maps, others, inside, strict=True):
            rank = rank_correlation(own[cells], other[cells])
            if cells.sum() < LEAST_CELLS or not np.ptp(own[cells]) > 0:
                continue
            if not np.isfinite(rank):
                self.empty += 1
                continue
            self.rank[study].append(rank)
            self.ssim[study].append(structural_similarity(own, other, cells))

    def similarity(self) -> Similarity:
        """Sum the row up, with intervals over patients."""
        count = sum(len(found) for found in self.rank)
        return Similarity(
            label=self.label,
            rank=_over_patients(self.rank, np.asarray),
            rank_size=_over_patients(self.rank, np.abs),
            ssim=_over_patients(self.ssim, np.asarray),
            comparisons=count,
            empty=self.empty / max(count + self.empty, 1),
        )


def _over_patients(found: Sequence[Sequence[float]], change: Callable[[np.ndarray], np.ndarray]) -> Interval:
    means = np.array([change(np.array(values)).mean() for values in found if values])
    return bootstrap(np.mean, means) if len(means) else (float("nan"),) * 3
