"""Contributions: the axioms that make Shapley values what they are, and what views and clinical variables get."""

from itertools import permutations
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("torch")

from training.explain.clinical import clinical_contributions
from training.explain.shapley import MOST_PLAYERS, shapley_values, share_out
from training.explain.views import MOST_VIEWS, Answer, reference_answer, view_contributions

NAMES = ("age", "bmi", "diabetes", "alt")


def game(players, seed=0):
    """A game with a worth of its own for each coalition."""
    worth = np.random.default_rng(seed).normal(size=2**players)
    return lambda mask: float(worth[int((mask * 2 ** np.arange(players)).sum())])


@pytest.mark.parametrize("players", [1, 2, 5, 8])
def test_shares_sum_to_the_total(players):
    shares, base, total = shapley_values(game(players), players)
    assert base + shares.sum() == pytest.approx(total)
    assert np.abs(shares).min() > 0


def test_they_are_the_mean_gain_over_all_orders():
    value, players = game(4, seed=3), 4
    gains = np.zeros(players)
    orders = list(permutations(range(players)))
    for order in orders:
        mask = np.zeros(players, dtype=bool)
        for player in order:
            before = value(mask)
            mask[player] = True
            gains[player] += (value(mask) - before) / len(orders)
    np.testing.assert_allclose(shapley_values(value, players)[0], gains)


def test_equal_players_get_equal_shares():
    shares, _, _ = shapley_values(lambda mask: float((mask[0] or mask[1]) + 3.0 * mask[2]), 3)
    np.testing.assert_allclose(shares, [0.5, 0.5, 3.0])


def test_a_dummy_gets_what_it_brings_alone():
    other = game(3, seed=1)
    shares, _, _ = shapley_values(lambda mask: other(mask[:3]) + 2.5 * mask[3] + 0.0 * mask[4], 5)
    assert shares[3] == pytest.approx(2.5)
    assert shares[4] == pytest.approx(0.0, abs=1e-12)


def test_shares_of_a_sum_of_games_add_up():
    first, second = game(5, seed=1), game(5, seed=2)
    both, _, _ = shapley_values(lambda mask: first(mask) + 2.0 * second(mask), 5)
    np.testing.assert_allclose(both, shapley_values(first, 5)[0] + 2.0 * shapley_values(second, 5)[0])


def test_nobody_shares_nothing():
    shares = share_out(lambda mask: 7.0, [])
    assert (shares.shares, shares.base, shares.total) == ((), 7.0, 7.0)


def test_too_many_players_and_worthless_coalitions_are_errors():
    with pytest.raises(ValueError, match="leave some out"):
        shapley_values(lambda mask: 0.0, MOST_PLAYERS + 1)
    with pytest.raises(ValueError, match=r"\[0, 2\]"):
        shapley_values(lambda mask: np.nan if mask[0] and mask[2] else 1.0, 3)


class Fake:
    """Answers by the mean of the views, so that a view's own brightness decides."""

    def __init__(self):
        self.calls = 0

    def predict(self, views):
        self.calls += 1
        mean = float(views.mean())
        return SimpleNamespace(steatosis_probability=1.0 / (1.0 + np.exp(-mean)), fat_fraction_percent=10.0 + mean)


def study(*values):
    return np.stack([np.full((1, 8, 8), value, np.float32) for value in values])


def test_views_contributions_sum_to_the_answer_against_reference():
    predictor = Fake()
    reference = reference_answer(predictor, [study(-1.0, -1.0), study(0.0)])
    assert reference.log_odds == pytest.approx(-0.5, abs=1e-5)
    found = view_contributions(predictor, study(2.0, 1.0, 1.0), ("a", "b", "c"), reference)
    assert found.log_odds.base == reference.log_odds
    assert found.log_odds.total == pytest.approx(4.0 / 3.0, abs=1e-5)
    assert sum(found.log_odds.shares) == pytest.approx(found.log_odds.total - found.log_odds.base)
    assert found.fat_fraction.total == pytest.approx(10.0 + 4.0 / 3.0, abs=1e-5)
    first, second, third = found.log_odds.shares
    assert first > second == pytest.approx(third)


