"""The convex transducer: a polar grid of scan lines, and their conversion to a picture."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np

from training.phantom.scanner import Scanner

SAMPLES: Final = 352
LINES: Final = 176


@dataclass(frozen=True, kw_only=True)
class PolarGrid:
    """Sample positions of one transducer, arrays [SAMPLES, LINES] in cm; z is the depth below the array's middle."""

    range_cm: np.ndarray
    """float32 [SAMPLES, 1], distance from the transducer's surface along the line."""
    angle: np.ndarray
    """float32 [1, LINES], radians."""
    x: np.ndarray
    z: np.ndarray

    @property
    def step_cm(self) -> float:
        """Distance between two samples of a line."""
        return float(self.range_cm[1, 0] - self.range_cm[0, 0])


@dataclass(frozen=True, kw_only=True)
class ScanConversion:
    """Where each pixel of the sector lies between four polar samples."""

    rows: int
    columns: int
    cm_per_pixel: float
    sector: np.ndarray
    region: tuple[int, int, int, int]
    pixels: np.ndarray
    corner: np.ndarray
    along: np.ndarray
    across: np.ndarray

    def convert(self, polar: np.ndarray) -> np.ndarray:
        """Interpolate a polar field [SAMPLES, LINES] into a picture float32 [rows, columns], 0 outside the sector."""
        flat = np.ascontiguousarray(polar, dtype=np.float32).ravel()
        first, second = flat[self.corner], flat[self.corner + LINES]
        left = first + (second - first) * self.along
        first, second = flat[self.corner + 1], flat[self.corner + LINES + 1]
        right = first + (second - first) * self.along
        picture = np.zeros(self.rows * self.columns, dtype=np.float32)
        picture[self.pixels] = left + (right - left) * self.across
        return picture.reshape(self.rows, self.columns)

    def convert_mask(self, polar: np.ndarray) -> np.ndarray:
        """Nearest-neighbour conversion of a polar mask into bool [rows, columns]."""
        nearest = self.corner + np.where(self.along >= 0.5, LINES, 0) + (self.across >= 0.5)
        picture = np.zeros(self.rows * self.columns, dtype=bool)
        picture[self.pixels] = polar.ravel()[nearest]
        return picture.reshape(self.rows, self.columns)


@lru_cache(maxsize=16)
def polar_grid(radius_cm: float, field_of_view_deg: float, depth_cm: float) -> PolarGrid:
    """Return the sample positions of a convex transducer."""
    half = np.deg2rad(field_of_view_deg) / 2
    reach = np.linspace(0.0, depth_cm, SAMPLES, dtype=np.float32)[:, None]
    angle = np.linspace(-half, half, LINES, dtype=np.float32)[None, :]
    x = (radius_cm + reach) * np.sin(angle)
    z = (radius_cm + reach) * np.cos(angle) - radius_cm
    return PolarGrid(range_cm=reach, angle=angle, x=x.astype(np.float32), z=z.astype(np.float32))


def grid_of(scanner: Scanner) -> PolarGrid:
    """Return the polar grid of a scanner's transducer."""
    return polar_grid(scanner.radius_cm, scanner.field_of_view_deg, scanner.depth_cm)


def conversion_of(scanner: Scanner, rows: int, columns: int) -> ScanConversion:
    """Return the scan conversion of a scanner for a picture of that size."""
    return _conversion(
        scanner.radius_cm, scanner.field_of_view_deg, scanner.depth_cm, scanner.zoom, scanner.shift, rows, columns
    )


@lru_cache(maxsize=16)
def _conversion(
    radius: float, view_deg: float, depth: float, zoom: float, shift: float, rows: int, columns: int
) -> ScanConversion:
    half = np.deg2rad(view_deg) / 2
    height = depth + radius * (1 - np.cos(half))
    width = 2 * (radius + depth) * np.sin(half)
    cm_per_pixel = max(height / (0.86 * rows), width / (0.92 * columns)) / zoom
    # A frame that does not fit (zoom above 1) is cut at the picture's sides, as on real screens.
    top = 0.08 * rows + radius * (1 - np.cos(half)) / cm_per_pixel
    z = (np.arange(rows, dtype=np.float32)[:, None] - top) * cm_per_pixel + radius
    x = (np.arange(columns, dtype=np.float32)[None, :] - columns * (0.5 + shift)) * cm_per_pixel
    sample = (np.hypot(x, z) - radius) * ((SAMPLES - 1) / depth)
    line = (np.arctan2(x, z) + half) * ((LINES - 1) / (2 * half))
    sector = (sample >= 0) & (sample < SAMPLES - 1) & (line >= 0) & (line < LINES - 1)
    pixels = np.flatnonzero(sector)
    sample, line = sample.ravel()[pixels], line.ravel()[pixels]
    low, left = sample.astype(np.int32), line.astype(np.int32)
    inside_rows, inside_columns = np.flatnonzero(sector.any(axis=1)), np.flatnonzero(sector.any(axis=0))
    region = (int(inside_columns[0]), int(inside_rows[0]), int(inside_columns[-1]) + 1, int(inside_rows[-1]) + 1)
    return ScanConversion(
        rows=rows,
        columns=columns,
        cm_per_pixel=float(cm_per_pixel),
        sector=sector,
        region=region,
        pixels=pixels,
        corner=low * LINES + left,
        along=(sample - low).astype(np.float32),
        across=(line - left).astype(np.float32),
    )
