"""Statistics against values worked out by hand or taken from their papers, and what few studies may claim."""

from __future__ import annotations

import math

import numpy as np
import pytest

from agent.watch.statistics import bland_altman, discoveries, psi, stability, weighted_kappa
from inference.reference import Histogram


def test_the_index_is_that_of_its_definition() -> None:
    then, now = np.array([30, 70]), np.array([60, 40])
    before, after = np.array([30.5, 70.5]) / 101, np.array([60.5, 40.5]) / 101
    expected = sum((a - b) * math.log(a / b) for a, b in zip(after, before, strict=True))
    assert float(psi(then, now)) == pytest.approx(expected)
    assert float(psi(then, then)) == 0


def test_few_studies_reach_the_rule_of_thumb_by_chance_and_are_not_believed() -> None:
    rng = np.random.default_rng(5)
    over, believed = 0, 0
    for _ in range(60):
        reference = Histogram.of(rng.normal(size=100))
        found = stability(np.array(reference.counts), reference.count(rng.normal(size=25)))
        over += found.psi >= 0.25
        believed += found.p <= 0.05
    assert over > 30, "an index of 0.25 means nothing with 25 studies in ten bins"
    assert believed <= 7, "about one in twenty at most"


def test_a_real_shift_is_seen_with_few_studies() -> None:
    rng = np.random.default_rng(6)
    reference = Histogram.of(rng.normal(size=100)).coarser(30)
    found = stability(np.array(reference.counts), reference.count(rng.normal(size=30) + 1.5))
    assert found.p < 0.01
    assert found.chance is not None
    assert found.psi > found.chance


def test_of_many_looks_only_those_count_that_chance_does_not_explain() -> None:
    assert discoveries([0.001, 0.04, 0.9, 0.03], 0.05) == [True, False, False, False]
    assert discoveries([0.01, 0.02, 0.03], 0.05) == [True, True, True]
    assert discoveries([], 0.05) == []


def test_kappa_is_cohens_with_quadratic_weights() -> None:
    # by hand: weights (i-j)^2, observed 1/6, chance 7/6 over 0 0 1 1 2 2 against 0 1 1 1 2 2
    found = weighted_kappa([0, 0, 1, 1, 2, 2], [0, 1, 1, 1, 2, 2], 4)
    assert found is not None
    rows, columns = np.array([2, 2, 2, 0]), np.array([1, 3, 2, 0])
    weight = np.subtract.outer(np.arange(4), np.arange(4)) ** 2
    chance = (weight * np.outer(rows, columns)).sum() / 6
    assert found.value == pytest.approx(1 - 1 / chance)
    assert found.exact == pytest.approx(5 / 6)
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.value < found.high
    assert found.table[0] == (1, 1, 0, 0)


def test_ten_studies_that_agree_prove_little() -> None:
    grades = [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]
    few, many = weighted_kappa(grades, grades, 4), weighted_kappa(grades * 30, grades * 30, 4)
    assert few is not None
    assert many is not None
    assert few.value == many.value == 1
    assert few.low is not None
    assert many.low is not None
    assert few.low < 0.8 < 0.95 < many.low


def test_a_single_grade_has_no_kappa() -> None:
    found = weighted_kappa([1, 1, 1], [1, 1, 1], 4)
    assert found is not None
    assert (found.value, found.low, found.exact) == (None, None, 1.0)
    assert weighted_kappa([], [], 4) is None


def test_limits_of_agreement() -> None:
    found = bland_altman([10, 20, 30, 40], [11, 19, 33, 41])
    assert found is not None
    assert found.bias == pytest.approx(1.0)
    spread = np.std([1, -1, 3, 1], ddof=1)
    assert found.high == pytest.approx(1 + 1.959964 * spread)
    assert found.bias_high == pytest.approx(1 + 3.18245 * spread / 2, rel=1e-4)
    pair = bland_altman([1, 2], [2, 3])
    assert pair is not None
    assert (pair.bias, pair.low) == (1.0, None)
    assert bland_altman([], []) is None