def test_each_coalition_of_views_is_scored_once():
    predictor = Fake()
    view_contributions(predictor, study(1, 2, 3, 4), "abcd", Answer(log_odds=0.0, fat_fraction=0.0))
    assert predictor.calls == 2**4 - 1


def test_certain_answers_stay_finite():
    sure = SimpleNamespace(predict=lambda views: SimpleNamespace(steatosis_probability=1.0, fat_fraction_percent=40.0))
    found = view_contributions(sure, study(1.0), "a", Answer(log_odds=0.0, fat_fraction=0.0))
    assert np.isfinite(found.log_odds.shares).all()


def test_views_must_be_named_few_and_referenced():
    reference = Answer(log_odds=0.0, fat_fraction=0.0)
    with pytest.raises(ValueError, match="named views"):
        view_contributions(Fake(), study(1.0, 2.0), "a", reference)
    with pytest.raises(ValueError, match="named views"):
        view_contributions(Fake(), study(*range(MOST_VIEWS + 1)), "a" * (MOST_VIEWS + 1), reference)
    with pytest.raises(ValueError, match="at least one"):
        reference_answer(Fake(), [])


WEIGHTS = np.array([0.1, 2.0, -1.0, 0.5])


def linear(views, clinical, mask):
    return float(views + (WEIGHTS * clinical * mask).sum())


@pytest.fixture
def references():
    rng = np.random.default_rng(4)
    return rng.normal(size=(7, 4)), rng.random((7, 4)) < 0.8


def test_linear_model_gives_weight_times_distance_from_the_background(references):
    clinical, (others, _) = np.array([1.0, -2.0, 3.0, 0.5]), references
    everything = np.ones_like(others, dtype=bool)
    found = clinical_contributions(linear, 5.0, clinical, np.ones(4, bool), NAMES, (others, everything))
    np.testing.assert_allclose(found.shares, WEIGHTS * (clinical - others.mean(axis=0)))
    assert found.total == pytest.approx(linear(5.0, clinical, np.ones(4)))
    assert found.base == pytest.approx(5.0 + (WEIGHTS * others.mean(axis=0)).sum())


def test_what_is_missing_contributes_nothing_and_is_never_shown(references):
    seen = []

    def model(views, clinical, mask):
        seen.append((clinical[2], mask[2]))
        return linear(views, clinical, mask) + 100.0 * clinical[2]

    mask = np.array([True, True, False, True])
    found = clinical_contributions(model, 0.0, np.array([1.0, 1.0, 9.0, 1.0]), mask, NAMES, references)
    assert found.shares[2] == 0.0
    assert set(seen) == {(0.0, False)}
    assert found.base + sum(found.shares) == pytest.approx(found.total)
    assert found.total == pytest.approx(WEIGHTS[[0, 1, 3]].sum())


def test_a_variable_the_model_ignores_contributes_nothing(references):
    found = clinical_contributions(
        lambda views, clinical, mask: float(np.tanh(clinical[0] * clinical[1])),
        None, np.array([1.0, 2.0, 3.0, 4.0]), np.ones(4, bool), NAMES, references,
    )  # fmt: skip
    assert found.shares[2] == pytest.approx(0.0, abs=1e-12)
    assert abs(found.shares[0]) > 1e-3


def test_nothing_known_gives_the_background(references):
    found = clinical_contributions(linear, 3.0, np.zeros(4), np.zeros(4, bool), NAMES, references)
    assert (found.shares, found.base, found.total) == ((0.0,) * 4, 3.0, 3.0)


@pytest.mark.parametrize("count", [3, 5])
def test_shapes_are_checked(references, count):
    with pytest.raises(ValueError, match="4 names"):
        clinical_contributions(linear, 0.0, np.zeros(count), np.ones(count, bool), NAMES, references)
    few = np.zeros((0, 4))
    with pytest.raises(ValueError, match="References"):
        clinical_contributions(linear, 0.0, np.zeros(4), np.ones(4, bool), NAMES, (few, few.astype(bool)))
