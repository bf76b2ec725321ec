"""Finding the insonified sector of a B-mode picture: the part whose pixels come from tissue, not from the screen."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

_WORKING_SIDE: Final = 256
"""The sector is found on a picture reduced to this longest side: fine structure such as text vanishes."""
_ABOVE_BACKGROUND: Final = 5.0
"""Grey values over the screen's background from which a pixel may be tissue."""
_LEAST_FRACTION: Final = 0.03
"""A connected part smaller than this share of the picture is text, a ruler or a grey bar."""


def luma(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Grey values uint8 [H, W] of a grey [H, W] or RGB [H, W, 3] picture (ITU-R BT.601)."""
    if pixels.ndim == 2:
        return pixels
    weighted = pixels.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    return np.rint(weighted).astype(np.uint8)


def find_sector(pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Find the insonified area.

    Text, rulers, logos and grey bars are left out by size and by their thinness; a dark depth of the sector is kept by
    filling each row and column between its outermost echoes.

    Parameters
    ----------
    pixels
        uint8 [H, W] or [H, W, 3].

    Returns
    -------
    bool [H, W]
        All false where nothing looks like a sector.
    """
    grey = luma(pixels)
    rows, columns = grey.shape
    scale = min(1.0, _WORKING_SIDE / max(rows, columns))
    size = (max(1, round(columns * scale)), max(1, round(rows * scale)))
    small = np.asarray(Image.fromarray(grey).resize(size, Image.Resampling.BOX), np.float32)
    mask = _largest_part(_echoes(small))
    if mask is None:
        return np.zeros(grey.shape, np.bool_)
    filled = Image.fromarray(_filled(mask).astype(np.uint8) * 255).resize((columns, rows), Image.Resampling.BILINEAR)
    return np.asarray(filled) > 127


def _echoes(small: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Where the picture is brighter than the screen, with speckle closed and thin strokes opened away."""
    background = _background(small)
    smooth = ndimage.uniform_filter(small, 3)
    bright = smooth > background + _ABOVE_BACKGROUND
    opened = ndimage.binary_opening(bright, iterations=2)
    closed: NDArray[np.bool_] = ndimage.binary_closing(np.pad(opened, 6), iterations=5)[6:-6, 6:-6]
    return closed


def _background(small: NDArray[np.float32]) -> float:
    """Grey value of the screen: the commonest dark value, near the border if there is one."""
    edge = np.concatenate([small[:3].ravel(), small[-3:].ravel(), small[:, :3].ravel(), small[:, -3:].ravel()])
    return float(min(np.median(edge), np.percentile(small, 20) + 10.0))


def _largest_part(mask: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    labels, count = ndimage.label(mask)
    if not count:
        return None
    sizes = np.bincount(labels.ravel())[1:]
    if sizes.max() < _LEAST_FRACTION * mask.size:
        return None
    part: NDArray[np.bool_] = labels == 1 + int(sizes.argmax())
    return part


def _filled(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Fill each row between its outermost echoes, from the first echo of each column downwards.

    Rows fill shadows and dark depth; the columns keep the gap above the transducer's curved face open.
    """
    below_first = np.logical_or.accumulate(mask, axis=0)
    filled: NDArray[np.bool_] = ndimage.binary_opening(_between(mask) & below_first, iterations=3)
    return filled if filled.any() else mask


def _between(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    forward = np.logical_or.accumulate(mask, axis=1)
    backward = np.logical_or.accumulate(mask[:, ::-1], axis=1)[:, ::-1]
    return forward & backward
