"""Frames cut out of their sector, as published sets and some exports hold them: no screen, few or no curved edges."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from inference.sector import find_sector

_SHARES: Final = (0.45, 0.97)
"""Of the sector's height and width, between which a cut's are drawn."""
_INSIDE: Final = (0.75, 1.0)
"""Share of a cut that must lie inside the sector, drawn: from a tight field with black corners to tissue alone."""
_TRIES: Final = 200


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


def seeded(seed: int, path: Path) -> np.random.Generator:
    """Return a generator of a real frame's own: the same for the same file wherever the set lies."""
    return np.random.default_rng([seed, 2, zlib.crc32(f"{path.parent.parent.name}/{path.name}".encode())])


def read_grey(path: Path, rows: int) -> np.ndarray:
    """Read a picture as grey values, uint8, made smaller where it has more rows."""
    with Image.open(path) as picture:
        scale = min(1.0, rows / picture.height)
        size = round(scale * picture.width), round(scale * picture.height)
        return np.asarray(picture.convert("L").resize(size, Image.Resampling.BOX))
