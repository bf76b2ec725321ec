"""Hearts as echocardiography shows them: the organ that a liver gate meets most often beside livers.

`chambers` says where blood, muscle and bright lines lie in one of the usual windows, in coordinates of the picture, so
that the same heart can be painted in drawn speckle or carved into a real frame's texture.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from scipy.ndimage import gaussian_filter, zoom

from training.phantom.overlay import draw_overlay
from training.phantom.scanner import Scanner
from training.phantom.speckle import echo_amplitude, smooth_field
from training.phantom.transducer import LINES, SAMPLES, conversion_of, grid_of

WINDOWS: Final = ("apical", "two-chamber", "short axis", "long axis", "subcostal")


@dataclass(frozen=True, kw_only=True)
class Chambers:
    """Where the parts of a heart lie, bool arrays of one shape."""

    heart: np.ndarray
    blood: np.ndarray
    bright: np.ndarray
    """Leaflets, rings and the pericardium."""


def chambers(window: str, across: np.ndarray, down: np.ndarray, rng: np.random.Generator) -> Chambers:
    """Draw a heart in one of `WINDOWS`.

    Parameters
    ----------
    across, down
        Of one shape: from -0.5 to 0.5 from side to side, and from 0 at the skin to 1 at the lowest point.
    """
    warp = rng.uniform(0.0, 0.03)
    across = across + warp * slow_noise(across.shape, rng)
    down = down + warp * slow_noise(across.shape, rng)
    tilt = rng.normal(0.0, 0.25)
    if window == "short axis":
        return _short_axis(across, down, rng)
    if window == "long axis":
        return _long_axis(across, down, rng)
    if window == "subcostal":
        tilt += rng.choice((-1.0, 1.0)) * rng.uniform(0.7, 1.2)
    return _apical(across, down, tilt, window == "two-chamber", rng)


def slow_noise(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Return noise that changes slowly, [rows, columns]: drawn at 6 × 6 points, with straight lines between them."""
    coarse = rng.standard_normal((6, 6))
    return zoom(coarse, (shape[0] / 6, shape[1] / 6), order=1)[: shape[0], : shape[1]]


def _apical(across: np.ndarray, down: np.ndarray, tilt: float, half: bool, rng: np.random.Generator) -> Chambers:
    """Show the long way through a heart: an egg with its point up, parted by a septum and by the valves' plane."""
    x, y = across - rng.normal(0.0, 0.07), down - rng.uniform(0.45, 0.62)
    wide = rng.uniform(0.13, 0.22) if half else rng.uniform(0.2, 0.38)
    u = (np.cos(tilt) * x + np.sin(tilt) * y) / wide
    v = (np.cos(tilt) * y - np.sin(tilt) * x) / rng.uniform(0.28, 0.46)
    rim = np.hypot(u * (1.0 + rng.uniform(0.0, 0.4) * np.clip(-v, 0.0, 1.0)), v)
    septum = np.abs(u - rng.uniform(-0.2, 0.2) - rng.uniform(-0.3, 0.3) * v**2) < rng.uniform(0.06, 0.16)
    plane = rng.uniform(0.0, 0.4) + rng.uniform(-0.3, 0.3) * u
    opened = rng.uniform(0.0, 0.6) * np.abs(np.sin(3.0 * u + rng.uniform(0.0, 3.0)))  # leaflets hang into the chambers
    ring = np.abs(v - plane + opened) < rng.uniform(0.015, 0.05)
    blood = (rim < rng.uniform(0.68, 0.86)) & ~ring
    blood = blood if half else blood & ~septum
    return Chambers(heart=rim < 1.0, blood=blood, bright=(ring & (rim < 0.85)) | _rim(rim, rng))


