"""A gate fitted anew: only the liver logit changes, the bundle stays whole, and its threshold follows."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from inference.contract import OUTPUT_LIVER_LOGIT, OUTPUTS  # noqa: E402
from inference.predictor import Predictor  # noqa: E402
from inference.verify import verify  # noqa: E402
from training.bundle import regate as module  # noqa: E402
from training.bundle.configuration import read_experiment  # noqa: E402
from training.frames.data import study_of  # noqa: E402

FOLDER = Path(__file__).resolve().parents[2] / "inference" / "bundles" / "reference"


def test_what_the_gate_reads_is_what_the_graph_says():
    path = FOLDER / "member-0.onnx"
    graph = onnx.load(path)
    views = study_of("test", 99, 160, 0)[0]
    kept = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}
    logits = module.pooled(graph, views) @ kept["liver.weight_half"][0].astype(np.float32) + kept["liver.bias"]
    predictor = Predictor.open(FOLDER, "onnxruntime")
    said = predictor.engine.run(views.astype(np.float32))[0][OUTPUT_LIVER_LOGIT]
    np.testing.assert_allclose(logits, said, atol=1e-3)


def test_only_the_gate_changes(tmp_path, monkeypatch):
    folder = shutil.copytree(FOLDER, tmp_path / "bundle")
    monkeypatch.setattr(module, "PHANTOMS", {"train": 8, "calibration": 4, "test": 4})
    data = read_experiment("reference").data
    before = json.loads((folder / "bundle.json").read_text())
    views = study_of("test", 99, 160, 0)[0].astype(np.float32)
    old = Predictor.open(folder, "onnxruntime").engine.run(views)
    few = replace(data, negatives=24, phased=0.0, heavy=0.0)  # four patients say nothing of sector probes
    passed = module.regate(folder, few, "9.9.9", workers=2)
    predictor = Predictor.open(folder, "onnxruntime")
    assert verify(predictor).ok, verify(predictor).worst
    new = predictor.engine.run(views)
    for one, other in zip(old, new, strict=True):
        for name in set(OUTPUTS) - {OUTPUT_LIVER_LOGIT}:
            np.testing.assert_array_equal(one[name], other[name])
        assert not np.allclose(one[OUTPUT_LIVER_LOGIT], other[OUTPUT_LIVER_LOGIT])
    after = json.loads((folder / "bundle.json").read_text())
    assert after["version"] == "9.9.9"
    assert after["calibration"] == before["calibration"]
    assert after["liver_logit_minimum"] != before["liver_logit_minimum"]
    assert passed["others"] > 0
    assert passed["phantom_livers_passed"] > 0.8


def test_a_line_kept_whole_is_the_line_it_was(tmp_path, monkeypatch):
    folder = shutil.copytree(FOLDER, tmp_path / "bundle")
    monkeypatch.setattr(module, "PHANTOMS", {"train": 1, "calibration": 1, "test": 1})
    views = study_of("test", 99, 160, 0)[0].astype(np.float32)
    old = Predictor.open(folder, "onnxruntime").engine.run(views)
    data = replace(read_experiment("reference").data, negatives=12)
    module.regate(folder, data, "9.9.9", kept=1.0, threshold=3.0, workers=2)
    new = Predictor.open(folder, "onnxruntime").engine.run(views)
    for one, other in zip(old, new, strict=True):
        np.testing.assert_array_equal(one[OUTPUT_LIVER_LOGIT], other[OUTPUT_LIVER_LOGIT])
    assert json.loads((folder / "bundle.json").read_text())["liver_logit_minimum"] == 3.0


def test_the_threshold_loses_few_of_any_set_of_livers():
    rng = np.random.default_rng(0)
    livers = [rng.normal(6, 1, 3000), rng.normal(3, 2, 3000), np.zeros(0)]
    least = module.gate_threshold(livers)
    assert np.mean(livers[1] >= least) == pytest.approx(1 - module.LOST, abs=0.002)
    assert np.mean(livers[0] >= least) > 0.99
