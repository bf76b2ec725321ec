"""Signs of fat that an eye reads off a frame whose liver is outlined: brightness, its fall over depth, contrast.

They are known to work on patients (a mean and a straight line are what published systems are compared with), so they
say without any steatosis label whether members follow on real frames what they follow on phantoms. A straight line
through them, fitted on phantoms, also puts real frames in an order.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from inference.contract import VIEWS
from training.phantom import Scanner, draw_patient, render_view

CUES: Final = ("liver", "slope", "contrast", "spread")
"""Mean grey value of the liver; its change over the sector's depth; how much brighter it is than the rest below the
body wall; its standard deviation over its mean."""
_BODY_WALL: Final = 0.12
"""Share of the sector's depth that is taken for skin, fat and muscle."""
_LEAST: Final = 50
"""Pixels of which a mean is taken."""
PHANTOM_CUES: Final = 600
"""Phantom frames to which the line is fitted."""
_SEED: Final = 717171
"""Of no experiment's data."""


@dataclass(frozen=True, kw_only=True)
class CueLine:
    """A straight line through standardised cues to the logarithm of the fat fraction."""

    mean: np.ndarray
    spread: np.ndarray
    weights: np.ndarray
    """One for each of `CUES`, and the offset."""

    def __call__(self, cues: np.ndarray) -> np.ndarray:
        """Return the score [N] of cues [N, 4]."""
        result: np.ndarray = (cues - self.mean) / self.spread @ self.weights[:-1] + self.weights[-1]
        return result


def cues_of(pixels: np.ndarray, liver: np.ndarray, sector: np.ndarray) -> np.ndarray | None:
    """Return the cues [4] of a frame uint8 [rows, columns] with masks of its shape; None where no liver is seen."""
    inside = liver & sector
    if inside.sum() < _LEAST:
        return None
    rows = np.flatnonzero(sector.any(axis=1))
    depth = (np.arange(len(pixels)) - rows[0]) / len(rows)
    grey = pixels.astype(np.float32)
    values = grey[inside]
    mean = float(values.mean())
    slope = float(np.polyfit(depth[np.nonzero(inside)[0]], values, 1)[0])
    rest = grey[sector & ~liver & (depth[:, None] > _BODY_WALL)]
    contrast = mean - float(rest.mean()) if len(rest) >= _LEAST else 0.0
    return np.array([mean, slope, contrast, float(values.std()) / max(mean, 1.0)])


def fit_cue_line(cues: np.ndarray, fat_fraction: np.ndarray) -> CueLine:
    """Fit the line by least squares to cues [N, 4] and fat fractions [N] in percent."""
    mean, spread = cues.mean(axis=0), np.maximum(cues.std(axis=0), 1e-6)
    standard = np.column_stack([(cues - mean) / spread, np.ones(len(cues))])
    weights = np.linalg.lstsq(standard, np.log1p(fat_fraction), rcond=None)[0]
    return CueLine(mean=mean, spread=spread, weights=weights)


def phantom_cues(indices: Iterable[int] = range(PHANTOM_CUES), seed: int = _SEED) -> tuple[np.ndarray, np.ndarray]:
    """Return cues [N, 4] and fat fractions [N] of phantom frames, each of another patient, view and scanner."""
    found, fat = [], []
    for index in indices:
        rng = np.random.default_rng([seed, index])
        patient, scanner = draw_patient(rng), Scanner.random(rng)
        frame = render_view(patient, VIEWS[index % len(VIEWS)], scanner)
        cues = cues_of(frame.pixels, frame.liver, frame.sector)
        if cues is not None:
            found.append(cues)
            fat.append(patient.fat_fraction_percent)
    return np.stack(found), np.array(fat)
