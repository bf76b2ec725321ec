"""Figures of one view by which pictures are compared over time, taken from the very tensor that the members see.

Training takes them from its calibration patients, serving from every study that is scored: the same code over the same
preparation, so that a difference lies in the pictures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Final

import numpy as np
from numpy.typing import NDArray

from inference.contract import CHANNELS
from inference.geometry import InputGeometry
from inference.percentiles import percentiles
from inference.quality import frame_quality
from inference.reference import Value

_GREY: Final = CHANNELS.index("grey")
_SECTOR: Final = CHANNELS.index("sector")
MEANS: Final = ("brightness", "contrast", "depth_ratio", "quality", "liver_logit")
"""Figures of a view: `view_figures`, and the model's `liver_logit`."""
_MOST_VIEWS: Final = 8
_INSIDE: Final = 0.5
"""Share of a pixel that must lie in the sector: resampling softens its border."""


def view_figures(tensor: NDArray[np.float32], geometry: InputGeometry) -> dict[str, float]:
    """Measure one prepared view.

    Parameters
    ----------
    tensor
        float [C, H, W], normalised, as `prepare_view` makes it.
    geometry
        Of the bundle. One that takes no grey values as displayed has no figures: contrast stretching hides brightness.

    Returns
    -------
    dict
        `brightness`: mean grey value in the sector, 0 to 255. `contrast`: grey values between its 10th and 95th
        percentile. `depth_ratio`: mean of the deep half over that of the shallow half, which attenuation lowers and
        time gain compensation restores. `quality`: `frame_quality`, 0 to 1.
    """
    if geometry.channels <= _SECTOR:
        return {}
    grey = (_plain(tensor, _GREY, geometry) * 255.0).round().clip(0, 255).astype(np.uint8)
    sector = _plain(tensor, _SECTOR, geometry) > _INSIDE
    if not sector.any():
        return {}
    inside = grey[sector]
    low, high = percentiles(inside, (10, 95))
    rows = np.flatnonzero(sector.any(axis=1))
    middle = int(rows[0] + rows[-1] + 1) // 2
    shallow, deep = grey[:middle][sector[:middle]], grey[middle:][sector[middle:]]
    ratio = float(deep.mean() / max(float(shallow.mean()), 1.0)) if deep.size and shallow.size else 0.0
    return {
        "brightness": round(float(inside.mean()), 2),
        "contrast": round(float(high - low), 2),
        "depth_ratio": round(ratio, 4),
        "quality": round(frame_quality(grey, sector), 4),
    }


def study_figures(views: Sequence[Mapping[str, float]]) -> dict[str, Value]:
    """Figures of a study: means of those of its used views (`MEANS`), and how many views they are."""
    found: dict[str, Value] = {"views": str(min(len(views), _MOST_VIEWS))}
    for name in MEANS:
        values = [view[name] for view in views if name in view]
        if values:
            found[name] = round(fmean(values), 4)
    return found


def _plain(tensor: NDArray[np.float32], channel: int, geometry: InputGeometry) -> NDArray[np.float32]:
    """Take the normalisation off a channel."""
    values: NDArray[np.float32] = np.asarray(tensor[channel], np.float32)
    return values * np.float32(geometry.std[channel]) + np.float32(geometry.mean[channel])
