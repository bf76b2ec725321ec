"""Figures of merit against values known by hand."""

import numpy as np
import pytest

from training.metrics import auroc, bootstrap, calibration_error, quadratic_kappa


def test_auroc_counts_pairs_and_halves_ties():
    assert auroc(np.array([1, 2, 3, 4]), np.array([0, 1, 0, 1])) == pytest.approx(0.75)
    assert auroc(np.array([1, 1]), np.array([0, 1])) == pytest.approx(0.5)
    assert np.isnan(auroc(np.array([1, 2]), np.array([1, 1])))


def test_kappa_is_one_for_agreement_and_falls_with_distance():
    truth = np.array([0, 1, 2, 3] * 5)
    near, far = truth.copy(), truth.copy()
    near[0], far[0] = 1, 3
    assert quadratic_kappa(truth, truth) == pytest.approx(1.0)
    assert quadratic_kappa(far, truth) < quadratic_kappa(near, truth) < 1.0


def test_calibration_error_of_honest_and_of_sure():
    rng = np.random.default_rng(0)
    probability = rng.uniform(0, 1, 20000)
    positive = (rng.uniform(0, 1, 20000) < probability).astype(float)
    assert calibration_error(probability, positive) < 0.02
    assert calibration_error(np.ones(100), np.r_[np.zeros(50), np.ones(50)]) == pytest.approx(0.5)


def test_bootstrap_holds_the_value():
    value, low, high = bootstrap(lambda v: float(v.mean()), np.random.default_rng(1).normal(2, 1, 400))
    assert low < value < high
    assert high - low == pytest.approx(4 * 1 / 20, rel=0.3)
