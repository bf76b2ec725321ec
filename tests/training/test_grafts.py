"""Frames of real texture that show no liver: changed inside the sector, untouched outside, the same again."""

import numpy as np
import pytest
from PIL import Image

from inference.contract import VIEWS
from inference.sector import find_sector
from training.frames.data import grafts_of
from training.frames.grafts import THROUGH_SECTOR, WAYS, grafted
from training.phantom import Scanner, draw_patient, render_view
from training.phantom.heart import WINDOWS, chambers


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(2)
    return render_view(draw_patient(rng), VIEWS[0], Scanner.random(rng)).pixels


@pytest.mark.parametrize("way", [way for way in WAYS if way not in THROUGH_SECTOR])
def test_only_the_sector_changes(frame, way):
    changed = grafted(frame, way, np.random.default_rng(3))
    sector = find_sector(frame)
    assert changed.dtype == np.uint8
    assert np.array_equal(changed[~sector], frame[~sector])
    assert np.abs(changed[sector].astype(int) - frame[sector]).mean() > 5
    assert np.array_equal(changed, grafted(frame, way, np.random.default_rng(3)))


@pytest.mark.parametrize("way", THROUGH_SECTOR)
def test_a_sector_probe_shows_a_slice_of_pie(frame, way):
    for seed in range(6):
        echo = grafted(frame, way, np.random.default_rng(seed))
        assert np.array_equal(echo, grafted(frame, way, np.random.default_rng(seed)))
        wide = [(row > 8).sum() for row in (echo[len(echo) // 10], echo[len(echo) // 2])]
        assert wide[0] < 0.6 * echo.shape[1]
        assert wide[0] < wide[1]


def test_hearts_have_dark_chambers(frame):
    sector = find_sector(frame)
    dark = [(grafted(frame, "heart", np.random.default_rng(seed))[sector] < 16).mean() for seed in range(6)]
    assert np.mean(dark) > (frame[sector] < 16).mean() + 0.1


@pytest.mark.parametrize("window", WINDOWS)
def test_every_window_shows_blood_inside_a_heart_inside_the_picture(window):
    down, across = np.mgrid[0:96, 0:128].astype(np.float32)
    for seed in range(4):
        parts = chambers(window, across / 128 - 0.5, down / 96, np.random.default_rng(seed))
        assert 0.01 < parts.blood.mean() < parts.heart.mean() < 0.9
        assert (parts.blood & parts.heart).sum() > 0.8 * parts.blood.sum()


def test_a_frame_without_a_sector_stays_as_it_is():
    black = np.zeros((64, 64), np.uint8)
    assert grafted(black, "turned", np.random.default_rng(0)) is black


def test_every_way_of_a_file_is_prepared(frame, tmp_path):
    path = tmp_path / "Normal" / "image" / "1.jpg"
    path.parent.mkdir(parents=True)
    Image.fromarray(frame).save(path)
    made = grafts_of(64, 5, path)
    assert len(made) == len(WAYS)
    assert all(one.shape == (3, 64, 64) for one in made)
