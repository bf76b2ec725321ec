"""Which frames are worth scoring: quality, colour, and the representative frames of a cine."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from inference.percentiles import percentiles
from inference.sector import luma

MOST_LOOKED_AT: Final = 16
"""Frames of a cine that are decoded."""
MOST_OF_A_CINE: Final = 3
"""Frames of a cine that may be scored, by quality and by difference: the rest would only repeat them."""
_DARK: Final = 12
"""Grey value below which a pixel shows no echo."""
_FULL_CONTRAST: Final = 90.0
"""Grey levels between the 10th and the 95th percentile of a well-set B-mode."""
_COLOURED: Final = 48.0
"""Distance in RGB from the tint of its own brightness from which a pixel is coloured on purpose."""
_THUMBNAIL: Final = (64, 48)
"""Columns and rows to which frames are reduced before they are compared: speckle averages out."""
_TINT_LEVELS: Final = 5
"""Neighbouring levels of brightness over which a tint must hold; a flow colour that fills one level is no tint."""
_MOST_SAMPLED: Final = 500_000
"""Pixels that are enough to say which share is coloured."""


def frame_quality(pixels: NDArray[np.uint8], sector: NDArray[np.bool_]) -> float:
    """Judge a frame between 0 (useless) and 1.

    Falls with a dark sector (transducer lifted off, too little gain), with columns without echo (shadow, poor contact),
    with little contrast and with saturation.

    Parameters
    ----------
    pixels
        uint8 [H, W] or [H, W, 3].
    sector
        bool [H, W].
    """
    grey = luma(pixels)
    inside = grey[sector]
    if inside.size == 0:
        return 0.0
    fill = float((inside > _DARK).mean())
    low, high = percentiles(inside, (10, 95))
    contrast = min(1.0, float(high - low) / _FULL_CONTRAST)
    unsaturated = 1.0 - min(1.0, 4.0 * float((inside > 250).mean()))
    lit = ((grey > _DARK) & sector).sum(axis=0) / np.maximum(sector.sum(axis=0), 1)
    columns = sector.any(axis=0)
    contact = float((lit[columns] > 0.3).mean())
    return float(np.clip(min(1.0, fill / 0.8) * contrast * unsaturated * contact, 0.0, 1.0))


def colour_fraction(pixels: NDArray[np.uint8], sector: NDArray[np.bool_]) -> float:
    """Share of the sector's pixels that are coloured on purpose, as colour flow and overlays are.

    A tinted grey map gives every brightness one colour; that tint is learnt from the frame and taken off first.

    Parameters
    ----------
    pixels
        uint8 [H, W] grey (always 0) or [H, W, 3] RGB.
    sector
        bool [H, W].
    """
    if pixels.ndim == 2 or not sector.any():
        return 0.0
    sampled = pixels[sector]
    sampled = sampled[:: 1 + len(sampled) // _MOST_SAMPLED]
    inside = sampled.astype(np.float32)
    level = luma(sampled[None])[0] >> 4
    chroma = inside - inside.mean(axis=1, keepdims=True)
    steps = np.unique(level)
    medians = np.stack([np.median(chroma[level == step], axis=0) for step in steps])
    tint = np.zeros((16, 3), np.float32)
    tint[steps] = ndimage.median_filter(medians, size=(_TINT_LEVELS, 1), mode="mirror")
    distance = np.abs(chroma - tint[level]).max(axis=1)
    return float((distance > _COLOURED).mean())


def representative_frames(
    frames: NDArray[np.uint8] | list[NDArray[np.uint8]], sectors: list[NDArray[np.bool_]], count: int
) -> list[int]:
    """Choose frames by quality and by difference from those already chosen; the same cine gives the same choice.

    Parameters
    ----------
    frames
        uint8 [H, W] or [H, W, 3] each.
    sectors
        bool [H, W] each.
    count
        How many at most.

    Returns
    -------
    list of int
        Indices, best first.
    """
    qualities = np.array([frame_quality(frame, sector) for frame, sector in zip(frames, sectors, strict=True)])
    usable = np.flatnonzero(qualities > 0.0)
    if usable.size == 0:
        return []
    small = np.stack([thumbnail(frames[index]) for index in usable])
    chosen = [int(qualities[usable].argmax())]
    while len(chosen) < min(count, usable.size):
        apart = np.min([np.abs(small - small[other]).mean(axis=(1, 2)) for other in chosen], axis=0)
        worth = qualities[usable] * (0.25 + apart / max(float(apart.max()), 1e-6))
        worth[chosen] = -1.0
        chosen.append(int(worth.argmax()))
    return [int(usable[index]) for index in chosen]


def spread(frames: int, most: int = MOST_LOOKED_AT) -> list[int]:
    """Return which frames of a cine to look at, 0-based: all, or so many spread evenly over a long one."""
    if frames <= most:
        return list(range(frames))
    return sorted({round((index + 0.5) * frames / most - 0.5) for index in range(most)})


def thumbnail(frame: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Reduce a frame to 48 rows and 64 columns of grey values, for comparison."""
    return np.asarray(Image.fromarray(luma(frame)).resize(_THUMBNAIL, Image.Resampling.BOX), np.float32)
