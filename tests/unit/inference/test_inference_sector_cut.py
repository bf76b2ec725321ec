"""Pictures cut out of their sector, as published sets and some exports hold them: no screen around them."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from inference.contract import VIEWS
from inference.sector import find_sector
from tests.support.ultrasound import phantom


def tissue_alone(view: str, seed: int) -> NDArray[np.uint8]:
    """Cut the largest centred square out of a phantom's sector."""
    frame = phantom(view, seed=seed, scanner=1, fat=4.0)
    row, column = (int(part.mean()) for part in np.nonzero(frame.sector))
    for half in range(min(row, column, 200), 10, -4):
        box = slice(row - half, row + half), slice(column - half, column + half)
        if frame.sector[box].shape == (2 * half, 2 * half) and frame.sector[box].all():
            return frame.pixels[box]
    raise AssertionError("the sector holds no square")


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("seed", [0, 1])
def test_without_a_screen_all_is_tissue(view: str, seed: int) -> None:
    """But for vessels at the border, black as a screen."""
    assert find_sector(tissue_alone(view, seed)).mean() > 0.85


@pytest.mark.parametrize("level", [12.0, 25.0, 60.0])
def test_dim_speckle_of_nearly_one_grey_makes_no_screen(level: float) -> None:
    rng = np.random.default_rng(0)
    speckle = gaussian_filter(rng.standard_normal((434, 636)), 1.5)
    fading = np.linspace(1.3, 0.7, 434)[:, None]
    pixels = np.clip(level * fading + 3.0 * speckle / speckle.std(), 0, 255).astype(np.uint8)
    assert find_sector(pixels).mean() > 0.95


@pytest.mark.parametrize("size", [(636, 434), (300, 225), (160, 160)])
def test_at_any_size(size: tuple[int, int]) -> None:
    cut = Image.fromarray(tissue_alone(VIEWS[1], 0)).resize(size, Image.Resampling.BILINEAR)
    assert find_sector(np.asarray(cut)).mean() > 0.9


def test_gain_makes_no_screen() -> None:
    """A raised floor, as scanners with much gain show it, is tissue too."""
    cut = tissue_alone(VIEWS[0], 0)
    for gain in (-10, 20, 60):
        assert find_sector(np.clip(cut.astype(int) + gain, 0, 255).astype(np.uint8)).mean() > 0.85


def test_a_field_with_black_corners_keeps_them_out() -> None:
    frame = phantom(VIEWS[0], seed=0, scanner=1, fat=4.0)
    rows, columns = (np.flatnonzero(frame.sector.any(axis=axis)) for axis in (1, 0))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    found, sector = find_sector(frame.pixels[box]), frame.sector[box]
    assert (found & ~sector).sum() < 0.05 * sector.sum()
    assert (found & sector).sum() > 0.8 * sector.sum()