def _rim(distance: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the pericardium where it is seen: none of it, or a line of any breadth at distance 1."""
    return np.abs(distance - 1.0) < max(0.0, rng.uniform(-0.02, 0.03))


def _short_axis(across: np.ndarray, down: np.ndarray, rng: np.random.Generator) -> Chambers:
    """Show a slice across the ventricles: a thick ring, a crescent beside it, two muscles in the pool."""
    x, y = across - rng.normal(0.04, 0.06), down - rng.uniform(0.4, 0.58)
    size, squeeze = rng.uniform(0.14, 0.26), rng.uniform(0.85, 1.2)
    left = np.hypot(x, squeeze * y) / size
    pool = left < rng.uniform(0.45, 0.75)
    for angle in rng.uniform(0.3, 1.0) + np.array((0.0, rng.uniform(1.4, 2.2))):
        muscle = np.hypot(x - 0.5 * size * np.cos(angle), y - 0.5 * size * np.sin(angle)) < rng.uniform(0.1, 0.2) * size
        pool &= ~muscle
    side = rng.choice((-1.0, -1.0, 1.0))
    shift = rng.uniform(0.5, 0.8) * size
    right = np.hypot(x - side * shift, squeeze * (y + 0.35 * shift)) / (rng.uniform(1.0, 1.25) * size)
    crescent = (right < 0.9) & (left > 1.0)
    heart = (left < 1.0) | (right < 1.0)
    return Chambers(heart=heart, blood=pool | crescent, bright=_rim(left, rng) & (y > 0))


def _long_axis(across: np.ndarray, down: np.ndarray, rng: np.random.Generator) -> Chambers:
    """Show the long way from the breastbone: strip of right ventricle, septum, left ventricle, aorta over an atrium."""
    slant = rng.uniform(-0.35, 0.35)
    y = down - slant * across
    top = rng.uniform(0.14, 0.24)
    strip = (y > top) & (y < top + rng.uniform(0.06, 0.13))
    below = top + rng.uniform(0.16, 0.24)
    deep = rng.uniform(0.15, 0.26)
    ventricle = np.hypot(
        (across + rng.uniform(0.08, 0.2)) / rng.uniform(0.2, 0.32), (y - below - deep / 2) / (deep / 2)
    )
    root = (across > rng.uniform(0.02, 0.12)) & (np.abs(y - below - 0.25 * deep) < rng.uniform(0.05, 0.09))
    atrium = np.hypot((across - rng.uniform(0.16, 0.28)) / rng.uniform(0.11, 0.19), (y - below - deep) / (0.55 * deep))
    floor = below + deep + rng.uniform(0.06, 0.14)
    leaflet = np.abs(y - below - 0.6 * deep - rng.uniform(-1.2, 1.2) * across) < rng.uniform(0.006, 0.016)
    leaflet &= np.abs(across) < 0.12
    walls = np.abs(np.abs(y - below - 0.25 * deep) - 0.08) < 0.01
    bright = leaflet | (np.abs(y - floor) < rng.uniform(0.008, 0.025)) | (walls & (across > 0.1))
    blood = (strip | (ventricle < 1.0) | root | (atrium < 1.0)) & ~leaflet
    return Chambers(heart=(y > top - 0.05) & (y < floor), blood=blood, bright=bright)


def render_heart(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Paint a heart in any of `WINDOWS` through a sector probe, uint8 [rows, columns], in drawn speckle."""
    scanner = replace(
        Scanner.phased(rng),
        dynamic_range_db=float(rng.uniform(38.0, 66.0)),
        smoothing=float(rng.uniform(0.4, 2.6)),
        s_curve=float(rng.uniform(0.0, 0.9)),
    )
    parts = chambers(WINDOWS[rng.integers(len(WINDOWS))], *places(scanner), rng)
    return painted(parts, scanner, rng, rows, columns)


def places(scanner: Scanner) -> tuple[np.ndarray, np.ndarray]:
    """Return `across` and `down` of `chambers` for a scanner's lines, each float32 [SAMPLES, LINES]."""
    grid = grid_of(scanner)
    half = np.deg2rad(scanner.field_of_view_deg) / 2
    # Lines bend outwards: the sector's own breadth at each depth, in units of the picture's.
    across = grid.x / np.float32(2.0 * (scanner.radius_cm + scanner.depth_cm) * np.sin(half))
    return across, grid.z / np.float32(scanner.depth_cm)


def painted(
    parts: Chambers,
    scanner: Scanner,
    rng: np.random.Generator,
    rows: int,
    columns: int,
    lost: np.ndarray | None = None,
) -> np.ndarray:
    """Paint a heart in drawn speckle, uint8 [rows, columns]; `lost` is what coupling takes, dB [SAMPLES, LINES]."""
    grid = grid_of(scanner)
    uneven = rng.uniform(1.0, 4.0) * smooth_field(rng, (10, 8))
    muscle = rng.uniform(-14.0, -2.0)
    scatter = (rng.uniform(-28.0, -8.0) + uneven).astype(np.float32)  # lung and its haze, or fat
    scatter[parts.heart] = (muscle + uneven)[parts.heart]
    blood = rng.uniform(-36.0, -20.0)
    scatter[parts.blood] = blood
    haze = muscle - rng.uniform(6.0, 30.0) - rng.uniform(0.0, 2.0) * grid.range_cm  # clutter of the near field
    np.maximum(scatter, haze + uneven, out=scatter, where=parts.blood)
    specular = rng.uniform(0.1, 2.0) * parts.bright.astype(np.float32)
    specular *= np.clip(0.5 + smooth_field(rng, (5, 4)), 0.0, 1.5)  # seen where it is met squarely
    scatter[grid.range_cm * np.ones_like(scatter) < rng.uniform(0.6, 2.5)] = rng.uniform(-8.0, 4.0)
    if lost is not None:
        scatter -= lost
        specular *= 10.0 ** (-lost / 20.0)
    return _shown(scatter, specular, scanner, rng, rows, columns)


def _shown(
    scatter: np.ndarray, specular: np.ndarray, scanner: Scanner, rng: np.random.Generator, rows: int, columns: int
) -> np.ndarray:
    grid, conversion = grid_of(scanner), conversion_of(scanner, rows, columns)
    echo = echo_amplitude(scatter, specular, scanner, grid, rng.uniform(0.8, 1.8), rng)
    power = gaussian_filter(np.abs(echo) ** 2, (0.8 * scanner.smoothing, 1.3 * scanner.smoothing), truncate=2.0)
    noise = 10.0 ** (rng.uniform(-4.5, -2.5)) * rng.standard_exponential((SAMPLES, LINES))
    lost = rng.uniform(0.0, 1.0) * grid.range_cm + rng.uniform(0.0, 5.0) * np.abs(smooth_field(rng, (2, 7)))
    level = 10.0 * np.log10(power + noise + 1e-6) + scanner.gain_db - lost
    grey = np.clip(rng.uniform(0.4, 0.75) + level / scanner.dynamic_range_db, 0.0, 1.0)
    curve = grey * grey * (3.0 - 2.0 * grey)
    grey = ((1.0 - scanner.s_curve) * grey + scanner.s_curve * curve) ** scanner.gamma
    pixels = np.where(conversion.sector, np.rint(255.0 * conversion.convert(grey)), scanner.background).astype(np.uint8)
    draw_overlay(pixels, scanner, conversion, rng)
    if rng.random() < 0.5:
        _electrocardiogram(pixels, rng)
    return pixels


def _electrocardiogram(pixels: np.ndarray, rng: np.random.Generator) -> None:
    """Draw the trace that runs along the lower edge of most echocardiograms."""
    rows, columns = pixels.shape
    beat = np.arange(columns) / columns * rng.uniform(1.5, 5.0) % 1.0
    wave = np.exp(-(((beat - 0.5) / 0.012) ** 2)) - 0.25 * np.exp(-(((beat - 0.53) / 0.012) ** 2))
    wave += 0.2 * np.exp(-(((beat - 0.72) / 0.05) ** 2)) + 0.1 * np.exp(-(((beat - 0.36) / 0.03) ** 2))
    height, base = rng.uniform(0.03, 0.08) * rows, rng.uniform(0.94, 0.98) * rows
    at = np.clip(np.rint(base - height * wave), 0, rows - 1).astype(int)
    lowest = np.maximum(at, np.roll(at, 1))
    for column in range(1, columns):
        pixels[min(at[column], at[column - 1]) : lowest[column] + 1, column] = 190
