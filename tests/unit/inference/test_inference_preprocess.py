"""From pixels to tensors: the sector, what is left out, and the way back for heatmaps."""

from __future__ import annotations

import numpy as np
import pytest

from inference.contract import VIEWS
from inference.geometry import InputGeometry
from inference.preprocess import clamped, prepare_view, saliency_on_crop
from inference.quality import colour_fraction, frame_quality, representative_frames
from inference.sector import find_sector, luma
from tests.support.ultrasound import phantom

GEOMETRY = InputGeometry(channels=1, height=160, width=160, mean=(0.3,), std=(0.25,))
FRAMES = [(view, seed, scanner) for view in VIEWS for seed in (0, 1) for scanner in (0, 1, 2)]


@pytest.mark.parametrize(("view", "seed", "scanner"), FRAMES)
def test_the_sector_holds_the_echoes_and_nothing_else(view: str, seed: int, scanner: int) -> None:
    """Depth without any echo cannot be told from the screen; all else must lie inside, text and rulers outside."""
    frame = phantom(view, seed=seed, scanner=scanner, fat=25.0 if seed else 4.0)
    found = find_sector(frame.pixels)
    echoes = frame.sector & (frame.pixels > 12)
    assert (found & echoes).sum() > 0.97 * echoes.sum()
    assert (found & ~frame.sector).sum() < 0.01 * frame.sector.sum()


@pytest.mark.parametrize("view", VIEWS[:3])
def test_where_there_are_echoes_to_the_bottom_the_sector_is_whole(view: str) -> None:
    frame = phantom(view, seed=1, scanner=1, fat=4.0)
    found = find_sector(frame.pixels)
    assert (found & frame.sector).sum() > 0.95 * (found | frame.sector).sum()


def test_marks_outside_the_sector_do_not_reach_the_tensor() -> None:
    frame = phantom()
    marked = frame.pixels.copy()
    marked[-30:, :150][~frame.sector[-30:, :150]] = 255
    one, other = (prepare_view(pixels, geometry=GEOMETRY) for pixels in (frame.pixels, marked))
    assert one is not None
    assert other is not None
    assert np.abs(one.tensor - other.tensor).mean() < 0.02


def test_gain_and_window_cancel() -> None:
    """What brightness the operator liked must not decide."""
    pixels = phantom(VIEWS[0], scanner=1, fat=4.0).pixels
    darker = np.clip(pixels.astype(float) * 0.7, 0, 255).astype(np.uint8)
    one, other = (prepare_view(picture, geometry=GEOMETRY) for picture in (pixels, darker))
    assert one is not None
    assert other is not None
    assert np.corrcoef(one.tensor.ravel(), other.tensor.ravel())[0, 1] > 0.97


def test_grey_as_colour_gives_the_same_tensor() -> None:
    pixels = phantom().pixels
    one = prepare_view(pixels, geometry=GEOMETRY)
    other = prepare_view(np.stack([pixels] * 3, axis=-1), geometry=GEOMETRY)
    assert one is not None
    assert other is not None
    np.testing.assert_array_equal(one.tensor, other.tensor)


def test_the_tensor_holds_the_whole_sector_in_its_own_proportions() -> None:
    view = prepare_view(phantom().pixels, geometry=GEOMETRY)
    assert view is not None
    assert view.tensor.shape == (1, 160, 160)
    assert view.tensor.dtype == np.float32
    rows, columns = view.sector.shape
    x0, y0, x1, y1 = view.content
    assert (x1 - x0) / (y1 - y0) == pytest.approx(columns / rows, rel=0.02)
    assert max(x1 - x0, y1 - y0) == 160
    assert y0 == 0
    padding = np.ones((160, 160), bool)
    padding[y0:y1, x0:x1] = False
    np.testing.assert_allclose(view.tensor[0][padding], (0.0 - 0.3) / 0.25, rtol=1e-6)


def test_the_crop_is_in_the_picture_not_in_the_region() -> None:
    frame = phantom()
    screen = np.zeros((600, 1000), np.uint8)
    screen[60:540, 200:840] = frame.pixels
    region = (200, 60, 840, 540)
    within = prepare_view(screen, region, geometry=GEOMETRY)
    alone = prepare_view(frame.pixels, geometry=GEOMETRY)
    assert within is not None
    assert alone is not None
    moved = tuple(value + shift for value, shift in zip(alone.crop, (200, 60, 200, 60), strict=True))
    assert within.crop == moved
    np.testing.assert_array_equal(within.tensor, alone.tensor)


