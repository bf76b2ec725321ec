"""From a decoded frame to the tensor that a member sees. Training and serving call the same functions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from inference.geometry import Box, InputGeometry
from inference.percentiles import percentiles
from inference.sector import find_sector, luma

_LOW_PERCENTILE: Final = 2.0
_HIGH_PERCENTILE: Final = 99.5
_BRIGHTEST: Final = 1.2
"""Normalised values are cut here, so that a saturated mark cannot outweigh tissue."""
_LEAST_RANGE: Final = 16.0
"""Grey levels; a flatter picture is not stretched to full contrast."""


@dataclass(frozen=True, kw_only=True)
class PreparedView:
    """A view as a member sees it, and where it came from."""

    tensor: NDArray[np.float32]
    """[C, H, W], normalised."""
    crop: Box
    """Of the source, around the sector."""
    sector: NDArray[np.bool_]
    """[crop height, crop width]."""
    content: Box
    """Where the crop lies on the tensor's pixels; the rest is padding."""
    scale: float
    """Tensor pixels per source pixel."""


def prepare_view(
    pixels: NDArray[np.uint8], region: Box | None = None, *, geometry: InputGeometry
) -> PreparedView | None:
    """Crop a frame to its sector, take out what is not tissue, normalise and resample it.

    In the first channel grey values are stretched between low and high percentiles of the whole sector: gain and
    display window cancel, while the course over depth, which carries the attenuation, is kept. The others keep what
    that loses (`inference.contract.CHANNELS`).

    Parameters
    ----------
    pixels
        uint8 [H, W] grey or [H, W, 3] RGB.
    region
        The ultrasound region if a header gives one; else the whole picture.
    geometry
        Of the bundle.

    Returns
    -------
    PreparedView or None
        None where no sector is found, or the region lies beside the picture.
    """
    x0, y0, x1, y1 = clamped(region, pixels.shape[:2])
    if x1 <= x0 or y1 <= y0:
        return None
    grey = luma(pixels[y0:y1, x0:x1])
    sector = find_sector(grey)
    if not sector.any():
        return None
    top, bottom = _extent(sector.any(axis=1))
    left, right = _extent(sector.any(axis=0))
    sector = np.ascontiguousarray(sector[top:bottom, left:right])
    content, scale = _place(sector.shape, geometry)
    channels = [
        (_fitted(values, content, geometry) - mean) / std
        for values, mean, std in zip(
            _channels(grey[top:bottom, left:right], sector), geometry.mean, geometry.std, strict=False
        )
    ]
    return PreparedView(
        tensor=np.stack(channels).astype(np.float32),
        crop=(x0 + left, y0 + top, x0 + right, y0 + bottom),
        sector=sector,
        content=content,
        scale=scale,
    )


def clamped(region: Box | None, shape: Sequence[int]) -> Box:
    """Cut a region to the picture; real headers hold boxes larger than their image."""
    rows, columns = int(shape[0]), int(shape[1])
    if region is None:
        return 0, 0, columns, rows
    x0, y0, x1, y1 = region
    return max(0, min(x0, columns)), max(0, min(y0, rows)), max(0, min(x1, columns)), max(0, min(y1, rows))


def saliency_on_crop(saliency: NDArray[np.float32], view: PreparedView, geometry: InputGeometry) -> NDArray[np.float32]:
    """Carry a map of the tensor's grid back to the pixels of the view's crop.

    Parameters
    ----------
    saliency
        [h, w], 0 to 1, of the whole tensor.

    Returns
    -------
    float32 [crop height, crop width]
        0 to 1, zero outside the sector.
    """
    rows, columns = view.sector.shape
    x0, y0, x1, y1 = view.content
    whole = Image.fromarray(saliency.astype(np.float32)).resize(
        (geometry.width, geometry.height), Image.Resampling.BICUBIC
    )
    part = np.asarray(whole.crop((x0, y0, x1, y1)).resize((columns, rows), Image.Resampling.BICUBIC), np.float32)
    return np.clip(part, 0.0, 1.0) * view.sector


def _extent(present: Any) -> tuple[int, int]:
    where = np.flatnonzero(present)
    return int(where[0]), int(where[-1]) + 1


def _channels(grey: NDArray[np.uint8], sector: NDArray[np.bool_]) -> Iterator[NDArray[np.float32]]:
    """Give the crop's channels in the order of `CHANNELS`, each only when it is asked for."""
    inside = grey[sector]
    low, high = percentiles(inside, (_LOW_PERCENTILE, _HIGH_PERCENTILE))
    values = (grey.astype(np.float32) - np.float32(low)) / np.float32(max(high - low, _LEAST_RANGE))
    yield np.clip(values, 0.0, _BRIGHTEST) * sector
    yield grey.astype(np.float32) / np.float32(255.0) * sector
    yield sector.astype(np.float32)


def _place(shape: tuple[int, ...], geometry: InputGeometry) -> tuple[Box, float]:
    """Place a crop on the member's picture with the aspect ratio kept: skin at the top, centred from side to side."""
    rows, columns = shape
    scale = min(geometry.height / rows, geometry.width / columns)
    height, width = max(1, round(rows * scale)), max(1, round(columns * scale))
    left = (geometry.width - width) // 2
    return (left, 0, left + width, height), scale


def _fitted(values: NDArray[np.float32], content: Box, geometry: InputGeometry) -> NDArray[np.float32]:
    """Resample a channel to its place; the rest of the picture is zero."""
    x0, y0, x1, y1 = content
    small = Image.fromarray(values).resize((x1 - x0, y1 - y0), Image.Resampling.BILINEAR)  # Pillow filters on shrinking
    picture = np.zeros((geometry.height, geometry.width), np.float32)
    picture[y0:y1, x0:x1] = np.asarray(small)
    return picture
