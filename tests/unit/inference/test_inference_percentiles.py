"""Counted percentiles are NumPy's, to the last bit: a model was trained on those."""

from __future__ import annotations

import numpy as np
import pytest

from inference.percentiles import percentiles


@pytest.mark.parametrize("seed", range(200))
def test_they_are_numpys(seed: int) -> None:
    random = np.random.default_rng(seed)
    values = random.integers(0, random.integers(1, 257), random.integers(1, 5000)).astype(np.uint8)
    shares = (0.0, 2.0, 10.0, 50.0, 95.0, 99.5, 100.0)
    assert percentiles(values, shares) == list(np.percentile(values, shares))