@pytest.mark.parametrize("region", [(700, 0, 800, 100), (0, 0, 0, 0), (100, 100, 50, 50)])
def test_a_region_beside_the_picture_gives_nothing(region: tuple[int, int, int, int]) -> None:
    assert prepare_view(phantom().pixels, region, geometry=GEOMETRY) is None


def test_clamping() -> None:
    assert clamped((-5, -5, 900, 900), (480, 640)) == (0, 0, 640, 480)
    assert clamped(None, (480, 640)) == (0, 0, 640, 480)


@pytest.mark.parametrize("value", [0, 128, 255])
def test_a_plain_picture_has_no_sector(value: int) -> None:
    assert not find_sector(np.full((480, 640), value, np.uint8)).any()


@pytest.mark.parametrize("shape", [(1, 1), (3, 500), (500, 3), (17, 16)])
def test_tiny_pictures_do_not_fail(shape: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    assert find_sector(picture).shape == shape


def test_a_heatmap_comes_back_to_where_it_was() -> None:
    """A spot at a place of the tensor's grid lies, on the crop, at the same place of the tissue."""
    view = prepare_view(phantom().pixels, geometry=GEOMETRY)
    assert view is not None
    rows, columns = view.sector.shape
    x0, y0, x1, y1 = view.content
    grid = np.zeros((10, 10), np.float32)
    row, column = 5, 5
    grid[row, column] = 1.0
    carried = saliency_on_crop(grid, view, GEOMETRY)
    assert carried.shape == view.sector.shape
    found = np.unravel_index(int(carried.argmax()), carried.shape)
    expected_row = ((row + 0.5) * 16 - y0) / (y1 - y0) * rows
    expected_column = ((column + 0.5) * 16 - x0) / (x1 - x0) * columns
    cell = 16 / view.scale
    assert abs(found[0] - expected_row) < cell
    assert abs(found[1] - expected_column) < cell
    assert not carried[~view.sector].any()


def test_quality_falls_with_what_spoils_a_frame() -> None:
    frame = phantom()
    good = frame_quality(frame.pixels, frame.sector)
    shadowed = frame.pixels.copy()
    shadowed[:, : frame.pixels.shape[1] // 2] = 0
    assert good > 0.4
    for worse in (shadowed, frame.pixels // 8, np.full_like(frame.pixels, 255)):
        assert frame_quality(worse, frame.sector) < 0.7 * good
    assert frame_quality(frame.pixels, np.zeros_like(frame.sector)) == 0.0


def test_representative_frames_are_good_and_differ() -> None:
    one, other = phantom(VIEWS[0]), phantom(VIEWS[2])
    frames = [one.pixels // 10, one.pixels, one.pixels, one.pixels, other.pixels]
    sectors = [one.sector] * 4 + [other.sector]
    chosen = representative_frames(frames, sectors, 2)
    assert 4 in chosen
    assert set(chosen) & {1, 2, 3}
    assert representative_frames(frames, sectors, 2) == chosen
    assert len(representative_frames(frames, sectors, 9)) <= 5


def test_colour_is_told_from_a_tint() -> None:
    frame = phantom()
    grey = np.stack([frame.pixels] * 3, axis=-1)
    tinted = (grey * np.array([1.0, 0.85, 0.6])).astype(np.uint8)
    flow = grey.copy()
    flow[220:260, 280:360] = (20, 60, 230)
    assert colour_fraction(frame.pixels, frame.sector) == 0.0
    assert colour_fraction(grey, frame.sector) == 0.0
    assert colour_fraction(tinted, frame.sector) < 0.005
    share = 40 * 80 / frame.sector.sum()
    assert colour_fraction(flow, frame.sector) == pytest.approx(share, rel=0.1)


def test_one_flow_colour_is_no_tint_even_where_it_is_the_commonest_of_its_brightness() -> None:
    frame = phantom()
    flow = np.stack([frame.pixels // 4] * 3, axis=-1)  # next to no tissue is as bright as the flow
    flow[220:260, 280:360] = (20, 60, 230)
    assert colour_fraction(flow, frame.sector) == pytest.approx(40 * 80 / frame.sector.sum(), rel=0.1)


def test_luma_weighs_as_the_standard_says() -> None:
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]], np.uint8)
    np.testing.assert_array_equal(luma(colours), [[76, 150, 29, 255]])
