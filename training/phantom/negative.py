"""Frames that are not liver B-mode: what a liver gate has to refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from scipy.ndimage import gaussian_filter

from training.phantom.echo import render_echo
from training.phantom.heart import render_heart
from training.phantom.overlay import draw_overlay, draw_text
from training.phantom.picture import render_picture
from training.phantom.scanner import Scanner
from training.phantom.speckle import echo_amplitude, smooth_field
from training.phantom.transducer import LINES, SAMPLES, PolarGrid, conversion_of, grid_of

_Picture = Callable[[np.random.Generator, int, int], np.ndarray]


def render_negative(kind: str, rng: np.random.Generator, *, rows: int = 480, columns: int = 640) -> np.ndarray:
    """Render a frame, uint8 [rows, columns], that is not liver B-mode.

    Parameters
    ----------
    kind
        One of `KINDS`.

    Raises
    ------
    ValueError
        If the kind is unknown.
    """
    if kind not in KINDS:
        raise ValueError(f"Unknown kind {kind!r}; use one of {', '.join(KINDS)}.")
    return KINDS[kind](rng, rows, columns)


def _sector(rng: np.random.Generator, rows: int, columns: int, polar: np.ndarray, scanner: Scanner) -> np.ndarray:
    conversion = conversion_of(scanner, rows, columns)
    picture = conversion.convert(np.clip(polar, 0.0, 1.0))
    pixels = np.where(conversion.sector, np.rint(255.0 * picture), scanner.background).astype(np.uint8)
    draw_overlay(pixels, scanner, conversion, rng)
    return pixels


def _cardiac(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Paint dark chambers with thick bright walls and valves in a narrow sector."""
    scanner = Scanner.random(rng)
    grid = grid_of(scanner)
    scatter = np.full((SAMPLES, LINES), -30.0, dtype=np.float32)
    specular = np.zeros((SAMPLES, LINES), dtype=np.float32)
    wall = np.full((SAMPLES, LINES), 9.0, dtype=np.float32)
    for centre_x, centre_z in ((-1.7, 6.0), (1.7, 6.0), (-1.5, 10.5), (1.5, 10.5)):
        x0, z0 = centre_x + rng.normal(0, 0.4), centre_z + rng.normal(0, 0.5)
        distance = np.hypot((grid.x - x0) / rng.uniform(1.2, 1.9), (grid.z - z0) / rng.uniform(1.6, 2.8)) - 1.0
        wall = np.minimum(wall, distance)
    scatter[(wall > 0) & (wall < rng.uniform(0.3, 0.6))] = 0.0
    scatter[wall >= 0.6] = rng.uniform(-16.0, -6.0)
    specular[np.abs(wall) < 0.06] = 4.0
    echo = echo_amplitude(scatter, specular, scanner, grid, 1.2, rng)
    level = 20.0 * np.log10(np.abs(echo) + 1e-4) + scanner.gain_db
    return _sector(rng, rows, columns, 0.5 + level / scanner.dynamic_range_db, scanner)


def _organ(
    rng: np.random.Generator, rows: int, columns: int, paint: Callable[[np.ndarray, np.ndarray, PolarGrid], None]
) -> np.ndarray:
    """Paint an organ into soft tissue, attenuated on the way as tissue is; `paint` changes backscatter and walls."""
    scanner = Scanner.random(rng)
    grid = grid_of(scanner)
    scatter = (rng.uniform(-6.0, 8.0) + 3.0 * smooth_field(rng, (10, 8))).astype(np.float32)
    specular = np.zeros((SAMPLES, LINES), dtype=np.float32)
    layers = grid.range_cm * np.ones_like(scatter)
    for depth in np.cumsum(rng.uniform(0.4, 1.4, 3)):
        specular[np.abs(layers - depth) < 0.05] = rng.uniform(1.0, 4.0)
    paint(scatter, specular, grid)
    echo = echo_amplitude(scatter, specular, scanner, grid, 1.2, rng)
    slope = rng.uniform(-0.8, 0.8) * (grid.range_cm - 6.0)
    level = 20.0 * np.log10(np.abs(echo) + 1e-4) + scanner.gain_db - slope
    return _sector(rng, rows, columns, 0.45 + level / scanner.dynamic_range_db, scanner)


