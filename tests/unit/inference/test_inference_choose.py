"""The fastest engine that gives back the golden vectors scores; one that fails later is replaced, and says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference.backends.interface import BackendError
from inference.backends.registry import AUTO, CANDIDATES, LAST_RESORT
from inference.choose import Choice, remembered
from inference.predictor import Predictor
from inference.verify import verify

BUNDLE = Path(__file__).resolve().parents[3] / "inference" / "bundles" / "reference"


class FailingEngine:
    """An engine that breaks while it runs, as one does whose device is taken away."""

    name = "failing"
    precision = "fp32"

    def run(self, views: Any) -> Any:
        raise BackendError("the device is gone")


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("engines")


@pytest.fixture(scope="module")
def chosen(engines: Path) -> Predictor:
    return Predictor.open(BUNDLE, AUTO, engines=engines)


def test_the_fastest_that_agrees_is_taken(chosen: Predictor) -> None:
    timed = [one for one in chosen.choice.tried if one.milliseconds is not None]
    assert {one.backend for one in timed} >= {"openvino", "onnxruntime"}
    assert all(one.agrees for one in timed)
    best = min(timed, key=lambda one: one.milliseconds or 0.0)
    assert (chosen.identity.backend, chosen.identity.precision) == (best.backend, best.precision)
    assert verify(chosen).ok


def test_every_candidate_is_tried_and_says_what_came_of_it(chosen: Predictor) -> None:
    assert len(chosen.choice.tried) == len(CANDIDATES)
    assert all(one.remark for one in chosen.choice.tried)


def test_the_choice_is_remembered(chosen: Predictor, engines: Path) -> None:
    again = Predictor.open(BUNDLE, AUTO, engines=engines)
    assert again.choice.remembered
    assert again.identity == chosen.identity
    assert again.choice.tried == chosen.choice.tried


@pytest.mark.parametrize("content", ["", "[]", "{}", '[{"backend": "abacus"}]', "[1]"])
def test_a_spoilt_memory_is_no_memory(tmp_path: Path, content: str) -> None:
    memory = tmp_path / "choice.json"
    memory.write_text(content)
    assert remembered(memory) == ()


def test_a_named_engine_is_taken_at_its_fastest_precision_that_agrees(tmp_path: Path) -> None:
    predictor = Predictor.open(BUNDLE, "openvino", engines=tmp_path)
    assert predictor.identity.backend == "openvino"
    assert {one.backend for one in predictor.choice.tried} == {"openvino"}
    assert verify(predictor).ok


def test_another_bundle_is_another_question(chosen: Predictor, engines: Path, copy: Path) -> None:
    description = json.loads((copy / "bundle.json").read_text())
    (copy / "bundle.json").write_text(json.dumps(description | {"version": "0"}))
    assert not Predictor.open(copy, AUTO, engines=engines).choice.remembered


def test_where_no_engine_agrees_the_exact_one_is_taken_and_says_so(tmp_path: Path, copy: Path) -> None:
    description = json.loads((copy / "bundle.json").read_text())
    description["members"].reverse()
    (copy / "bundle.json").write_text(json.dumps(description))
    predictor = Predictor.open(copy, AUTO, engines=tmp_path)
    assert not predictor.choice.agrees
    assert predictor.identity.backend == LAST_RESORT
    assert not list(tmp_path.glob("choice-*.json"))


def test_an_engine_that_fails_is_replaced_and_the_study_is_scored(predictor: Predictor) -> None:
    choice = Choice(engine=FailingEngine(), tried=(), remembered=False, agrees=True)
    broken = Predictor(predictor.bundle, choice)
    assert broken.identity.backend == "failing"
    g = predictor.bundle.geometry
    views = np.random.default_rng(0).random((3, g.channels, g.height, g.width)).astype(np.float32)
    prediction = broken.predict(views)
    np.testing.assert_allclose(prediction.probabilities, predictor.predict(views).probabilities, atol=1e-5)
    assert broken.identity.backend == f"{LAST_RESORT} (failing failed)"
    assert broken.fault == "the device is gone"


def test_a_folder_that_cannot_be_written_only_forgets(tmp_path: Path) -> None:
    occupied = tmp_path / "engines"
    occupied.write_text("a file where the folder should be")
    predictor = Predictor.open(BUNDLE, "openvino", engines=occupied)
    assert predictor.choice.agrees
    assert occupied.is_file()
