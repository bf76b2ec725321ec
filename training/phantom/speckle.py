"""Scatterers through a point-spread function: fully developed speckle with the beam's width and the pulse's length."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from training.phantom.scanner import Scanner
from training.phantom.transducer import LINES, SAMPLES, PolarGrid


def echo_amplitude(
    scatter_db: np.ndarray,
    specular: np.ndarray,
    scanner: Scanner,
    grid: PolarGrid,
    blur: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return the complex echo, complex64 [SAMPLES, LINES], before attenuation.

    Parameters
    ----------
    scatter_db
        Backscatter in dB, [SAMPLES, LINES]: the scale of random scatterers.
    specular
        Amplitude of smooth interfaces, [SAMPLES, LINES]: added in phase, so they stay bright lines.
    blur
        Factor on the beam width (aberration).
    """
    amplitude = np.exp(scatter_db * np.float32(np.log(10.0) / 20.0))
    pulse = scanner.pulse_length_cm / grid.step_cm
    line_deg = scanner.field_of_view_deg / (LINES - 1)
    narrow = scanner.beam_width_deg / line_deg * blur * 0.33
    parts = []
    away = np.clip(np.abs(grid.range_cm - scanner.focus_cm) / 7.0, 0.0, 1.0)
    for share in (0.8, 0.6):
        noise = rng.standard_normal((SAMPLES, LINES), dtype=np.float32)
        part = gaussian_filter1d(noise * amplitude + np.float32(share) * specular, pulse, axis=0, truncate=2.5)
        sharp = gaussian_filter1d(part, narrow, axis=1, truncate=2.5)
        wide = gaussian_filter1d(sharp, 1.3 * narrow, axis=1, truncate=2.0)
        # Each blur is scaled back to unit speckle power so that focus does not read as echogenicity.
        parts.append(_unit_power(sharp, pulse, narrow) * (1 - away) + _unit_power(wide, pulse, 1.64 * narrow) * away)
    return (parts[0] + 1j * parts[1]).astype(np.complex64)


def _unit_power(field: np.ndarray, pulse: float, beam: float) -> np.ndarray:
    # Power of white noise after a Gaussian filter of width s is 1 / (2 s sqrt(pi)), for s not much below one sample.
    power = 1.0 / (max(2 * pulse * np.sqrt(np.pi), 1.0) * max(2 * beam * np.sqrt(np.pi), 1.0))
    return field * np.float32(1.0 / np.sqrt(power))


def smooth_field(rng: np.random.Generator, coarse: tuple[int, int]) -> np.ndarray:
    """Return a slow random field, float32 [SAMPLES, LINES], about unit variance, from a coarse grid of normals."""
    field = rng.standard_normal(coarse).astype(np.float32)
    # 1.4 makes up for the variance that linear interpolation takes away.
    return np.float32(1.4) * (_interpolation(SAMPLES, coarse[0]) @ field @ _interpolation(LINES, coarse[1]).T)


@lru_cache(maxsize=16)
def _interpolation(fine: int, coarse: int) -> np.ndarray:
    """Return the matrix [fine, coarse] of linear interpolation, end to end."""
    at = np.linspace(0, coarse - 1, fine)[:, None]
    return np.maximum(0.0, 1.0 - np.abs(at - np.arange(coarse)[None, :])).astype(np.float32)


def spots(rng: np.random.Generator, count: int, size: tuple[float, float]) -> np.ndarray:
    """Return `count` soft spots of peak 1, float32 [SAMPLES, LINES]: vessels and portal fields cut across."""
    field = np.zeros((SAMPLES, LINES), dtype=np.float32)
    field[rng.integers(0, SAMPLES, count), rng.integers(0, LINES, count)] = rng.uniform(0.5, 1.0, count)
    return gaussian_filter(field, size, truncate=2.5) * np.float32(2 * np.pi * size[0] * size[1])