def _inside(grid: PolarGrid, centre: tuple[float, float], axes: tuple[float, float], tilt: float) -> np.ndarray:
    """Return the distance from an ellipse's rim in units of its size, negative inside, [SAMPLES, LINES]."""
    cosine, sine = np.cos(tilt), np.sin(tilt)
    x, z = grid.x - centre[0], grid.z - centre[1]
    return np.hypot((cosine * x + sine * z) / axes[0], (cosine * z - sine * x) / axes[1]) - 1.0


def _kidney(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Paint a kidney in the middle of its fat, no liver beside it: cortex, pyramids, a bright sinus."""

    def paint(scatter: np.ndarray, specular: np.ndarray, grid: PolarGrid) -> None:
        centre, tilt = (rng.normal(0, 0.7), rng.uniform(4.5, 7.5)), rng.uniform(-0.5, 0.5)
        axes = (rng.uniform(4.4, 5.8), rng.uniform(2.1, 2.8))
        rim = _inside(grid, centre, axes, tilt)
        scatter[rim < 0] = rng.uniform(-6.0, 0.0)
        for along in np.linspace(-0.6, 0.6, 5):
            for side in (-0.6, 0.6):
                across = side * axes[1] * np.sqrt(1.0 - along**2)
                spot = (
                    centre[0] + along * axes[0] * np.cos(tilt) - across * np.sin(tilt),
                    centre[1] + along * axes[0] * np.sin(tilt) + across * np.cos(tilt),
                )
                scatter[_inside(grid, spot, (0.45, 0.35), tilt) < 0] = rng.uniform(-14.0, -9.0)
        scatter[_inside(grid, centre, (0.6 * axes[0], 0.32 * axes[1]), tilt) < 0] = rng.uniform(8.0, 13.0)
        specular[np.abs(rim) < 0.03] = rng.uniform(2.0, 5.0)

    return _organ(rng, rows, columns, paint)


def _bladder(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Paint a full bladder: a large dark pool with a bright wall, and enhancement behind it."""

    def paint(scatter: np.ndarray, specular: np.ndarray, grid: PolarGrid) -> None:
        centre = (rng.normal(0, 0.6), rng.uniform(4.5, 7.0))
        axes = (rng.uniform(2.8, 5.0), rng.uniform(2.0, 3.4))
        rim = _inside(grid, centre, axes, rng.uniform(-0.3, 0.3))
        behind = np.maximum.accumulate(rim < 0, axis=0) & (rim > 0) & (grid.z > centre[1])
        scatter[behind] += 8.0
        scatter[rim < 0] = -38.0
        specular[np.abs(rim) < 0.05] = rng.uniform(3.0, 6.0)

    return _organ(rng, rows, columns, paint)


def _gut(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Paint gas in the gut: bright arcs near the skin and dirty shadow below them."""

    def paint(scatter: np.ndarray, specular: np.ndarray, grid: PolarGrid) -> None:
        for _ in range(int(rng.integers(2, 6))):
            centre = (rng.uniform(-5.0, 5.0), rng.uniform(2.0, 5.0))
            rim = _inside(grid, centre, (rng.uniform(1.2, 3.0), rng.uniform(0.6, 1.5)), rng.uniform(-0.4, 0.4))
            below = np.maximum.accumulate(rim < 0, axis=0)
            scatter[below] = rng.uniform(-24.0, -10.0)
            specular[(np.abs(rim) < 0.06) & (grid.z < centre[1])] = rng.uniform(8.0, 20.0)

    return _organ(rng, rows, columns, paint)


def _noise(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Paint receiver noise over the whole sector: the transducer is in the air with the gain up."""
    scanner = Scanner.random(rng)
    field = gaussian_filter(rng.standard_normal((SAMPLES, LINES)), rng.uniform(0.4, 2.5))
    ramp = np.linspace(rng.uniform(-0.3, 0.3), rng.uniform(0.0, 0.6), SAMPLES)[:, None]
    return _sector(rng, rows, columns, ramp + rng.uniform(0.05, 0.2) * field / field.std(), scanner)


def _static(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Paint noise edge to edge, of any grain, as a lost signal or a broken file gives it."""
    grain = float(rng.choice((0.0, 0.0, 0.0, 0.6, 1.2, 2.5, 6.0)))
    if rng.random() < 0.2:
        return rng.integers(0, 256, (rows, columns), dtype=np.uint8)
    field = rng.standard_normal((rows, columns))
    if rng.random() < 0.3:
        field = np.hypot(field, rng.standard_normal((rows, columns)))  # an envelope's
    field = gaussian_filter(field, grain) if grain else field
    level = rng.uniform(20, 200) + rng.uniform(5, 90) * (field - field.mean()) / field.std()
    return np.clip(np.rint(level), 0, 255).astype(np.uint8)


def _empty(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Paint air: reverberation bands under the transducer's face, then nothing."""
    scanner = Scanner.random(rng)
    depth = grid_of(scanner).range_cm
    bands = np.cos(2 * np.pi * depth / rng.uniform(0.3, 0.9)) ** 6 * np.exp(-depth / rng.uniform(0.3, 2.5))
    polar = np.broadcast_to(bands * rng.uniform(0.2, 1.0), (SAMPLES, LINES))
    return _sector(rng, rows, columns, polar + 0.03 * rng.standard_normal((SAMPLES, LINES)), scanner)


def _page(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Paint a worksheet: lines of text."""
    dark = rng.random() < 0.6
    pixels = np.full((rows, columns), 0 if dark else 235, dtype=np.uint8)
    letters = np.array(list("ABCDEFGHIKLMNOPRSTUVXYZ0123456789.-:/   "))
    scale = int(rng.integers(1, 4))
    for row in range(10, rows - 10 * scale, int(10 * scale * rng.uniform(1.2, 2.5))):
        text = "".join(rng.choice(letters, int(rng.integers(5, 45))))
        draw_text(pixels, text, row, int(rng.integers(4, columns // 3)), value=220 if dark else 20, scale=scale)
    return pixels


def _photograph(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Paint smooth gradients and soft shapes edge to edge, as in a photograph or a reconstruction."""
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float32)
    picture = rng.uniform(-1, 1) * x / columns + rng.uniform(-1, 1) * y / rows
    for _ in range(rng.integers(2, 9)):
        size = rng.uniform(0.05, 0.35) * rows
        blob = np.hypot(x - rng.uniform(0, columns), y - rng.uniform(0, rows)) / size
        picture += rng.uniform(-1, 1) * (np.exp(-(blob**2)) if rng.random() < 0.5 else (blob < 1))
    picture = (picture - picture.min()) / (np.ptp(picture) + 1e-6)
    return np.rint(picture * rng.uniform(120, 255)).astype(np.uint8)


def _scene(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Paint a photograph's statistics: things of all sizes in front of each other ("dead leaves", Lee et al. 2001).

    Sizes follow a power law, as in natural pictures; each thing has its own grey, shading and texture, and some
    pictures are out of focus, vignetted, or cut out by a shape as a reconstruction or an icon is.
    """
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float32)
    spectrum = _power_law(rng, rows, columns)
    picture = 0.5 + 0.2 * spectrum
    sizes = (rng.uniform(0.012, 0.05) * columns) * (1.0 - rng.random(int(rng.integers(20, 140)))) ** -0.6
    for size in sizes:
        angle, squeeze = rng.uniform(0, np.pi), rng.uniform(0.3, 1.0)
        across, down = x - rng.uniform(0, columns), y - rng.uniform(0, rows)
        u, v = across * np.cos(angle) + down * np.sin(angle), down * np.cos(angle) - across * np.sin(angle)
        power = rng.choice((1.0, 2.0, 8.0))  # rhombus, ellipse, box
        shape = np.abs(u / size) ** power + np.abs(v / (squeeze * size)) ** power < 1.0
        shade = rng.uniform(0, 1) + rng.uniform(-0.4, 0.4) * u / size + rng.uniform(0.0, 0.3) * spectrum
        picture = np.where(shape, shade, picture)
    picture = gaussian_filter(picture, rng.choice((0.0, 0.6, 1.5, 4.0)))
    if rng.random() < 0.3:
        picture *= 1.0 - rng.uniform(0.3, 0.9) * (np.hypot(x / columns - 0.5, y / rows - 0.5) * 1.4) ** 2
    if rng.random() < 0.3:
        inside = np.hypot((x / columns - 0.5) / rng.uniform(0.25, 0.5), (y / rows - 0.5) / rng.uniform(0.3, 0.5)) < 1.0
        picture = np.where(inside, picture, 0.0)
    return np.rint(255.0 * np.clip(picture, 0.0, 1.0)).astype(np.uint8)


def _power_law(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Return noise whose amplitude falls with frequency as in natural pictures, zero mean, unit spread."""
    frequency = np.hypot(np.fft.fftfreq(rows)[:, None], np.fft.rfftfreq(columns)[None, :])
    amplitude = np.where(frequency > 0, 1.0, 0.0) / np.maximum(frequency, 1.0 / rows) ** rng.uniform(0.8, 1.6)
    noise = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((rows, columns))) * amplitude, s=(rows, columns))
    return noise / noise.std()


def _linear(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Paint a superficial part in the rectangular field of a linear array."""
    scatter = rng.normal(0, 3, (12, 1)).repeat(SAMPLES // 12 + 1, axis=0)[:SAMPLES] + np.zeros((1, LINES))
    scatter = gaussian_filter(scatter, (4, 0)) + 2.0 * np.sin(np.arange(SAMPLES)[:, None] / rng.uniform(2, 6))
    field = gaussian_filter(rng.standard_normal((2, SAMPLES, LINES)), (0, rng.uniform(0.7, 1.5), rng.uniform(1.0, 3.0)))
    level = 20 * np.log10(np.hypot(*field) + 1e-4) + scatter - np.linspace(0, rng.uniform(0, 35), SAMPLES)[:, None]
    grey = np.clip(0.6 + (level + 10) / rng.uniform(45, 70), 0, 1) * 255
    pixels = np.zeros((rows, columns), dtype=np.uint8)
    top, left = int(0.08 * rows), int(rng.uniform(0.05, 0.2) * columns)
    height, width = int(0.85 * rows), int(rng.uniform(0.55, 0.75) * columns)
    at = (np.linspace(0, SAMPLES - 1, height).astype(int)[:, None], np.linspace(0, LINES - 1, width).astype(int)[None])
    pixels[top : top + height, left : left + width] = grey[at].astype(np.uint8)
    draw_text(pixels, "PHANTOM L12", 4, 6)
    return pixels


NEGATIVES: Final[dict[str, _Picture]] = {
    "cardiac": _cardiac,
    "heart": render_heart,
    "noise": _noise,
    "static": _static,
    "empty": _empty,
    "page": _page,
    "photograph": _photograph,
    "scene": _scene,
    "linear": _linear,
    "kidney": _kidney,
    "bladder": _bladder,
    "gut": _gut,
}
"""Painters of the kinds of frame that are not liver B-mode, as members learn them."""
KINDS: Final = NEGATIVES | {"echo": render_echo, "picture": render_picture}
"""The same and those that are counted only (`training.evaluation.refusals`): whatever is added to `NEGATIVES` changes
what members and their gate are fitted to."""
