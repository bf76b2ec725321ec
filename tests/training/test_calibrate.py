"""Calibration keeps its promises on data that behave."""

import numpy as np
import pytest

from inference.contract import OUTPUT_FAT_FRACTION, OUTPUT_GRADE_LOGITS, OUTPUT_LIVER_LOGIT
from inference.ensemble import grade_set
from training.bundle.calibrate import (
    Scored,
    calibrate,
    conformal_rank,
    fit_scaling,
    fit_temperature,
    grade_threshold,
    interval_quantiles,
    probabilities,
    youden,
)


def _overconfident(count, seed, factor=3.0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (count, 1, 4))
    honest = probabilities(logits, 1.0)
    grades = np.array([rng.choice(4, p=p) for p in honest])
    return logits * factor, grades


def test_temperature_undoes_overconfidence():
    logits, grades = _overconfident(4000, 0)
    assert fit_temperature(logits, grades) == pytest.approx(3.0, rel=0.1)


def test_grade_sets_cover_as_promised():
    logits, grades = _overconfident(2000, 1)
    threshold = grade_threshold(probabilities(logits, 3.0), grades, 0.9)
    fresh, truth = _overconfident(4000, 2)
    sets = [grade_set(p.astype(np.float32), threshold) for p in probabilities(fresh, 3.0)]
    covered = np.mean([f"S{grade}" in chosen for grade, chosen in zip(truth, sets, strict=True)])
    assert covered == pytest.approx(0.9, abs=0.04)
    assert np.mean([len(chosen) for chosen in sets]) < 4


def test_intervals_cover_as_promised():
    rng = np.random.default_rng(3)
    low, high = interval_quantiles(rng.normal(1.0, 2.0, 1000), 0.9)
    fresh = rng.normal(1.0, 2.0, 20000)
    assert np.mean((fresh >= low) & (fresh <= high)) == pytest.approx(0.9, abs=0.03)


def test_rank_is_the_finite_sample_one():
    assert conformal_rank(np.arange(1, 10), 0.9) == 9
    assert conformal_rank(np.arange(1, 100), 0.9) == 90


def test_youden_separates():
    score, positive = np.array([0.1, 0.2, 0.6, 0.9]), np.array([False, False, True, True])
    assert youden(score, positive) == pytest.approx(0.6)


def test_all_parts_of_the_description():
    rng = np.random.default_rng(4)
    fat = rng.uniform(0, 40, 80)
    outputs = [
        [
            {
                OUTPUT_GRADE_LOGITS: rng.normal(0, 1, 4) + (value / 10 > np.arange(4)),
                OUTPUT_FAT_FRACTION: np.array([0.5 * value + 3.0]),
                OUTPUT_LIVER_LOGIT: rng.normal(4, 1, 2),
            }
        ]
        for value in fat
    ]
    views = np.tile([1, 2, 3, 4], 20)
    parts = calibrate(Scored(outputs=outputs, fat_fraction=fat, views=views), 0.9, 3)
    assert parts["calibration"]["fat_fraction"]["slope"] == pytest.approx(2.0)
    assert parts["calibration"]["fat_fraction"]["intercept"] == pytest.approx(-6.0)
    assert set(parts["calibration"]["fat_fraction_interval"]["quantiles_by_views"]) == {"1", "2", "3", "4"}
    assert 0 < parts["operating_points"]["steatosis"] < 1
    assert parts["liver_logit_minimum"] <= 0


def test_offsets_mend_what_no_temperature_does():
    """Logits that call one grade too often: the right probabilities come back."""
    rng = np.random.default_rng(3)
    honest = rng.normal(0, 1.5, (4000, 4))
    share = np.exp(honest) / np.exp(honest).sum(axis=1, keepdims=True)
    grades = (share.cumsum(axis=1) < rng.random((4000, 1))).sum(axis=1).clip(max=3)
    spoilt = (2.0 * (honest + np.array([1.2, 0.0, 0.0, -0.8])))[:, None]
    temperature, offsets = fit_scaling(spoilt, grades)
    assert temperature == pytest.approx(2.0, rel=0.15)
    assert offsets[[0, 3]] - offsets[1] == pytest.approx([-1.2, 0.8], abs=0.2)
    found = probabilities(spoilt, temperature, offsets)
    assert np.abs(found - share).mean() < 0.02
