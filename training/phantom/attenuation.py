"""Loss on the way, and the depth gain that makes up for some of it."""

from __future__ import annotations

import numpy as np

from training.phantom.scanner import TGC_SLIDERS, Scanner
from training.phantom.transducer import PolarGrid


def round_trip_loss_db(attenuation: np.ndarray, grid: PolarGrid, frequency_mhz: float) -> np.ndarray:
    """Return the loss in dB there and back, float32 [SAMPLES, LINES], for an attenuation map in dB/cm/MHz."""
    return np.cumsum(attenuation, axis=0, dtype=np.float32) * np.float32(2.0 * frequency_mhz * grid.step_cm)


def depth_gain_db(scanner: Scanner, grid: PolarGrid) -> np.ndarray:
    """Return the scanner's own depth gain in dB, float32 [SAMPLES, 1]: built-in slope and the sliders."""
    places = np.linspace(0.0, scanner.depth_cm, TGC_SLIDERS)
    sliders = np.interp(grid.range_cm[:, 0], places, scanner.tgc_sliders_db)[:, None]
    built_in = 2.0 * scanner.frequency_mhz * scanner.tgc_reference * grid.range_cm
    built_in = scanner.tgc_limit_db * np.tanh(built_in / scanner.tgc_limit_db)
    return (built_in + sliders).astype(np.float32)
