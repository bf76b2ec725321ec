"""A gate fitted anew: only the liver logit changes, the bundle stays whole, and its threshold follows."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from inference.backends.registry import open_engine  # noqa: E402
from inference.contract import OUTPUT_LIVER_LOGIT, OUTPUTS  # noqa: E402
from inference.predictor import Predictor  # noqa: E402
from inference.verify import verify  # noqa: E402
from training.bundle import regate as module  # noqa: E402
from training.bundle.configuration import read_experiment  # noqa: E402
from training.bundle.halves import POOLED, Halves, input_of  # noqa: E402
from training.bundle.reexport import shipped_member  # noqa: E402
from training.frames import gated as frames  # noqa: E402
from training.frames.data import study_of  # noqa: E402
from training.members.models import LiverGate  # noqa: E402

FOLDER = Path(__file__).resolve().parents[2] / "inference" / "bundles" / "reference"


def a_gate(channels):
    torch.manual_seed(3)
    return LiverGate(channels).half().float().requires_grad_(False)


def test_a_graph_is_given_another_gate_and_nothing_else():
    graph = onnx.load(FOLDER / "member-0.onnx")
    views = study_of("test", 99, 160, 0)[0].astype(np.float32)
    channels = len(Halves([graph.SerializeToString()]).look(views).pooled[0][0])
    once = module.gated(graph, a_gate(channels))
    (was,), (becomes,) = (open_engine("onnxruntime", [one.SerializeToString()], 1).run(views) for one in (graph, once))
    for name in set(OUTPUTS) - {OUTPUT_LIVER_LOGIT}:
        np.testing.assert_array_equal(was[name], becomes[name])
    member = shipped_member(once.SerializeToString())
    for name, value in a_gate(channels).state_dict().items():
        assert torch.equal(member.liver.state_dict()[name], value), name
    np.testing.assert_allclose(member(torch.from_numpy(views)).liver_logit, becomes[OUTPUT_LIVER_LOGIT], atol=1e-4)
    again = module.gated(once, a_gate(channels))
    assert again.SerializeToString(deterministic=True) == once.SerializeToString(deterministic=True)


def test_a_gate_of_another_kind_is_taken_out_whole():
    graph = onnx.load(FOLDER / "member-0.onnx")
    read = input_of(graph, POOLED)
    module._left_out(graph, OUTPUT_LIVER_LOGIT)
    rng = np.random.default_rng(0)
    channels = next(tensor.dims[-1] for tensor in graph.graph.initializer if tensor.name.startswith(POOLED))
    graph.graph.initializer.append(onnx.numpy_helper.from_array(rng.normal(size=(channels, 1)).astype("f4"), "a line"))
    graph.graph.initializer.append(onnx.numpy_helper.from_array(np.array([-1]), "the last"))
    graph.graph.node.append(onnx.helper.make_node("MatMul", [read, "a line"], ["lined"]))
    graph.graph.node.append(onnx.helper.make_node("Squeeze", ["lined", "the last"], [OUTPUT_LIVER_LOGIT]))
    changed = module.gated(graph, a_gate(channels))
    assert not {"a line", "the last"} & {tensor.name for tensor in changed.graph.initializer}
    assert "MatMul" not in {node.op_type for node in changed.graph.node if "lined" in node.output}
    views = study_of("test", 99, 160, 0)[0].astype(np.float32)
    (told,) = open_engine("onnxruntime", [changed.SerializeToString()], 1).run(views)
    read_by = Halves([(FOLDER / "member-0.onnx").read_bytes()]).look(views).pooled[0]
    np.testing.assert_allclose(
        told[OUTPUT_LIVER_LOGIT], a_gate(channels)(torch.from_numpy(read_by)).squeeze(-1), atol=1e-3
    )


def test_only_the_gate_changes(tmp_path, monkeypatch):
    folder = shutil.copytree(FOLDER, tmp_path / "bundle")
    monkeypatch.setattr(frames, "PHANTOMS", {"train": 24, "calibration": 8, "test": 8})
    data = read_experiment("reference").data
    before = json.loads((folder / "bundle.json").read_text())
    views = study_of("test", 99, 160, 0)[0].astype(np.float32)
    old = Predictor.open(folder, "onnxruntime").engine.run(views)
    few = replace(data, negatives=48)
    passed = module.regate(folder, few, "9.9.9", frames_in=tmp_path / "frames", workers=2)
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "frames").rglob("*.npy")}
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
    assert passed["phantom_livers"] == 32
    assert passed["phantom_livers_passed"] > 0.8
    again = module.regate(folder, few, "9.9.9", threshold=3.0, frames_in=tmp_path / "frames", workers=2)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "frames").rglob("*.npy")} == made
    assert again["phantom_livers_passed"] <= 1.0
    for one, other in zip(new, Predictor.open(folder, "onnxruntime").engine.run(views), strict=True):
        np.testing.assert_array_equal(one[OUTPUT_LIVER_LOGIT], other[OUTPUT_LIVER_LOGIT])
    assert json.loads((folder / "bundle.json").read_text())["liver_logit_minimum"] == 3.0


def test_the_threshold_loses_few_of_any_set_of_livers():
    rng = np.random.default_rng(0)
    livers = [rng.normal(6, 1, 3000), rng.normal(3, 2, 3000), np.zeros(0)]
    least = module.gate_threshold(livers)
    assert np.mean(livers[1] >= least) == pytest.approx(1 - module.LOST, abs=0.002)
    assert np.mean(livers[0] >= least) > 0.99
