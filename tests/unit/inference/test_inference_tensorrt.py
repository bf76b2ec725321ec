"""Every graph of the shipped bundle parses and builds with TensorRT's API, ahead of time and without a GPU."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from inference.backends import cuda
from inference.backends.interface import BackendError, Graphs
from inference.backends.tensorrt import TensorRtEngine
from inference.backends.tensorrt_build import build, module_of, plan_of, recipe_of
from inference.predictor import Predictor

BACKEND = "tensorrt-rtx"
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None, reason="TensorRT-RTX is not installed (make setup-rtx)"
)


@pytest.fixture(scope="module")
def trt() -> Any:
    return module_of(BACKEND)


def graphs_of(predictor: Predictor, engines: Path, told: list[str] | None = None) -> Graphs:
    geometry = predictor.bundle.geometry
    return Graphs(
        members=predictor.bundle.members,
        engines=engines,
        digest=predictor.bundle.digest,
        shape=(geometry.channels, geometry.height, geometry.width),
        progress=([] if told is None else told).append,
    )


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_the_ensemble_builds_and_the_engine_is_kept(
    predictor: Predictor, trt: Any, tmp_path: Path, precision: str
) -> None:
    told: list[str] = []
    graphs = graphs_of(predictor, tmp_path, told)
    recipe = recipe_of(trt, graphs, backend=BACKEND, precision=precision, device="ahead of time")
    plan = plan_of(trt, graphs, recipe)
    assert len(plan) > sum(map(len, predictor.bundle.members)) // 4
    assert any("step" in line for line in told)
    told.clear()
    assert plan_of(trt, graphs, recipe) == plan
    assert not told


def test_engines_are_kept_by_everything_that_decides_what_they_are(
    predictor: Predictor, trt: Any, tmp_path: Path
) -> None:
    graphs = graphs_of(predictor, tmp_path)
    recipes = [
        recipe_of(trt, graphs, backend=BACKEND, precision=precision, device=device)
        for precision in ("fp32", "fp16")
        for device in ("one GPU", "another GPU")
    ]
    assert len({recipe.key for recipe in recipes}) == len(recipes)


def test_a_graph_that_cannot_be_parsed_is_told_in_the_parsers_words(
    predictor: Predictor, trt: Any, tmp_path: Path
) -> None:
    graphs = graphs_of(predictor, tmp_path)
    recipe = recipe_of(trt, graphs, backend=BACKEND, precision="fp32", device="ahead of time")
    with pytest.raises(BackendError, match="cannot parse"):
        build(trt, b"no graph", recipe, None, graphs.progress)


def test_without_a_gpu_the_engine_says_so(predictor: Predictor, tmp_path: Path) -> None:
    if cuda.device_name() is not None:
        pytest.skip("there is a GPU: tests/gpu runs on it")
    with pytest.raises(BackendError, match="no GPU"):
        TensorRtEngine(graphs_of(predictor, tmp_path), BACKEND, "fp16")
