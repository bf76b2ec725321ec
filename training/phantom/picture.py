"""Pictures of the world in grey, as statistics have them: what no scanner made, seen whole or in part.

Things of all sizes stand in front of each other ("dead leaves", Lee et al. 2001), each of a stuff of its own: smooth,
grainy, in stripes, in stones or leaves of its own size, lit from a side. Behind them a sky or a wall, before them the
depth of field, then a camera's curve and noise.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from scipy.ndimage import gaussian_filter, zoom

_MOST: Final = 60
"""Things in one picture."""


def render_picture(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Paint a picture of things, uint8 [rows, columns]; one in three is of one stuff alone, a surface seen close."""
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float32)
    picture = _stuff(rng, rows, columns) + _light(rng, x / columns, y / rows)
    if rng.random() < 0.67:
        picture = _things(picture, x, y, rng)
    if rng.random() < 0.4:  # what lies off the plane of focus
        blurred = gaussian_filter(picture, rng.uniform(2.0, 8.0))
        share = np.clip(np.abs(y / rows - rng.uniform(0.0, 1.0)) * rng.uniform(0.0, 3.0), 0.0, 1.0)
        picture = picture + share * (blurred - picture)
    return _camera(picture, rng)


def _things(picture: np.ndarray, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    rows, columns = picture.shape
    stuffs = [_stuff(rng, rows, columns) for _ in range(rng.integers(2, 5))]
    sizes = (rng.uniform(0.02, 0.12) * columns) * (1.0 - rng.random(int(rng.integers(3, _MOST)))) ** -0.6
    for size in sizes:
        angle, squeeze = rng.uniform(0, np.pi), rng.uniform(0.15, 1.0)
        across, down = x - rng.uniform(0, columns), y - rng.uniform(0, rows)
        u = (across * np.cos(angle) + down * np.sin(angle)) / size
        v = (down * np.cos(angle) - across * np.sin(angle)) / (squeeze * size)
        power = rng.choice((1.0, 2.0, 8.0))  # rhombus, ellipse, box
        shape = np.abs(u) ** power + np.abs(v) ** power < 1.0
        lit = rng.uniform(-0.8, 0.8) * u + rng.uniform(-0.8, 0.8) * v  # round things are lit from a side
        own = stuffs[rng.integers(len(stuffs))] + rng.normal(0.0, 1.5) + lit
        picture = np.where(shape, own, picture)
    return picture


def _light(rng: np.random.Generator, across: np.ndarray, down: np.ndarray) -> np.ndarray:
    return rng.normal(0.0, 1.0) * across + rng.normal(0.0, 1.0) * down


def _stuff(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Return a surface, float [rows, columns]: zero mean, of any contrast up to 1."""
    field = _STUFFS[rng.integers(len(_STUFFS))](rng, rows, columns)
    spread = field.std()
    return (field - field.mean()) / spread * rng.uniform(0.02, 1.0) if spread > 0 else field


def _plain(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    coarse = rng.standard_normal((4, 5))
    return zoom(coarse, (rows / 4, columns / 5), order=1)[:rows, :columns]


def _cloud(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Noise whose amplitude falls with frequency, steeper one way than the other: sky, water, cloth, bark."""
    stretch = np.exp(rng.normal(0.0, 0.7))
    frequency = np.hypot(np.fft.fftfreq(rows)[:, None] * stretch, np.fft.rfftfreq(columns)[None, :] / stretch)
    amplitude = np.where(frequency > 0, 1.0, 0.0) / np.maximum(frequency, 1.0 / rows) ** rng.uniform(0.5, 2.0)
    return np.fft.irfft2(np.fft.rfft2(rng.standard_normal((rows, columns))) * amplitude, s=(rows, columns))


def _grain(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Sand, asphalt, lawn from afar: grain of one size, on patches."""
    grain = gaussian_filter(rng.standard_normal((rows, columns)), rng.uniform(0.5, 4.0, 2))
    return grain / grain.std() * np.clip(1.0 + rng.uniform(0.0, 0.8) * _plain(rng, rows, columns), 0.0, 3.0)


def _stripes(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Planks, waves, hair, blinds: bent stripes, sharp or soft."""
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float32)
    angle, length = rng.uniform(0, np.pi), np.exp(rng.uniform(np.log(4.0), np.log(80.0)))
    bent = rng.uniform(0.0, 30.0) * _plain(rng, rows, columns)
    wave = np.sin(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle) + bent) / length)
    return np.tanh(rng.uniform(0.5, 6.0) * wave) + rng.uniform(0.0, 0.6) * _normal(_cloud(rng, rows, columns))


def _stones(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Stones, leaves, crowds: blobs of one size, dark between them."""
    field = gaussian_filter(rng.standard_normal((rows, columns)), np.exp(rng.uniform(np.log(1.5), np.log(14.0))))
    field = _normal(field)
    return np.minimum(np.abs(field) * rng.uniform(1.0, 4.0), 1.0) + 0.3 * field


def _strokes(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Grass, fur, branches: short strokes of one way, bright on dark."""
    long, thin = rng.uniform(4.0, 20.0), rng.uniform(0.4, 1.5)
    sigma = (long, thin) if rng.random() < 0.5 else (thin, long)
    field = _normal(gaussian_filter(rng.standard_normal((rows, columns)), sigma))
    return np.abs(field) ** rng.uniform(0.6, 2.0)


def _normal(field: np.ndarray) -> np.ndarray:
    return field / max(float(field.std()), 1e-6)


_STUFFS: Final = (_plain, _cloud, _grain, _stripes, _stones, _strokes)


def _camera(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Expose, develop and store, uint8."""
    if rng.random() < 0.3:
        picture = gaussian_filter(picture, rng.uniform(0.4, 2.0))
    level, contrast = rng.normal(0.0, 0.8), rng.uniform(0.5, 1.6)
    grey = 1.0 / (1.0 + np.exp(-(contrast * (picture - picture.mean()) / max(float(picture.std()), 0.15) + level)))
    grey = grey ** np.exp(rng.normal(0.0, 0.3))
    low, high = rng.uniform(0.0, 0.25), rng.uniform(0.5, 1.0)  # haze, and a screen's own range
    grey = low + (high - low) * grey + rng.uniform(0.0, 0.02) * rng.standard_normal(picture.shape)
    return np.rint(255.0 * np.clip(grey, 0.0, 1.0)).astype(np.uint8)
