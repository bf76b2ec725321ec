"""Graphs cut in two answer as they do whole, and new patients that were looked at are not looked at again."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")

from inference.bundle import Bundle
from inference.contract import OUTPUT_SALIENCY, OUTPUTS
from inference.predictor import Predictor
from training.bundle import fresh
from training.bundle.evaluate import fresh_predictions
from training.bundle.halves import Halves
from training.frames.data import study_of

FOLDER = Path(__file__).resolve().parents[2] / "inference" / "bundles" / "reference"


@pytest.fixture(scope="module")
def bundle():
    return Bundle.load(FOLDER)


@pytest.fixture(scope="module")
def halves(bundle):
    return Halves(bundle.members)


@pytest.mark.parametrize("chosen", [[2], [3, 1], [0, 1, 2, 3]])
def test_halves_say_what_the_whole_says(bundle, halves, chosen):
    views = study_of("test", 99, bundle.geometry.height, 7, trimmed=1.0)[0].astype(np.float32)
    ours = halves.study(halves.look(views), np.array(chosen))
    whole = Predictor.open(FOLDER, "onnxruntime").engine.run(views[chosen])
    for one, other in zip(ours, whole, strict=True):
        for name in set(OUTPUTS) - {OUTPUT_SALIENCY}:
            np.testing.assert_allclose(one[name], other[name], atol=1e-4)


def test_what_the_gate_reads_gives_the_liver_logit(bundle, halves):
    onnx = pytest.importorskip("onnx")
    seen = halves.look(study_of("test", 99, bundle.geometry.height, 8)[0])
    for graph, read, logit in zip(bundle.members, seen.pooled, seen.liver_logit, strict=True):
        stored = {one.name: onnx.numpy_helper.to_array(one) for one in onnx.load_from_string(graph).graph.initializer}
        line = stored["liver.weight_half"][0].astype(np.float32)
        np.testing.assert_allclose(read @ line + stored["liver.bias"], logit, atol=1e-3)


def test_patients_looked_at_are_kept(bundle, halves, tmp_path, monkeypatch):
    monkeypatch.setattr(fresh, "CHUNK", 3)
    new = fresh.Draw(seed=77), tmp_path
    first, fat = fresh.looked_at(bundle.members, bundle.geometry.height, 5, *new, workers=1)
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npz")}
    assert len(kept) == 2
    again, same = fresh.looked_at(bundle.members, bundle.geometry.height, 5, *new, workers=1)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npz")} == kept
    assert len(fat) == 5
    np.testing.assert_array_equal(fat, same)
    for one, other in zip(first.embedding, again.embedding, strict=True):
        assert one.shape[0] == 20
        np.testing.assert_array_equal(one, other)
    found = fresh_predictions(bundle, halves, first, fat, 77)
    assert len(found) == 20
    assert {one.views for one in found} == {1, 2, 3, 4}
