"""Hearts as they are met: somewhere else each time, and never without blood."""

import numpy as np

from inference.sector import find_sector
from training.phantom import render_negative
from training.phantom.echo import met


def test_hearts_as_they_are_met_have_blood_and_lie_otherwise_each_time():
    down, across = np.mgrid[0:96, 0:128].astype(np.float32)
    shown = [met(across / 128 - 0.5, down / 96, np.random.default_rng(seed)) for seed in range(24)]
    assert all(0.05 < parts.blood.mean() < 0.85 for parts in shown)
    upper = [parts.blood[:48].sum() / parts.blood.sum() for parts in shown]
    assert min(upper) < 0.3
    assert max(upper) > 0.7
    assert np.ptp([parts.heart.mean() for parts in shown]) > 0.4


def test_most_can_be_seen_and_lie_in_a_sector():
    frames = [render_negative("echo", np.random.default_rng(seed)) for seed in range(12)]
    sectors = [find_sector(pixels) for pixels in frames]
    seen = [pixels[sector] for pixels, sector in zip(frames, sectors, strict=True) if sector.any()]
    assert len(seen) > 8
    assert np.median([pixels.std() for pixels in seen]) > 20
