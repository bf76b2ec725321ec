"""Finding the insonified sector of a B-mode picture: the part whose pixels come from tissue, not from the screen."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError

from inference.morphology import closed, eroded, opened

_WORKING_SIDE: Final = 256
"""The sector is found on a picture reduced to this longest side: fine structure such as text vanishes."""
_ABOVE_BACKGROUND: Final = 5.0
"""Grey values from the screen's background at which a pixel may be tissue."""
_PLAIN: Final = 2.0
"""Grey values by which the screen may differ from itself."""
_FLAT_SPREAD: Final = 0.2
"""Standard deviation of neighbours up to which a border that tissue reaches is screen there; speckle has more."""
_LEAST_SCREEN: Final = 0.04
"""Share of the border that must be flat for the screen to be seen at all."""
_NO_SCREEN: Final = -255.0
"""Differs from every grey value."""
_LEAST_FRACTION: Final = 0.03
"""A connected part smaller than this share of the picture is text, a ruler or a grey bar."""
_RIM: Final = 2
"""Pixels of the reduced picture by which smoothing and closing widen the echoes."""
_FLAT: Final = 0.35
"""Slope up to which an edge of the hull may be the face of the transducer."""
_TOUCHING: Final = 0.5
"""Share of a side's rows in which the echoes must reach the hull for the side to count as seen."""


def luma(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Grey values uint8 [H, W] of a grey [H, W] or RGB [H, W, 3] picture (ITU-R BT.601)."""
    if pixels.ndim == 2:
        return pixels
    weighted = pixels.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    return np.rint(weighted).astype(np.uint8)


def find_sector(pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Find the insonified area.

    Text, rulers, logos and grey bars are left out by size and by their thinness. Sectors are convex but for the
    transducer's face, and symmetric about its middle: so shadows and dark depth are filled by the convex hull, and a
    side in the dark by the mirror image of the other.

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
    sector = Image.fromarray(_sector_of(_filled(mask)).astype(np.uint8) * 255)
    return np.asarray(sector.resize((columns, rows), Image.Resampling.BILINEAR)) > 127


def _echoes(small: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Where the picture differs from the screen, with speckle closed and thin strokes opened away."""
    background = _background(small)
    smooth = ndimage.uniform_filter(small, 3)
    bright = np.abs(smooth - background) > _ABOVE_BACKGROUND  # on a grey screen the depth without echoes is darker
    return closed(np.pad(opened(bright, 2), 6), 5)[6:-6, 6:-6]


def _background(small: NDArray[np.float32]) -> float:
    """Grey value of the screen: that of the border where the border is plain; else tissue reaches it.

    Then only what is flat of the border is screen. A picture cut out of a sector has none: all of it is tissue.
    """
    edge = _border(small)
    middle = float(np.median(edge))
    if float((np.abs(edge - middle) < _PLAIN).mean()) > 0.5:
        return middle
    mean = ndimage.uniform_filter(small, 3)
    spread = np.sqrt(np.maximum(ndimage.uniform_filter(small**2, 3) - mean**2, 0.0))
    flat = edge[_border(spread) < _FLAT_SPREAD]
    return float(np.median(flat)) if len(flat) > _LEAST_SCREEN * len(edge) else _NO_SCREEN


def _border(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    parts = picture[:3], picture[-3:], picture[:, :3], picture[:, -3:]
    return np.concatenate([part.ravel() for part in parts])


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
    """Fill each row between its outermost echoes, from the first echo of each column downwards."""
    below_first = np.logical_or.accumulate(mask, axis=0)
    filled = opened(_between(mask) & below_first, 3)
    return filled if filled.any() else mask


def _between(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    forward = np.logical_or.accumulate(mask, axis=1)
    backward = np.logical_or.accumulate(mask[:, ::-1], axis=1)[:, ::-1]
    return forward & backward


def _sector_of(echoes: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Complete the echoes to the sector that they lie in; the gap above the transducer's curved face stays open."""
    inner = eroded(echoes, _RIM, beyond=True)
    mask = inner if inner.any() else echoes
    outline = np.argwhere(mask & ~eroded(mask, 1))[:, ::-1].astype(np.float64)
    try:
        hull = outline[ConvexHull(outline).vertices]
        face = _face(hull)
        if face is None:
            return _polygon(hull, mask.shape)
        hull = _mirrored(hull, mask, sum(face) / 2)
    except QhullError:  # fewer than three points that are not in line
        return mask
    gap = ~np.logical_or.accumulate(mask, axis=0)
    gap[:, : int(face[0]) + 1] = False
    gap[:, int(face[1]) :] = False
    return _polygon(hull, mask.shape) & ~gap


def _face(hull: NDArray[np.float64]) -> tuple[float, float] | None:
    """Columns of the ends of the transducer's face: the longest flat edge in the hull's upper half."""
    steps = np.roll(hull, -1, axis=0) - hull
    heights = hull[:, 1] + steps[:, 1] / 2
    flat = (np.abs(steps[:, 1]) <= _FLAT * np.abs(steps[:, 0])) & (heights < hull[:, 1].mean())
    if not flat.any():
        return None
    index = int(np.where(flat, np.abs(steps[:, 0]), -1.0).argmax())
    ends = sorted((hull[index, 0], hull[index, 0] + steps[index, 0]))
    return float(ends[0]), float(ends[1])


def _mirrored(hull: NDArray[np.float64], mask: NDArray[np.bool_], axis: float) -> NDArray[np.float64]:
    """Add the mirror image of the better seen side to the hull, where the other side lies in the dark."""
    left, right = _touching(hull, mask), _touching(_flip(hull, mask.shape[1]), mask[:, ::-1])
    image = np.stack([2 * axis - hull[:, 0], hull[:, 1]], axis=1)
    if left < min(right, _TOUCHING):
        image = image[image[:, 0] < axis]
    elif right < min(left, _TOUCHING):
        image = image[image[:, 0] > axis]
    else:
        return hull
    points = np.concatenate([hull, image])
    points[:, 0] = points[:, 0].clip(0, mask.shape[1] - 1)
    completed: NDArray[np.float64] = points[ConvexHull(points).vertices]
    return completed


def _touching(hull: NDArray[np.float64], mask: NDArray[np.bool_]) -> float:
    """Share of rows, from the top to the hull's leftmost point, in which the echoes begin where the hull does."""
    full = _polygon(hull, mask.shape)
    rows = np.flatnonzero(full.any(axis=1) & mask.any(axis=1))
    begins, ought = mask.argmax(axis=1)[rows], full.argmax(axis=1)[rows]
    upper = slice(max(1, int(ought.argmin())))
    return float((np.abs(begins - ought)[upper] <= _RIM).mean())


def _flip(hull: NDArray[np.float64], columns: int) -> NDArray[np.float64]:
    return np.stack([columns - 1 - hull[:, 0], hull[:, 1]], axis=1)


def _polygon(corners: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    picture = Image.new("1", (shape[1], shape[0]))
    ImageDraw.Draw(picture).polygon([(float(x), float(y)) for x, y in corners], fill=1, outline=1)
    return np.asarray(picture)
