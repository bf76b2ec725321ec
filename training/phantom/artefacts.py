"""What lies between transducer and picture: ribs, poor contact, reverberation."""

from __future__ import annotations

import numpy as np

from training.phantom.transducer import LINES, SAMPLES, PolarGrid


def rib_loss_db(view: str, rng: np.random.Generator) -> np.ndarray:
    """Return the loss per line in dB, float32 [1, LINES], under ribs and gas."""
    line = np.linspace(-1.0, 1.0, LINES, dtype=np.float32)
    loss = np.zeros(LINES, dtype=np.float32)
    if view == "intercostal":
        width = rng.uniform(0.72, 1.1)
        loss += 22.0 / (1.0 + np.exp((width - np.abs(line - rng.normal(0.0, 0.1))) * 14.0))
    for _ in range(rng.poisson(0.5)):
        centre, half = rng.uniform(-1, 1), rng.uniform(0.04, 0.16)
        loss += rng.uniform(4.0, 16.0) * np.exp(-(((line - centre) / half) ** 2))
    return loss[None, :]


def contact_loss_db(contact: float, side: float) -> np.ndarray:
    """Return the loss per line in dB, float32 [1, LINES], where a side (-1 or 1) of the array is off the skin."""
    if contact >= 1.0:
        return np.zeros((1, LINES), dtype=np.float32)
    line = side * np.linspace(-1.0, 1.0, LINES, dtype=np.float32)
    return (45.0 / (1.0 + np.exp((2.0 * contact - 1.0 - line) * 12.0))).astype(np.float32)[None, :]


def reverberation_db(grid: PolarGrid, rng: np.random.Generator, thickness_cm: float) -> np.ndarray:
    """Return the level of near-field clutter in dB relative to a normal liver, float32 [SAMPLES, 1]."""
    spacing = max(0.3, thickness_cm * rng.uniform(0.4, 0.7))
    ripple = 4.0 * np.cos(2 * np.pi * grid.range_cm / spacing)
    return (rng.uniform(-8.0, 2.0) - rng.uniform(5.0, 9.0) * grid.range_cm + ripple).astype(np.float32)


def shadow_ramp(loss: np.ndarray, grid: PolarGrid, start_cm: float) -> np.ndarray:
    """Spread a loss per line over depth: nothing at the skin, all of it below `start_cm`; [SAMPLES, LINES]."""
    ramp = np.clip(grid.range_cm / np.float32(max(start_cm, 0.1)), 0.0, 1.0)
    return (loss * ramp).reshape(SAMPLES, LINES)
