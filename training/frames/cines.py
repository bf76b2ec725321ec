"""Cines made of one real frame: tissue breathes under a still sector, and the probe comes off the skin for a while."""

from __future__ import annotations

from typing import Final

import numpy as np
from scipy.ndimage import shift

from inference.sector import find_sector
from training.frames.cuts import through_sector

_BREATH: Final = 0.04
"""Of the frame's height: how far tissue moves to either side."""
_LIFTED: Final = 0.25
"""Share of the frames, in one run, without full contact, as `training.phantom.study.render_cine` has them."""


def moving(pixels: np.ndarray, rng: np.random.Generator, *, frames: int, phased: bool = False) -> list[np.ndarray]:
    """Return a cine of one real frame, uint8 [h, w] each.

    Parameters
    ----------
    pixels
        uint8 [h, w], whole, with its sector; without one the frames do not move.
    rng
        Of the motion, and of when contact is lost.
    frames
        How many.
    phased
        Whether it is shown as a sector probe would show it.
    """
    still = through_sector(pixels, rng) if phased else pixels
    sector = find_sector(still)
    phase, lean = rng.uniform(0.0, 2 * np.pi), rng.uniform(-0.5, 0.5)
    lost = round(frames * _LIFTED)
    start = int(rng.integers(0, frames - lost + 1))
    side = rng.choice((-1, 1))
    shown = []
    for index in range(frames):
        moved = _BREATH * len(still) * np.sin(phase + 2 * np.pi * index / frames)
        tissue = shift(still, (lean * moved, moved), order=1, mode="nearest")
        if start <= index < start + lost:
            tissue = _lifted(tissue, rng.uniform(0.2, 0.8), side)
        shown.append(np.where(sector, tissue, still))
    return shown


def _lifted(pixels: np.ndarray, share: float, side: int) -> np.ndarray:
    """Darken the columns that have no contact, a share of them from one side."""
    column = np.linspace(0.0, 1.0, pixels.shape[1])[::side]
    seen = 1.0 / (1.0 + np.exp((share - column) * 30.0))
    return (pixels * (0.05 + 0.95 * seen)).astype(np.uint8)
