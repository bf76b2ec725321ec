"""Changes to frames that a hospital makes and the phantom does not: mirroring, grey maps, compression."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

Region = tuple[int, int, int, int]


def augment(pixels: np.ndarray, region: Region, rng: np.random.Generator) -> tuple[np.ndarray, Region]:
    """Return a changed frame, uint8 [rows, columns], and its ultrasound region (x0, y0, x1, y1)."""
    if rng.random() < 0.3:
        pixels, region = mirror(pixels, region)
    if rng.random() < 0.4:
        pixels = grey_map(pixels, rng)
    if rng.random() < 0.15:
        pixels = gaussian_filter(pixels, rng.uniform(0.3, 1.2), truncate=2.0)
    if rng.random() < 0.25:
        pixels = lossy(pixels, int(rng.integers(35, 92)))
    return pixels, loose(region, pixels.shape, rng)


def mirror(pixels: np.ndarray, region: Region) -> tuple[np.ndarray, Region]:
    """Swap left and right: some examiners hold the transducer the other way."""
    x0, y0, x1, y1 = region
    columns = pixels.shape[1]
    return np.ascontiguousarray(pixels[:, ::-1]), (columns - x1, y0, columns - x0, y1)


def grey_map(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Change contrast, brightness and gamma, as a display or an export may."""
    grey = (pixels.astype(np.float32) / 255.0) ** np.float32(rng.uniform(0.85, 1.2))
    grey = np.where(pixels > 0, grey * rng.uniform(0.88, 1.12) + rng.uniform(-0.03, 0.05), 0.0)
    return np.rint(255.0 * np.clip(grey, 0.0, 1.0)).astype(np.uint8)


def lossy(pixels: np.ndarray, quality: int) -> np.ndarray:
    """Compress and decompress with JPEG baseline."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def loose(region: Region, shape: tuple[int, ...], rng: np.random.Generator) -> Region:
    """Move each edge of a region outwards by up to 4 % or inwards by up to 1 % of its size, within the picture."""
    x0, y0, x1, y1 = region
    width, height = x1 - x0, y1 - y0
    out = rng.uniform(-0.01, 0.04, 4) * (width, height, width, height)
    return (
        max(0, int(x0 - out[0])),
        max(0, int(y0 - out[1])),
        min(shape[1], int(x1 + out[2])),
        min(shape[0], int(y1 + out[3])),
    )
