"""Members' outputs to one prediction, and what must not matter to it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from inference.backends.interface import BackendError
from inference.bundle import Scaling
from inference.contract import GRADES, VIEWS
from inference.ensemble import combine, grade_set
from inference.predictor import Predictor


def outputs(views: int, seed: int) -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    weights = rng.random(views)
    drawn = {
        "grade_logits": rng.normal(size=4),
        "fat_fraction": rng.uniform(2, 30, 1),
        "view_weights": weights / weights.sum(),
        "saliency": rng.random((views, 4, 5, 5)) * rng.uniform(0.1, 100),
        "view_grade_logits": rng.normal(size=(views, 4)),
        "view_logits": rng.normal(size=(views, len(VIEWS))),
        "liver_logit": rng.normal(size=views),
    }
    return {name: values.astype(np.float32) for name, values in drawn.items()}


def views_of(predictor: Predictor, count: int, seed: int = 0) -> NDArray[np.float32]:
    geometry = predictor.bundle.geometry
    shape = (count, geometry.channels, geometry.height, geometry.width)
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_probabilities_are_the_mean_of_the_members_after_temperature(predictor: Predictor) -> None:
    calibration = replace(
        predictor.bundle.calibration, temperature=2.0, fat_slope=1.1, fat_intercept=-0.5, scaling_by_views={}
    )
    members = [outputs(3, seed) for seed in range(5)]
    prediction = combine(members, calibration)
    logits = np.stack([member["grade_logits"] for member in members]) / 2.0
    expected = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).mean(axis=0)
    np.testing.assert_allclose(prediction.probabilities, expected, rtol=1e-5)
    fat = np.array([member["fat_fraction"][0] for member in members]) * 1.1 - 0.5
    assert prediction.fat_fraction_percent == pytest.approx(fat.mean(), rel=1e-5)
    assert prediction.fat_fraction_spread == pytest.approx(fat.std(), rel=1e-4)
    assert prediction.steatosis_probability == pytest.approx(1 - expected[0], rel=1e-5)
    assert prediction.grade == GRADES[int(expected.argmax())]


def test_heatmaps_are_relative_within_their_view(predictor: Predictor) -> None:
    prediction = combine([outputs(3, seed) for seed in range(5)], predictor.bundle.calibration)
    np.testing.assert_allclose(prediction.saliency.max(axis=(1, 2)), 1.0, rtol=1e-6)
    assert prediction.saliency.min() >= 0.0


@pytest.mark.parametrize("told", range(4))
def test_the_heatmap_is_that_of_the_grade_the_ensemble_tells(predictor: Predictor, told: int) -> None:
    members = [outputs(3, seed) for seed in range(5)]
    members[0]["grade_logits"][(told + 1) % 4] = 4.0  # a member that is outvoted
    for member in members[1:]:
        member["grade_logits"][told] = 6.0
    prediction = combine(members, predictor.bundle.calibration)
    assert prediction.grade == GRADES[told]
    maps = np.stack([member["saliency"][:, told] for member in members])
    expected = (maps / maps.max(axis=(2, 3), keepdims=True)).mean(axis=0)
    np.testing.assert_allclose(prediction.saliency, expected / expected.max(axis=(1, 2), keepdims=True), rtol=1e-5)


def test_a_view_without_evidence_has_an_empty_heatmap(predictor: Predictor) -> None:
    member = outputs(2, 0)
    member["saliency"][0] = 0.0
    prediction = combine([member], predictor.bundle.calibration)
    assert not prediction.saliency[0].any()


def test_an_estimate_stays_within_nought_and_a_hundred(predictor: Predictor) -> None:
    member = outputs(1, 0)
    for value in (-400.0, 400.0):
        member["fat_fraction"][:] = value
        prediction = combine([member], predictor.bundle.calibration)
        low, high = prediction.fat_fraction_interval
        assert 0.0 <= low <= prediction.fat_fraction_percent <= high <= 100.0


def test_fewer_views_use_their_own_interval(predictor: Predictor) -> None:
    calibration = replace(
        predictor.bundle.calibration, interval_quantiles=(-2.0, 2.0), interval_quantiles_by_views={1: (-5.0, 6.0)}
    )
    for count, (low, high) in ((1, (-5.0, 6.0)), (2, (-2.0, 2.0))):
        member = outputs(count, 1)
        member["fat_fraction"][:] = 20.0
        prediction = combine([member], calibration)
        estimate = prediction.fat_fraction_percent
        assert prediction.fat_fraction_interval == pytest.approx((estimate + low, estimate + high))


def test_each_number_of_views_is_scaled_in_its_own_way(predictor: Predictor) -> None:
    ways = {
        1: Scaling(temperature=1.0, offsets=(0.0, 0.0, 0.0, 0.0), grade_threshold=0.9),
        3: Scaling(temperature=2.0, offsets=(0.0, 1.0, 0.0, -1.0), grade_threshold=0.0),
    }
    calibration = replace(predictor.bundle.calibration, scaling_by_views=ways)
    for count, way in ((1, ways[1]), (2, ways[1]), (3, ways[3]), (8, ways[3])):
        members = [outputs(count, seed) for seed in range(5)]
        prediction = combine(members, calibration)
        logits = np.stack([member["grade_logits"] for member in members]) / way.temperature + np.array(way.offsets)
        expected = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).mean(axis=0)
        np.testing.assert_allclose(prediction.probabilities, expected, rtol=1e-5)
        assert prediction.grade_set == grade_set(prediction.probabilities, way.grade_threshold)
        alone = np.stack([member["view_grade_logits"] for member in members])
        expected = (np.exp(alone) / np.exp(alone).sum(axis=-1, keepdims=True)).mean(axis=0)
        np.testing.assert_allclose(prediction.view_probabilities, expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["grade_logits", "fat_fraction", "saliency", "liver_logit"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_not_finite_is_an_error_never_a_grade(predictor: Predictor, name: str, value: float) -> None:
    members = [outputs(2, seed) for seed in range(5)]
    members[3][name].flat[0] = value
    with pytest.raises(BackendError, match=name):
        combine(members, predictor.bundle.calibration)


@pytest.mark.parametrize(
    ("probabilities", "threshold", "expected"),
    [
        ([0.97, 0.01, 0.01, 0.01], 0.9, ("S0",)),
        ([0.5, 0.45, 0.04, 0.01], 0.9, ("S0", "S1")),
        ([0.1, 0.2, 0.3, 0.4], 0.9, ("S1", "S2", "S3")),
        ([0.1, 0.2, 0.3, 0.4], 0.95, GRADES),
        ([0.25, 0.25, 0.25, 0.25], 0.0, ("S0",)),
    ],
)
def test_the_set_of_grades(probabilities: list[float], threshold: float, expected: tuple[str, ...]) -> None:
    assert grade_set(np.array(probabilities, np.float32), threshold) == expected


def test_the_order_of_the_views_changes_nothing_but_their_own(predictor: Predictor) -> None:
    views = views_of(predictor, 3)
    order = [2, 0, 1]
    straight, turned = predictor.predict(views), predictor.predict(views[order])
    np.testing.assert_allclose(turned.probabilities, straight.probabilities, atol=1e-5)
    assert turned.fat_fraction_percent == pytest.approx(straight.fat_fraction_percent, abs=1e-3)
    np.testing.assert_allclose(turned.view_weights, straight.view_weights[order], atol=1e-5)
    np.testing.assert_allclose(turned.saliency, straight.saliency[order], atol=1e-3)


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_any_number_of_views(predictor: Predictor, count: int) -> None:
    prediction = predictor.predict(views_of(predictor, count))
    assert prediction.view_weights.shape == (count,)
    assert prediction.view_weights.sum() == pytest.approx(1.0, abs=1e-5)
    assert prediction.saliency.shape[0] == len(prediction.view_names) == count


def test_views_of_another_shape_are_an_error(predictor: Predictor) -> None:
    with pytest.raises(BackendError, match="cannot run"):
        predictor.predict(np.zeros((1, 3, 10, 10), np.float32))


def test_the_same_views_give_the_same_answer(predictor: Predictor) -> None:
    views = views_of(predictor, 2)
    one, other = predictor.predict(views), predictor.predict(views)
    np.testing.assert_array_equal(one.probabilities, other.probabilities)
    np.testing.assert_array_equal(one.saliency, other.saliency)
