"""Frames of the gate: every set of every split is made, each is kept, and no two are the same."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from training.bundle.configuration import read_experiment
from training.frames import gated
from training.frames.data import AUL_HELD_OUT
from training.phantom import Scanner, draw_patient, render_view


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("aul")
    (folder / "Normal" / "image").mkdir(parents=True)
    for index in range(AUL_HELD_OUT):
        rng = np.random.default_rng(index)
        pixels = render_view(draw_patient(rng), "intercostal", Scanner.random(rng)).pixels
        Image.fromarray(pixels).save(folder / "Normal" / "image" / f"{index}.jpg")
    return replace(read_experiment("reference").data, size=48, negatives=24, real_frames=str(folder))


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(gated, "PHANTOMS", {"train": 4, "calibration": 2, "test": 2})


def test_every_set_is_made_kept_and_read_again(data, few, tmp_path):
    frames = gated.gate_frames(data, "train", tmp_path)
    assert set(frames.others) == {name for names in gated.SORTS.values() for name in names}
    assert {*gated.KEPT, *(f"phantoms, {way}" for way in gated.KEPT)} < set(frames.livers)
    for way in gated.KEPT:
        assert len(frames.livers[f"phantoms, {way}"]) == 4
        assert len(frames.livers[way]) == (AUL_HELD_OUT - 2) * (1 if way == "whole" else gated.CUTS)
    for name, part in frames.others.items():
        assert len(part) > 0, name
    assert len(frames) == sum(len(part) for part in (*frames.livers.values(), *frames.others.values()))
    shown = np.concatenate([*frames.livers.values(), *frames.others.values()])
    assert shown.shape[1:] == (3, 48, 48)
    assert shown.dtype == np.float16
    assert len(np.unique(shown.reshape(len(shown), -1), axis=0)) == len(shown)
    (tmp_path / "train" / "echoes.npy").unlink()
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")}
    again = gated.gate_frames(data, "train", tmp_path)
    assert {path: path.stat().st_mtime_ns for path in times} == times
    np.testing.assert_array_equal(again.others["echoes"], frames.others["echoes"])


def test_splits_share_no_frame(data, few):
    first, other = (gated.gate_frames(data, split) for split in ("calibration", "test"))
    for name in ("phantoms, whole", "echoes", "pictures", "cut", "met"):
        for one in (first.livers | first.others)[name]:
            assert not any(np.array_equal(one, two) for two in (other.livers | other.others)[name])


def test_without_real_frames_only_drawn_ones_are_left(data, few):
    frames = gated.gate_frames(replace(data, real_frames=""), "calibration")
    assert not len(frames.livers["whole"])
    assert frames.others["met"].shape == (0, 3, 48, 48)
    assert len(frames.livers["phantoms, cut"]) == 2
