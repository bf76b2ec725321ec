"""What an eye reads off a frame: more fat moves it as on patients, and a line through it puts phantoms in order."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from training.frames.cues import CUES, cues_of, fit_cue_line, phantom_cues
from training.frames.cuts import LEAST_SIDE, stored, trimmed
from training.phantom import Scanner, draw_patient, render_view


@pytest.fixture(scope="module")
def cues():
    return phantom_cues(range(120))


def test_more_fat_is_brighter_and_falls_off_faster(cues):
    found, fat = cues
    assert spearmanr(found[:, CUES.index("liver")], fat).statistic > 0.4
    assert spearmanr(found[:, CUES.index("contrast")], fat).statistic > 0.3
    assert spearmanr(found[:, CUES.index("slope")], fat).statistic < -0.1


def test_the_line_puts_other_phantoms_in_order(cues):
    line = fit_cue_line(*cues)
    other, fat = phantom_cues(range(200, 280))
    assert spearmanr(line(other), fat).statistic > 0.6


def test_a_frame_without_liver_has_no_cues():
    pixels = np.full((64, 64), 90, np.uint8)
    assert cues_of(pixels, np.zeros((64, 64), bool), np.ones((64, 64), bool)) is None


def test_cues_are_what_they_say():
    pixels = np.tile(np.linspace(200, 100, 101).astype(np.uint8)[:, None], (1, 50))
    liver = np.zeros(pixels.shape, bool)
    liver[30:90, 10:40] = True
    mean, slope, contrast, spread = cues_of(pixels, liver, np.ones(pixels.shape, bool))
    inside = pixels[liver].astype(float)
    assert mean == pytest.approx(inside.mean(), rel=1e-4)
    assert slope == pytest.approx(-101, abs=2)  # grey values over the whole depth
    assert spread == pytest.approx(inside.std() / inside.mean(), rel=1e-3)
    assert abs(contrast) < 6


def test_trimmed_frames_are_large_enough_and_the_same_again():
    rng = np.random.default_rng(4)
    frame = render_view(draw_patient(rng), "liver-kidney", Scanner.random(rng))
    for seed in range(12):
        part, region = stored(frame.pixels, frame.region, np.random.default_rng(seed))
        assert min(part.shape) >= LEAST_SIDE
        assert region == (0, 0, part.shape[1], part.shape[0]) or part is frame.pixels
        again, _ = stored(frame.pixels, frame.region, np.random.default_rng(seed))
        assert np.array_equal(part, again)
        field = trimmed(frame.pixels, np.random.default_rng(seed))
        assert field.size < frame.pixels.size
