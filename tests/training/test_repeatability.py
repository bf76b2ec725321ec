"""What a trend is judged by: the coefficient is what it says, and exams of a patient differ."""

import numpy as np
import pytest

from training.bundle.repeatability import _exams, coefficient


def test_it_covers_19_of_20_differences():
    differences = np.random.default_rng(0).normal(0, 2.0, 20000)
    assert np.mean(np.abs(differences) < coefficient(differences)) == pytest.approx(0.95, abs=0.005)


def test_it_is_2_77_standard_deviations_within_a_subject():
    rng = np.random.default_rng(1)
    subject = rng.uniform(0, 40, 20000)
    first, second = subject + rng.normal(0, 1.5, 20000), subject + rng.normal(0, 1.5, 20000)
    assert coefficient(first - second) == pytest.approx(2.77 * 1.5, rel=0.03)


def test_exams_differ_and_come_again():
    exams = _exams(64, 3)
    assert exams.shape == (3, 4, 3, 64, 64)
    assert min(np.abs(exams[0] - exams[other]).mean() for other in (1, 2)) > 0.01
    assert np.array_equal(exams, _exams(64, 3))
