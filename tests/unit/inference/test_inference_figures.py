"""Figures of a view are those of the picture, whatever the normalisation took off."""

from __future__ import annotations

import numpy as np
import pytest

from inference.figures import study_figures, view_figures
from inference.geometry import InputGeometry
from inference.preprocess import prepare_view
from inference.reference import Histogram
from tests.support.ultrasound import phantom

GEOMETRY = InputGeometry(channels=3, height=160, width=160, mean=(0.5, 0.25, 0.0), std=(0.5, 2.0, 1.0))


def figures(pixels: np.ndarray) -> dict[str, float]:
    view = prepare_view(pixels, geometry=GEOMETRY)
    assert view is not None
    return view_figures(view.tensor, GEOMETRY)


def test_brightness_is_in_grey_values_and_follows_gain() -> None:
    frame = phantom(seed=1).pixels
    plain, darker = figures(frame), figures((frame * 0.6).astype(np.uint8))
    inside = frame[frame > 0].mean()
    assert plain["brightness"] == pytest.approx(inside, rel=0.1)
    assert darker["brightness"] == pytest.approx(0.6 * plain["brightness"], rel=0.05)
    assert darker["contrast"] < plain["contrast"]
    assert set(plain) == {"brightness", "contrast", "depth_ratio", "quality"}


def test_the_deep_half_is_told_from_the_shallow_one() -> None:
    frame = phantom(seed=2).pixels.astype(np.float32)
    fading = frame * np.linspace(1.0, 0.3, len(frame))[:, None]
    assert figures(fading.astype(np.uint8))["depth_ratio"] < 0.9 * figures(frame.astype(np.uint8))["depth_ratio"]


def test_a_bundle_without_grey_values_has_no_figures() -> None:
    one = InputGeometry(channels=1, height=160, width=160, mean=(0.5,), std=(0.5,))
    assert view_figures(np.zeros((1, 160, 160), np.float32), one) == {}
    assert view_figures(np.zeros((3, 160, 160), np.float32), GEOMETRY) == {}, "no sector"


def test_a_study_has_the_means_of_its_views() -> None:
    found = study_figures([{"brightness": 10.0, "liver_logit": 1.0}, {"brightness": 20.0}])
    assert found == {"views": "2", "brightness": 15.0, "liver_logit": 1.0}


def test_histograms_put_each_value_in_one_bin() -> None:
    made = Histogram.of([float(value) for value in range(100)])
    assert made.counts == (10,) * 10
    assert made.count([-1e9, 0.0, 50.0, 1e9]).sum() == 4
    assert made.coarser(30).counts == (20,) * 5
    assert made.coarser(30).count([float(value) for value in range(100)]).tolist() == [20] * 5
    assert Histogram.of([3.0] * 50).counts == (0, 50)
    words = Histogram.of(["4-7", "2-3", "16-31", "2-3"])
    assert words.names == ("2-3", "4-7", "16-31")
    assert words.count(["2-3", "0"]).tolist() == [1, 0, 0, 1]
    assert Histogram.from_dict(words.as_dict()) == words
    with pytest.raises(ValueError, match="counts"):
        Histogram(edges=(1.0,), names=None, counts=(1,))
