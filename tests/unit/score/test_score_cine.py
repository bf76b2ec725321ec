"""A long cine costs the frames that are used, and small studies are asked of the model once."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import MPEG4HP41, JPEGBaseline8Bit

from agent.score import pixels as pixels_module
from agent.score.parallel import FRAMES, in_order
from agent.score.pixels import read_frames
from agent.score.reading import read_image
from agent.score.score_study import ScoreLimits, score_study
from inference.predictor import Predictor
from tests.support.ultrasound import image, phantom, saved


def cine_of(frames: int, folder: Path, *, has_bot: bool) -> Path:
    encoded = []
    for number in range(frames):
        buffer = io.BytesIO()
        Image.fromarray(np.roll(phantom().pixels, number, axis=1)).save(buffer, "JPEG", quality=90)
        encoded.append(buffer.getvalue())
    ds = image(1, phantom().pixels)
    ds.NumberOfFrames = frames
    ds.PixelData = encapsulate(encoded, has_bot=has_bot)
    ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
    return saved(ds, folder, JPEGBaseline8Bit)[1]


@pytest.mark.parametrize("has_bot", [True, False])
def test_frames_of_a_cine_are_the_right_ones(tmp_path: Path, has_bot: bool) -> None:
    read = dict(read_frames(read_image(cine_of(12, tmp_path, has_bot=has_bot)), [0, 5, 11]))
    assert list(read) == [0, 5, 11]
    for number, frame in read.items():
        expected = np.roll(phantom().pixels, number, axis=1)
        assert np.abs(np.asarray(frame, np.float32) - expected).mean() < 3


def test_only_the_wanted_frames_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The items between are skipped by their lengths: what is read is the frames, and a header each."""
    path = cine_of(60, tmp_path, has_bot=False)
    taken: list[int] = []

    class Counting(io.FileIO):
        def readinto(self, buffer: Any) -> int:
            taken.append(super().readinto(buffer))
            return taken[-1]

        def readall(self) -> bytes:
            taken.append(len(content := super().readall()))
            return content

    found = read_image(path)
    monkeypatch.setattr(type(found), "open", lambda self: io.BufferedReader(Counting(path, "r"), 1024))
    list(read_frames(found, [10, 55]))
    assert sum(taken) < path.stat().st_size / 4


def test_a_cine_whose_items_are_not_its_frames_is_left_to_pydicom(tmp_path: Path) -> None:
    ds = image(1, phantom().pixels)
    buffer = io.BytesIO()
    Image.fromarray(phantom().pixels).save(buffer, "JPEG", quality=90)
    ds.NumberOfFrames = 2
    ds.PixelData = encapsulate([buffer.getvalue()] * 2, fragments_per_frame=2)
    ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
    found = read_image(saved(ds, tmp_path, JPEGBaseline8Bit)[1])
    assert pixels_module._frame_offsets(found) is None
    assert all(isinstance(frame, np.ndarray) for _, frame in read_frames(found, [0, 1]))


@pytest.mark.parametrize("has_bot", [True, False])
def test_a_video_is_read_with_and_without_an_offset_table(tmp_path: Path, has_bot: bool) -> None:
    drawn = phantom().pixels[:384, :512]
    shape = drawn.shape[0] // 2 * 2, drawn.shape[1] // 2 * 2
    frames = [np.roll(drawn[: shape[0], : shape[1]], 5 * number, axis=1) for number in range(8)]
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=30, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = shape[1], shape[0], "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="gray").reformat(format="yuv420p")))
        container.mux(stream.encode())
    ds = image(1, np.repeat(frames[0][..., None], 3, axis=2), PhotometricInterpretation="YBR_PARTIAL_420")
    ds.NumberOfFrames = len(frames)
    ds.PixelData = encapsulate([buffer.getvalue()], has_bot=has_bot)
    ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
    read = dict(read_frames(read_image(saved(ds, tmp_path, MPEG4HP41)[1]), [1, 6]))
    for number, decoded in read.items():
        assert isinstance(decoded, np.ndarray), decoded
        shown = decoded if decoded.ndim == 2 else decoded[..., 0]
        assert np.abs(shown.astype(np.float32) - frames[number]).mean() < 4


def test_results_come_in_the_order_of_what_was_asked() -> None:
    assert list(in_order(FRAMES, lambda number: number * number, range(50))) == [number**2 for number in range(50)]


def test_what_is_not_taken_is_not_asked_for() -> None:
    asked: list[int] = []
    results = in_order(FRAMES, lambda number: number, (asked.append(number) or number for number in range(1000)))
    next(results)
    assert len(asked) < 50


def test_a_small_study_is_asked_of_the_model_once(tmp_path: Path, predictor: Predictor) -> None:
    runs: list[int] = []

    class Counting(Predictor):
        def predict(self, views: Any) -> Any:
            runs.append(len(views))
            return super().predict(views)

    sources = [saved(image(number, phantom(seed=number).pixels), tmp_path) for number in range(1, 4)]
    counting = Counting(predictor.bundle, predictor.choice)
    outcome, pictures = score_study(sources, counting, ScoreLimits(min_views=1, max_views=8))
    assert outcome.score is not None
    assert len(pictures) == 3
    assert runs == [3]
