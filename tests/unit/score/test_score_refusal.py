"""What is not liver B-mode is refused, what is is taken: the shipped bundle behind the service's own frame choice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.data import get_testdata_file

from agent.score.choice import BETTER
from agent.score.score_study import ScoreLimits, score_study
from inference.contract import VIEWS
from inference.predictor import Predictor
from tests.support.ultrasound import image, phantom, saved
from training.phantom import NEGATIVES, Scanner, draw_patient, render_negative, render_view

EACH = 12
SEED = 905_011
"""Of no experiment's data."""


def accepted(frames: Iterator[NDArray[np.uint8]], folder: Path, predictor: Predictor) -> tuple[int, int]:
    """How many of the frames the service would score, and how many there are."""
    sources = [saved(image(number, pixels), folder) for number, pixels in enumerate(frames, 1)]
    outcome, _ = score_study(sources, predictor, ScoreLimits(min_views=1, max_views=6))
    return sum(use.used or use.reason == BETTER for use in outcome.views), len(sources)


def livers() -> Iterator[NDArray[np.uint8]]:
    for index in range(EACH):
        rng = np.random.default_rng([SEED, index])
        patient, scanner = draw_patient(rng), Scanner.random(rng)
        for view in VIEWS[:3]:
            yield render_view(patient, view, scanner).pixels


def doppler() -> Iterator[NDArray[np.uint8]]:
    """Liver with a colour box: flow towards the transducer red, away from it blue."""
    for index in range(EACH):
        rng = np.random.default_rng([SEED, 1, index])
        frame = phantom(VIEWS[index % 3], fat=float(rng.uniform(1, 30)), seed=index)
        coloured = np.repeat(frame.pixels[..., None], 3, axis=-1)
        rows, columns = np.nonzero(frame.liver)
        y, x = int(np.median(rows)), int(np.median(columns))
        box = coloured[y - 50 : y + 50, x - 60 : x + 60]
        flow = rng.random(box.shape[:2]) < rng.uniform(0.1, 0.5)
        box[flow] = [200, 40, 20] if index % 2 else [30, 60, 220]
        yield coloured


def test_livers_are_taken(tmp_path: Path, predictor: Predictor) -> None:
    taken, count = accepted(livers(), tmp_path, predictor)
    assert taken >= 0.9 * count


@pytest.mark.parametrize("kind", NEGATIVES)
def test_other_pictures_are_refused(kind: str, tmp_path: Path, predictor: Predictor) -> None:
    frames = (render_negative(kind, np.random.default_rng([SEED, 2, index])) for index in range(EACH))
    taken, _ = accepted(frames, tmp_path, predictor)
    assert taken <= 1


def test_colour_flow_is_refused(tmp_path: Path, predictor: Predictor) -> None:
    taken, _ = accepted(doppler(), tmp_path, predictor)
    assert taken == 0


@pytest.mark.parametrize("name", ["examples_ybr_color.dcm", "examples_palette.dcm", "examples_rgb_color.dcm"])
def test_cardiac_examples_of_pydicom_are_refused(name: str, tmp_path: Path, predictor: Predictor) -> None:
    path = Path(get_testdata_file(name))
    dataset = pydicom.dcmread(path)
    outcome, _ = score_study(
        [saved(dataset, tmp_path, str(dataset.file_meta.TransferSyntaxUID))],
        predictor,
        ScoreLimits(min_views=1, max_views=6),
    )
    assert outcome.refusal is not None
