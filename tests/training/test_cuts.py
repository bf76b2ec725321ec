"""Frames cut out of their sector: mostly tissue, the same again, and taken as a whole by serving's own sector."""

import numpy as np
import pytest
from PIL import Image

from inference.contract import VIEWS
from inference.sector import find_sector
from training.frames.cuts import cut_out, read_grey, seeded
from training.phantom import Scanner, draw_patient, render_view


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(2)
    return render_view(draw_patient(rng), VIEWS[0], Scanner.random(rng)).pixels


def test_a_cut_is_a_part_of_the_frame_and_mostly_tissue(frame):
    for seed in range(8):
        marked = np.where(find_sector(frame), frame, 0)
        cut = cut_out(frame, np.random.default_rng(seed))
        assert cut.dtype == np.uint8
        assert min(cut.shape) > 32
        assert cut.size < frame.size
        assert (cut_out(marked, np.random.default_rng(seed)) > 0).mean() > 0.3
        assert np.array_equal(cut, cut_out(frame, np.random.default_rng(seed)))


def test_without_a_sector_it_stays_as_it_is():
    black = np.zeros((64, 64), np.uint8)
    assert cut_out(black, np.random.default_rng(0)) is black


def test_large_pictures_are_made_smaller_and_seeds_are_their_own(tmp_path):
    path = tmp_path / "Normal" / "image" / "1.png"
    path.parent.mkdir(parents=True)
    Image.fromarray(np.zeros((200, 300), np.uint8)).save(path)
    assert read_grey(path, 100).shape == (100, 150)
    assert read_grey(path, 400).shape == (200, 300)
    assert seeded(1, path).random() == seeded(1, path).random()
    assert seeded(1, path).random() != seeded(2, path).random()
