"""Counting what the gate takes: serving's own steps, on frames of each kind."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from agent.score import candidates
from inference.predictor import Predictor
from inference.quality import colour_fraction
from inference.sector import find_sector
from training.evaluation.refusals import (
    COLOURED,
    LEAST_QUALITY,
    cine_refused_for,
    counts,
    heart_counts,
    refused_for,
    with_flow,
)
from training.evaluation.robustness import POINTS, WAYS, _ordered, responses
from training.phantom import PRESETS, draw_patient, render_view

FOLDER = Path(__file__).resolve().parents[2] / "inference" / "bundles" / "reference"


@pytest.fixture(scope="module")
def predictor():
    return Predictor.open(FOLDER, "onnxruntime")


@pytest.fixture(scope="module")
def frame():
    return render_view(draw_patient(np.random.default_rng(0)), "intercostal", next(iter(PRESETS.values()))).pixels


def test_thresholds_are_servings():
    assert candidates._COLOURED == COLOURED
    assert candidates._LEAST_QUALITY == LEAST_QUALITY


def test_reasons_are_told(predictor, frame):
    assert refused_for(predictor, frame) is None
    assert refused_for(predictor, np.zeros_like(frame)) == "no sector"
    assert refused_for(predictor, with_flow(frame, np.random.default_rng(1))) == "colour"
    noise = np.random.default_rng(0).integers(0, 256, frame.shape).astype(np.uint8)
    assert refused_for(predictor, noise) == "not liver"


def test_a_cine_is_taken_where_any_frame_asked_of_it_is(predictor, frame):
    noise = np.random.default_rng(0).integers(0, 256, frame.shape).astype(np.uint8)
    liver, other, nothing = (frame, None), (noise, None), (np.zeros_like(frame), None)
    assert cine_refused_for(predictor, [liver] * 3) is None
    assert cine_refused_for(predictor, [liver, other, other, nothing]) is None
    assert cine_refused_for(predictor, [other] * 4) == "not liver"
    assert cine_refused_for(predictor, [nothing]) == "no sector"


def test_flow_is_colour_inside_the_sector_and_nothing_else(frame):
    shown = with_flow(frame, np.random.default_rng(1))
    sector = find_sector(frame)
    assert colour_fraction(shown, sector) > COLOURED
    assert np.array_equal(shown[~sector], np.stack([frame] * 3, axis=-1)[~sector])


def test_the_shipped_gate_treats_nearly_all_as_it_ought(predictor, tmp_path):
    Image.fromarray(np.tile(np.arange(256, dtype=np.uint8), (200, 1))).save(tmp_path / "ramp.png")
    found = [*counts(predictor, None, [tmp_path / "ramp.png"], 6), *heart_counts(predictor)]
    hearts = {one.name: one for one in found if one.name.startswith("hearts of the pydicom package")}
    assert {one.name for one in found} >= {
        "liver, phantoms",
        "liver, phantom cines",
        "hearts, drawn cines",
        "noise edge to edge",
        *hearts,
    }
    assert [one.frames for one in hearts.values()] == [31, 2]
    assert all(one.frames >= 1 for one in found)
    others = [one for one in found if not one.liver and one.name not in hearts]
    assert sum(one.taken for one in others) <= 0.05 * sum(one.frames for one in others)
    assert (
        hearts["hearts of the pydicom package, frames"].right >= 0.8
    )  # 95 % is wanted and missed (training/RESULTS.md); no fewer than are refused now
    assert next(one for one in found if one.liver).right > 0.8


def test_order_counts_pairs_of_edits():
    assert _ordered(np.array([[0.0, 1.0, 2.0]])) == 1.0
    assert _ordered(np.array([[2.0, 1.0, 0.0]])) == 0.0


def test_evidence_follows_edits_of_frames_with_outlines(predictor, frame, tmp_path):
    for folder in ("image", "segmentation/liver"):
        (tmp_path / "Normal" / folder).mkdir(parents=True)
    Image.fromarray(frame).save(tmp_path / "Normal" / "image" / "1.jpg")
    rows, columns = frame.shape
    corners = [[x * columns, y * rows] for x, y in ((0.3, 0.3), (0.7, 0.3), (0.7, 0.7), (0.3, 0.7))]
    (tmp_path / "Normal" / "segmentation" / "liver" / "1.json").write_text(str(corners))
    found = list(responses(predictor, tmp_path, every=1))
    assert [one.way for one in found] == list(WAYS)
    assert found[0].shift == 0.0
    assert found[0].gained > 0.0
    assert POINTS[0] < 0 < POINTS[-1]
