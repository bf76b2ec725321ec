"""Frames otherwise than whole from a curved array: cut out of their sector, trimmed, or through a sector probe.

Published sets and some exports hold cuts and trimmed fields: no screen, few or no curved edges. Livers are also looked
at with sector probes, whose field has another shape; a real frame can be shown so but for its speckle.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from inference.sector import find_sector
from training.frames.augment import Region

_SHARES: Final = (0.45, 0.97)
"""Of the sector's height and width, between which a cut's are drawn."""
_INSIDE: Final = (0.75, 1.0)
"""Share of a cut that must lie inside the sector, drawn: from a tight field with black corners to tissue alone."""
_TRIES: Final = 200
_TOP: Final = (0.0, 0.14)
_BOTTOM: Final = (0.0, 0.2)
"""Shares of the sector's height that trimming takes off."""
_ASPECT: Final = (1.0, 1.7)
"""Columns to rows of a trimmed field; Byra et al. 2018 have 636 to 434."""
_TRIMMED: Final = 0.6
"""How often a frame that was not kept whole is trimmed; else it is a cut from anywhere."""
LEAST_SIDE: Final = 128
"""Pixels; serving scores nothing smaller."""


def cut_out(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a rectangle of a frame that is mostly or all tissue, uint8 [h, w]; the frame itself without a sector."""
    sector = find_sector(pixels)
    if not sector.any():
        return pixels
    rows, columns = (np.flatnonzero(sector.any(axis=axis)) for axis in (1, 0))
    top, left, tall, wide = rows[0], columns[0], len(rows), len(columns)
    # Sums over any rectangle at once.
    summed = np.pad(sector.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    wanted = rng.uniform(*_INSIDE)
    for _ in range(_TRIES):
        height, width = (max(8, int(rng.uniform(*_SHARES) * side)) for side in (tall, wide))
        y, x = top + int(rng.integers(0, tall - height + 1)), left + int(rng.integers(0, wide - width + 1))
        inside = summed[y + height, x + width] - summed[y, x + width] - summed[y + height, x] + summed[y, x]
        if inside >= wanted * height * width:
            return pixels[y : y + height, x : x + width]
    return pixels[top : top + tall, left : left + wide]


def trimmed(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the field of a frame without its edges, uint8 [h, w]; corners of the screen may stay.

    Published sets and screenshots hold frames so. Gives the frame itself where no sector is found.
    """
    sector = find_sector(pixels)
    if not sector.any():
        return pixels
    rows, columns = (np.flatnonzero(sector.any(axis=axis)) for axis in (1, 0))
    tall, wide = len(rows), len(columns)
    top, bottom = rows[0] + int(rng.uniform(*_TOP) * tall), rows[-1] + 1 - int(rng.uniform(*_BOTTOM) * tall)
    kept = min(wide, round((bottom - top) * rng.uniform(*_ASPECT)))
    left = columns[0] + int((wide - kept) * rng.uniform(0.3, 0.7))
    return pixels[top:bottom, left : left + kept]


def through_sector(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return what a sector probe would show of a frame, uint8 [h, w]: a slice of pie from a point on the skin.

    Gives the frame itself where no sector is found.
    """
    sector = find_sector(pixels)
    if not sector.any():
        return pixels
    rows, columns = (np.flatnonzero(sector.any(axis=axis)) for axis in (1, 0))
    return slice_of_pie(pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], rng)


def slice_of_pie(content: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Show content without a screen, uint8 [h, w], through a sector probe on a dark screen, uint8 [h, about 1.25 h]."""
    rows, columns = content.shape
    wide = round(rows * rng.uniform(1.0, 1.5))
    y, x = np.mgrid[0:rows, 0:wide].astype(np.float32)
    reach = np.hypot(x - wide / 2, y + 0.02 * rows) / rows
    angle = np.arctan2(x - wide / 2, y + 0.02 * rows)
    inside = (np.abs(angle) < np.deg2rad(rng.uniform(32.0, 46.0))) & (reach < rng.uniform(0.93, 1.0))
    at = (np.arange(wide) * columns) // wide
    return np.where(inside, content[:, at], rng.choice((0, 0, 0, 4))).astype(np.uint8)


def stored(pixels: np.ndarray, region: Region, rng: np.random.Generator) -> tuple[np.ndarray, Region]:
    """Return what is left of a frame where it was not kept whole, and its region: all of it."""
    part = trimmed(pixels, rng) if rng.random() < _TRIMMED else cut_out(pixels, rng)
    if min(part.shape) < LEAST_SIDE:
        return pixels, region
    return part, (0, 0, part.shape[1], part.shape[0])


def seeded(seed: int, path: Path) -> np.random.Generator:
    """Return a generator of a real frame's own: the same for the same file wherever the set lies."""
    return np.random.default_rng([seed, 2, frame_key(path)])


def frame_key(path: Path) -> int:
    """Return a number of a real frame's own, which does not depend on where the set lies."""
    return zlib.crc32(f"{path.parent.parent.name}/{path.name}".encode())


def read_grey(path: Path, rows: int) -> np.ndarray:
    """Read a picture as grey values, uint8, made smaller where it has more rows."""
    with Image.open(path) as picture:
        scale = min(1.0, rows / picture.height)
        size = round(scale * picture.width), round(scale * picture.height)
        return np.asarray(picture.convert("L").resize(size, Image.Resampling.BOX))
