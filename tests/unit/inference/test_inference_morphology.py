"""Masks are eroded, dilated, opened and closed as `scipy.ndimage` does it, borders included."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from inference.morphology import closed, dilated, eroded, opened


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (2, 2), (3, 40), (64, 49), (256, 192)])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("times", [1, 2, 5])
def test_as_scipy(shape: tuple[int, int], share: float, times: int) -> None:
    mask = np.random.default_rng(0).random(shape) < share
    smooth = ndimage.uniform_filter(mask.astype(float), 5) > 0.5
    for one in (mask, smooth):
        before = one.copy()
        np.testing.assert_array_equal(eroded(one, times), ndimage.binary_erosion(one, iterations=times))
        outside = ndimage.binary_erosion(one, iterations=times, border_value=1)
        np.testing.assert_array_equal(eroded(one, times, beyond=True), outside)
        np.testing.assert_array_equal(dilated(one, times), ndimage.binary_dilation(one, iterations=times))
        np.testing.assert_array_equal(opened(one, times), ndimage.binary_opening(one, iterations=times))
        np.testing.assert_array_equal(closed(one, times), ndimage.binary_closing(one, iterations=times))
        np.testing.assert_array_equal(one, before)
