"""The bundle in the repository: whole, small, and as good on fresh patients as its card says."""

from pathlib import Path

import numpy as np
import pytest

from inference.contract import VIEWS
from inference.predictor import Predictor
from inference.verify import verify
from training.bundle.card import card
from training.frames.data import grade_of, study_of
from training.metrics import auroc

FOLDER = Path(__file__).resolve().parents[2] / "inference" / "bundles" / "reference"
FRESH_SEED = 424242
"""Of no experiment's data."""


@pytest.fixture(scope="module")
def predictor():
    return Predictor.open(FOLDER, "onnxruntime")


def test_golden_vectors_agree(predictor):
    verification = verify(predictor)
    assert verification.ok, verification.worst


def test_it_is_small(predictor):
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 15 * 2**20
    assert len(predictor.bundle.members) == 5


def test_card_is_the_bundles(predictor):
    assert (FOLDER / "MODEL_CARD.md").read_text(encoding="utf-8") == card(dict(predictor.bundle.description))


def test_golden_cases_have_three_views_and_one(predictor):
    with np.load(predictor.bundle.golden) as golden:
        assert [golden[f"case{case}_views"].shape[0] for case in (0, 1)] == [3, 1]


def test_fresh_patients(predictor):
    size = predictor.bundle.geometry.height
    studies = [study_of("test", FRESH_SEED, size, index) for index in range(48)]
    truth = np.array([fat for _, fat in studies])
    predictions = [predictor.predict(views.astype(np.float32)) for views, _ in studies]
    steatosis = np.array([prediction.steatosis_probability for prediction in predictions])
    error = np.abs([p.fat_fraction_percent - fat for p, fat in zip(predictions, truth, strict=True)])
    named = np.mean([[name == view for name, view in zip(p.view_names, VIEWS, strict=True)] for p in predictions])
    assert auroc(steatosis, grade_of(truth) >= 1) > 0.8
    assert error.mean() < 7.0
    assert named > 0.9
    assert np.mean([p.liver_logits.min() > predictor.bundle.liver_logit_minimum for p in predictions]) > 0.9


def test_order_of_views_changes_nothing(predictor):
    views = study_of("test", FRESH_SEED, predictor.bundle.geometry.height, 100)[0].astype(np.float32)
    straight = predictor.predict(views)
    for order in ([3, 2, 1, 0], [1, 3, 0, 2]):
        shuffled = predictor.predict(views[order])
        np.testing.assert_allclose(shuffled.probabilities, straight.probabilities, atol=1e-5)
        assert shuffled.fat_fraction_percent == pytest.approx(straight.fat_fraction_percent, abs=1e-4)
        np.testing.assert_allclose(shuffled.view_weights, straight.view_weights[order], atol=1e-5)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 8])
def test_any_number_of_views_has_an_answer(predictor, count):
    views = study_of("test", FRESH_SEED, predictor.bundle.geometry.height, 101)[0].astype(np.float32)
    prediction = predictor.predict(np.concatenate([views, views])[:count])
    assert prediction.probabilities.sum() == pytest.approx(1.0, abs=1e-5)
    low, high = prediction.fat_fraction_interval
    assert 0 <= low <= prediction.fat_fraction_percent <= high <= 100
