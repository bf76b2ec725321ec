"""The whole way on a few patients: it learns, resumes, exports, calibrates, and serving takes what comes out."""

import json
import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from inference.bundle import Bundle  # noqa: E402
from inference.predictor import Predictor  # noqa: E402
from inference.verify import verify  # noqa: E402
from training.bundle import recalibrate, reference, regate  # noqa: E402
from training.bundle.configuration import Bundle as Named  # noqa: E402
from training.bundle.configuration import Data, Experiment, Fit, read_experiment  # noqa: E402
from training.bundle.repeatability import measured  # noqa: E402
from training.members.fit import read_member  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # the exporter's own deprecations

TINY = Experiment(
    data=Data(seed=7, size=96, train_patients=112, calibration_patients=24, test_patients=40, negatives=24),
    fit=Fit(
        members=1,
        seed=2,
        folds=5,
        frozen_blocks=5,
        epochs=5,
        batch_studies=16,
        learning_rate=2e-3,
        weight_decay=0.02,
    ),
    bundle=Named(name="tiny", version="0.0.1", expected_views=3, interval_coverage=0.9),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    reference.fit_members(TINY, folder)
    reference.export_bundle(TINY, folder, folder / "bundle")
    reference.calibrate_bundle(TINY, folder, folder / "bundle")
    with pytest.MonkeyPatch.context() as few:
        few.setattr(regate, "PHANTOMS", {"train": 4, "calibration": 2, "test": 2})
        few.setattr(recalibrate, "measured", partial(measured, patients=6))
        few.setattr(reference, "DRIFT_PATIENTS", 8)
        reference.gate_bundle(TINY, folder, folder / "bundle")
        return folder, reference.evaluate_bundle(TINY, folder, folder / "bundle")


def test_it_learns(run):
    _, metrics = run
    assert metrics["3_views"]["auroc_s1_or_more"][0] > 0.65
    assert metrics["3_views"]["auroc_s2_or_more"][0] > 0.65


def test_a_run_folder_of_other_data_is_refused(tmp_path):
    kept = json.dumps(TINY.as_dict())
    (tmp_path / "experiment.json").write_text(kept)
    more = replace(TINY, data=replace(TINY.data, train_patients=400))
    with pytest.raises(ValueError, match="was begun with train_patients 112, not 400"):
        reference.fit_members(more, tmp_path)
    other = replace(TINY, fit=replace(TINY.fit, weights=""))
    with pytest.raises(ValueError, match="was begun with weights 'imagenet', not ''"):
        reference.fit_members(other, tmp_path)
    assert (tmp_path / "experiment.json").read_text() == kept


def test_serving_takes_the_bundle_and_finds_its_golden_vectors(run):
    folder, _ = run
    predictor = Predictor.open(folder / "bundle", "onnxruntime")
    verification = verify(predictor)
    assert verification.ok, verification.worst
    prediction = predictor.predict(np.zeros((2, 3, 96, 96), np.float32))
    assert prediction.probabilities.sum() == pytest.approx(1.0, abs=1e-5)
    assert Bundle.load(folder / "bundle").description["research_use_only"] is True


def test_each_number_of_views_is_scaled_and_the_trend_can_be_judged(run):
    folder, metrics = run
    bundle = Bundle.load(folder / "bundle")
    assert set(bundle.calibration.scaling_by_views) == {1, 2, 3, 4}
    assert 0.5 < bundle.repeatability < 60
    assert bundle.description["repeatability"]["same_scanner_percent"][0] > 0
    assert metrics["liver_gate"]["others"] > 0
    assert f"{bundle.repeatability:.1f} points" in (folder / "bundle" / "MODEL_CARD.md").read_text()


def test_card_has_the_figures(run):
    folder, metrics = run
    text = (folder / "bundle" / "MODEL_CARD.md").read_text()
    assert "Research use only" in text
    assert f"{metrics['3_views']['auroc_s1_or_more'][0]:.3f}" in text


def test_a_finished_run_is_not_fitted_again(run):
    folder, _ = run
    before = read_member(folder / "member-0.pt").state_dict()
    reference.fit_members(TINY, folder)
    after = read_member(folder / "member-0.pt").state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("name", ["first", "reference"])
def test_shipped_experiments_can_be_read(name):
    assert read_experiment(name).fit.members == 5


def test_a_bundle_calibrated_anew_keeps_its_members_and_its_gate(run, tmp_path):
    folder = shutil.copytree(run[0] / "bundle", tmp_path / "bundle")
    before = Bundle.load(folder)
    other = replace(TINY, data=replace(TINY.data, calibration_patients=30, test_patients=20))
    with pytest.MonkeyPatch.context() as few:
        few.setattr(recalibrate, "measured", partial(measured, patients=4))
        metrics = recalibrate.recalibrate(folder, other, "0.0.2", tmp_path / "looked")
    after = Bundle.load(folder)
    assert after.members == before.members
    assert after.liver_logit_minimum == before.liver_logit_minimum
    assert after.calibration != before.calibration
    assert (after.version, metrics["3_views"]["studies"]) == ("0.0.2", 20)
    assert after.description["training_data"]["patients"] == {"train": 112, "calibration": 30, "test": 20}
    text = (folder / "MODEL_CARD.md").read_text()
    assert "Members are those of 0.0.1" in text
    assert "On 20 held-out phantom patients" in text
