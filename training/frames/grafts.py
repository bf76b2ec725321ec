"""Real texture that is not liver: hearts carved into real frames, and real frames that no anatomy would give.

All real frames at hand show liver. Against synthetic frames alone, a gate would learn to tell real from synthetic, and
take any real ultrasound for liver; so it must see real texture on both sides.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from scipy.ndimage import gaussian_filter

from inference.sector import find_sector
from training.frames.cuts import slice_of_pie
from training.phantom.heart import WINDOWS, chambers, slow_noise

WAYS: Final = ("heart", "echo", "axis", "turned", "shuffled")
THROUGH_SECTOR: Final = ("echo", "axis")
"""Shown through a sector probe; others stay in the frame's own sector."""


def grafted(pixels: np.ndarray, way: str, rng: np.random.Generator) -> np.ndarray:
    """Return a frame of real texture that shows no liver, uint8 [rows, columns].

    Parameters
    ----------
    pixels
        uint8 [rows, columns], real B-mode with a sector.
    way
        One of `WAYS`: a heart in place of the organ, the same through a sector probe, a heart in any of the usual
        windows through one, the content upside down, or its parts changed about.
    """
    sector = find_sector(pixels)
    if not sector.any():
        return pixels
    rows, columns = (np.flatnonzero(sector.any(axis=axis)) for axis in (1, 0))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    inside, content = sector[box], pixels[box].astype(np.float32)
    carve = {"heart": _heart, "echo": _heart, "axis": _axis, "turned": _turned, "shuffled": _shuffled}[way]
    changed = carve(content, inside, rng)
    if way in THROUGH_SECTOR:
        return slice_of_pie(np.clip(np.rint(changed), 0, 255).astype(np.uint8), rng)
    result = pixels.copy()
    result[box] = np.where(inside, np.clip(np.rint(changed), 0, 255), pixels[box])
    return result


def _filled(content: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Fill what lies outside the sector from its own pixels, mirrored line by line, so that it can be moved about."""
    filled = np.where(inside, content, np.nan)
    mean = np.nanmean(filled)
    mirrored = filled[:, ::-1]
    filled = np.where(np.isnan(filled), mirrored, filled)
    below = np.roll(filled, content.shape[0] // 2, axis=0)
    filled = np.where(np.isnan(filled), below, filled)
    return np.where(np.isnan(filled), mean, filled)


def _heart(content: np.ndarray, inside: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Darken four chambers and the lung around them; walls, septum and leaflets keep the frame's own speckle."""
    rows, columns = content.shape
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float32)
    tilt = rng.normal(0.0, 0.3)
    u, v = (x / columns - rng.normal(0.5, 0.06)), (y / rows - rng.uniform(0.45, 0.62))
    across = (np.cos(tilt) * u + np.sin(tilt) * v) / rng.uniform(0.18, 0.4)
    along = (np.cos(tilt) * v - np.sin(tilt) * u) / rng.uniform(0.3, 0.5)
    rim = np.hypot(across, along) + rng.uniform(0.03, 0.12) * slow_noise(content.shape, rng)
    septum = np.abs(across - rng.uniform(-0.2, 0.2) - rng.uniform(-0.3, 0.3) * along**2) < rng.uniform(0.05, 0.16)
    ring = np.abs(along - rng.uniform(0.0, 0.4) - rng.uniform(-0.4, 0.4) * across) < rng.uniform(0.02, 0.06)
    chamber = (rim < rng.uniform(0.65, 0.85)) & ~septum & ~ring
    share = np.ones_like(content)
    share[rim > 1.0] = rng.uniform(0.1, 0.6)
    share[chamber] = rng.uniform(0.02, 0.25)
    share = gaussian_filter(share, rng.uniform(1.0, 4.0)) * rng.uniform(0.5, 1.1)
    wall = gaussian_filter((ring & (rim < 0.8)).astype(np.float32), 1.0)
    flat = _filled(content, inside)
    flat = flat / np.maximum(gaussian_filter(flat, 0.12 * rows), 8.0) * rng.uniform(50.0, 110.0)
    return share * flat + rng.uniform(0.0, 90.0) * wall * share


def _axis(content: np.ndarray, inside: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Carve a heart in any of the usual windows: blood dark, muscle in the frame's own speckle, leaflets bright."""
    rows, columns = content.shape
    down, across = np.mgrid[0:rows, 0:columns].astype(np.float32)
    parts = chambers(WINDOWS[rng.integers(len(WINDOWS))], across / columns - 0.5, down / rows, rng)
    share = np.full(content.shape, rng.uniform(0.05, 0.8))
    share[parts.heart] = 1.0
    share[parts.blood] = rng.uniform(0.02, 0.3)
    share = gaussian_filter(share, rng.uniform(0.5, 4.0)) * rng.uniform(0.4, 1.2)
    line = gaussian_filter(parts.bright.astype(np.float32), rng.uniform(0.7, 2.0))
    flat = _filled(content, inside)
    flat = flat / np.maximum(gaussian_filter(flat, 0.12 * rows), 8.0) * rng.uniform(40.0, 120.0)
    flat *= np.clip(1.0 + 0.35 * slow_noise(content.shape, rng), 0.0, 2.0)
    seen = np.clip(0.6 + 0.6 * slow_noise(content.shape, rng), 0.0, 1.5)  # where it is met squarely
    return share * flat + rng.uniform(0.0, 140.0) * line * seen


def _turned(content: np.ndarray, inside: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Turn the content upside down inside its sector."""
    return _filled(content, inside)[::-1]


def _shuffled(content: np.ndarray, inside: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Change blocks of the content about, each turned or mirrored on its own."""
    filled = _filled(content, inside)
    parts = int(rng.integers(3, 6))
    height, width = content.shape[0] // parts, content.shape[1] // parts
    result = filled.copy()
    places = [(row, column) for row in range(parts) for column in range(parts)]
    for target, source in zip(places, rng.permutation(len(places)), strict=True):
        row, column = places[source]
        block = filled[row * height : (row + 1) * height, column * width : (column + 1) * width]
        block = block[::-1] if rng.random() < 0.5 else block
        result[target[0] * height : (target[0] + 1) * height, target[1] * width : (target[1] + 1) * width] = block
    return result
