"""Cines that only the counts use: real frames that breathe, hearts that beat."""

import itertools

import numpy as np
import pytest

from inference.contract import VIEWS
from inference.sector import find_sector
from training.frames.cines import moving
from training.phantom import Scanner, draw_patient, render_view
from training.phantom.echo import render_beating_heart


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(2)
    return render_view(draw_patient(rng), VIEWS[0], Scanner.random(rng)).pixels


def test_tissue_moves_and_what_lies_around_it_stays(frame):
    shown = moving(frame, np.random.default_rng(4), frames=8)
    outside = ~find_sector(frame)
    assert len(shown) == 8
    assert all(one.shape == frame.shape and one.dtype == np.uint8 for one in shown)
    assert all(np.array_equal(one[outside], frame[outside]) for one in shown)
    assert all((one != other).any() for one, other in itertools.pairwise(shown))
    assert np.array_equal(shown[3], moving(frame, np.random.default_rng(4), frames=8)[3])


def test_a_quarter_of_the_frames_loses_contact_in_one_run(frame):
    shown = moving(frame, np.random.default_rng(4), frames=8)
    dark = [index for index, one in enumerate(shown) if one.mean() < 0.9 * np.median([each.mean() for each in shown])]
    assert len(dark) == 2
    assert dark[1] == dark[0] + 1


def test_a_sector_probe_shows_one_field_all_the_time(frame):
    shown = moving(frame, np.random.default_rng(4), frames=4, phased=True)
    assert len({one.shape for one in shown}) == 1
    lit = [one > 0 for one in shown]
    assert (lit[0] & lit[1]).sum() > 0.8 * (lit[0] | lit[1]).sum()


@pytest.mark.parametrize("seed", range(4))
def test_a_heart_beats_in_one_field(seed):
    shown = render_beating_heart(np.random.default_rng(seed), frames=6)
    assert shown.shape == (6, 480, 640)
    assert np.array_equal(shown, render_beating_heart(np.random.default_rng(seed), frames=6))
    steps = [np.abs(one.astype(int) - other).mean() for one, other in itertools.pairwise(shown)]
    assert min(steps) > 0.0
    fields = [find_sector(one) for one in shown]
    assert (fields[0] & fields[3]).sum() > 0.9 * (fields[0] | fields[3]).sum()
