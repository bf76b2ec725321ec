"""The joint graph gives what the members give, shares what is the same to the last bit, and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from inference.backends.interface import BackendError, Graphs
from inference.backends.onnxruntime import OnnxRuntimeCudaEngine, OnnxRuntimeEngine
from inference.backends.openvino import OpenVinoEngine
from inference.contract import INPUT_VIEWS, OUTPUTS
from inference.onnx_half import in_half
from inference.onnx_merge import merged
from inference.onnx_parser import with_flat_softmax
from inference.onnx_wire import OnnxFileError, bytes_field, parts, varint_field, without
from inference.predictor import Predictor
from inference.verify import verify


def views_of(predictor: Predictor, count: int) -> np.ndarray:
    geometry = predictor.bundle.geometry
    shape = (count, geometry.channels, geometry.height, geometry.width)
    return np.random.default_rng(count).normal(size=shape).astype(np.float32)


def operators(model: bytes) -> list[bytes]:
    (graph,) = parts(model, 7)
    return [parts(node, 4)[0] for node in parts(graph, 1)]


def run(model: bytes, views: np.ndarray) -> dict[str, np.ndarray]:
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    return dict(zip(OUTPUTS, session.run(list(OUTPUTS), {INPUT_VIEWS: views}), strict=True))


@pytest.mark.parametrize("count", [1, 3, 7])
def test_the_joint_graph_gives_what_the_members_give(predictor: Predictor, count: int) -> None:
    views = views_of(predictor, count)
    together = run(merged(predictor.bundle.members), views)
    for index, member in enumerate(predictor.bundle.members):
        alone = run(member, views)
        for name in OUTPUTS:
            np.testing.assert_allclose(together[name][index], alone[name], rtol=1e-4, atol=1e-4)


def test_the_frozen_front_of_the_shipped_members_is_computed_once(predictor: Predictor) -> None:
    members = predictor.bundle.members
    apart = sum(operators(member).count(b"Conv") for member in members)
    assert operators(merged(members)).count(b"Conv") < 0.7 * apart


def test_a_member_beside_itself_costs_nothing(predictor: Predictor) -> None:
    member = predictor.bundle.members[0]
    assert operators(merged([member, member])).count(b"Conv") == operators(member).count(b"Conv")


def test_weights_that_differ_in_one_bit_are_not_shared(predictor: Predictor) -> None:
    member = predictor.bundle.members[0]
    (graph,) = parts(member, 7)
    weights = max(parts(graph, 5), key=len)
    raw = parts(weights, 9)[0]
    changed = member.replace(raw, raw[:-1] + bytes([raw[-1] ^ 1]))
    assert changed != member
    assert operators(merged([member, changed])).count(b"Conv") == operators(member).count(b"Conv") + 1


def test_members_that_cannot_be_joined_run_one_by_one(predictor: Predictor) -> None:
    other = _with_opset(predictor.bundle.members[1], 19)
    members = (predictor.bundle.members[0], other)
    with pytest.raises(OnnxFileError, match="joined"):
        merged(members)
    graphs = Graphs(members=members)
    assert graphs.joint is None
    views = views_of(predictor, 2)
    for engine in (OnnxRuntimeEngine(graphs), OpenVinoEngine(graphs)):
        outputs = engine.run(views)
        assert len(outputs) == 2
        np.testing.assert_allclose(outputs[0]["saliency"], run(members[0], views)["saliency"], rtol=1e-3, atol=1e-4)


def _with_opset(member: bytes, version: int) -> bytes:
    return without(member, frozenset({8})) + bytes_field(8, bytes_field(1, "") + varint_field(2, version))


def test_openvino_gives_back_the_golden_vectors(predictor: Predictor) -> None:
    class OnOpenVino:
        bundle = predictor.bundle
        engine = OpenVinoEngine(Graphs(members=predictor.bundle.members))

    verification = verify(OnOpenVino())
    assert verification.ok, verification.worst


def test_a_single_member_runs_too(predictor: Predictor) -> None:
    member, views = predictor.bundle.members[0], views_of(predictor, 3)
    (outputs,) = OpenVinoEngine(Graphs(members=(member,))).run(views)
    np.testing.assert_allclose(outputs["view_logits"], run(member, views)["view_logits"], rtol=1e-3, atol=1e-3)


def test_outputs_outlive_the_next_run(predictor: Predictor) -> None:
    engine = OpenVinoEngine(Graphs(members=predictor.bundle.members))
    first = engine.run(views_of(predictor, 3))
    before = first[0]["saliency"].copy()
    engine.run(views_of(predictor, 3) * 2)
    np.testing.assert_array_equal(first[0]["saliency"], before)


def test_half_precision_stays_within_reach(predictor: Predictor) -> None:
    """Rounded convolutions move the outputs a little; a graph that was rewired wrongly would move them a lot."""
    joint = with_flat_softmax(merged(predictor.bundle.members))
    views = views_of(predictor, 3)
    exact, half = run(joint, views), run(in_half(joint, "fp16"), views)
    for name in OUTPUTS:
        np.testing.assert_allclose(half[name], exact[name], rtol=0.1, atol=0.1)
    assert any(not np.array_equal(half[name], exact[name]) for name in OUTPUTS)


def test_a_gpu_engine_without_a_gpu_says_so(predictor: Predictor) -> None:
    if "CUDAExecutionProvider" in ort.get_available_providers():
        pytest.skip("this onnxruntime has CUDA: tests/gpu looks at it")
    with pytest.raises(BackendError, match="CUDA"):
        OnnxRuntimeCudaEngine(Graphs(members=predictor.bundle.members))


def test_the_order_of_the_members_is_kept(predictor: Predictor, tmp_path: Path) -> None:
    views = views_of(predictor, 1)
    members = predictor.bundle.members
    straight, turned = run(merged(members), views), run(merged(members[::-1]), views)
    np.testing.assert_allclose(straight["grade_logits"], turned["grade_logits"][::-1], rtol=1e-4, atol=1e-4)
