"""Splits do not leak, frames are prepared by serving's code, augmentation keeps the region on the tissue."""

import numpy as np
import pytest

from inference.contract import CHANNELS, VIEWS
from training.bundle.configuration import Data, read_experiment
from training.frames.augment import augment, loose, lossy, mirror
from training.frames.data import grade_of, make_split, negative_of, real_frames, study_of
from training.members.batches import Features, batches


def test_patients_of_two_splits_differ():
    fat = {split: [study_of(split, 1, 32, index)[1] for index in range(4)] for split in ("train", "test")}
    assert not set(fat["train"]) & set(fat["test"])


def test_a_study_is_the_same_again():
    (first, fat), (again, same) = (study_of("train", 1, 32, 0) for _ in range(2))
    assert first.shape == (len(VIEWS), len(CHANNELS), 32, 32)
    assert fat == same
    assert np.array_equal(first, again)


def test_real_frames_held_out_are_not_trained_on(tmp_path):
    for index in range(20):
        path = tmp_path / "Normal" / "image" / f"{index}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    train, calibration, test = (set(real_frames(tmp_path, split)) for split in ("train", "calibration", "test"))
    assert len(train) + len(calibration) + len(test) == 20
    assert len(train | calibration | test) == 20
    assert len(calibration) == len(test) == 4


def test_trimmed_studies_are_the_same_patients_seen_otherwise():
    (whole, fat), (trimmed, same) = (study_of("train", 1, 64, 3, trimmed=share) for share in (0.0, 1.0))
    assert fat == same
    assert np.abs(whole - trimmed).mean(axis=(1, 2, 3)).min() > 0.01
    assert np.array_equal(trimmed, study_of("train", 1, 64, 3, trimmed=1.0)[0])


def test_scanners_of_another_site_show_the_same_patient_otherwise():
    (home, fat), (foreign, same) = (study_of("test", 1, 64, 3, foreign=away) for away in (False, True))
    assert fat == same
    assert not np.array_equal(home, foreign)


def test_a_sector_probe_shows_the_same_patient_from_one_point():
    (home, fat), (pie, same) = (study_of("train", 1, 64, 3, phased=share) for share in (0.0, 1.0))
    assert fat == same
    sector = pie[:, CHANNELS.index("sector")] > 0.5
    assert (sector[:, 6].sum(axis=1) < 0.5 * sector[:, 32].sum(axis=1)).all()
    assert not np.array_equal(home, pie)


def test_heavy_patients_are_the_same_but_for_their_body_wall():
    (home, fat), (heavy, same) = (study_of("train", 1, 64, 3, heavy=share) for share in (0.0, 1.0))
    assert fat == same
    assert not np.array_equal(home, heavy)


def test_mirror_takes_the_region_along():
    pixels = np.zeros((4, 10), np.uint8)
    pixels[:, 1:3] = 9
    mirrored, (x0, _, x1, _) = mirror(pixels, (1, 0, 3, 4))
    assert (mirrored[:, x0:x1] == 9).all()


def test_augmented_regions_stay_in_the_picture():
    rng = np.random.default_rng(0)
    for _ in range(50):
        x0, y0, x1, y1 = loose((0, 5, 64, 48), (48, 64), rng)
        assert 0 <= x0 < x1 <= 64
        assert 0 <= y0 < y1 <= 48


def test_augmentation_keeps_shape_and_type():
    pixels = np.random.default_rng(0).integers(0, 255, (48, 64), dtype=np.uint8)
    for seed in range(20):
        changed, _ = augment(pixels, (0, 0, 64, 48), np.random.default_rng(seed))
        assert changed.shape == pixels.shape
        assert changed.dtype == np.uint8
    assert lossy(pixels, 50).shape == pixels.shape


def test_grades_at_the_cut_offs():
    assert grade_of(np.array([6.3, 6.4, 17.4, 22.1])).tolist() == [0, 1, 2, 3]


def test_a_split_is_kept_and_read_again(tmp_path):
    data = Data(seed=3, size=32, train_patients=3, calibration_patients=2, test_patients=2, negatives=8)
    first = make_split("train", data, tmp_path, workers=1)
    again = make_split("train", data, tmp_path, workers=1)
    assert first.views.shape == (3, len(VIEWS), len(CHANNELS), 32, 32)
    assert np.array_equal(first.views, again.views)
    assert len(first.positives) == 0
    assert len(first.negatives) >= 4


def test_some_negatives_are_prepared():
    assert any(negative_of("train", 1, 32, index) is not None for index in range(6))


def test_unknown_keys_of_an_experiment_are_refused(tmp_path):
    path = tmp_path / "odd.toml"
    path.write_text("[data]\ncolour = 3\n[fit]\n[bundle]\n")
    with pytest.raises(ValueError, match="colour"):
        read_experiment(path)


def test_batches_show_one_to_four_views_of_each_patient():
    torch = pytest.importorskip("torch")
    views = np.arange(16 * 4, dtype=np.float16).reshape(16, 4, 1, 1, 1)
    features = Features(
        views=views,
        profiles=np.arange(16 * 4, dtype=np.float32).reshape(16, 4, 1),
        fat_fraction=np.linspace(1, 40, 16, dtype=np.float32),
        negatives=np.full((3, 1, 1, 1), -1, np.float16),
        positives=np.zeros((0, 1, 1, 1), np.float16),
        edits=1000 + np.arange(5 * 3, dtype=np.float16).reshape(5, 3, 1, 1, 1),
        edit_profiles=1000 + np.arange(5 * 3, dtype=np.float32).reshape(5, 3, 1),
        edit_points=np.arange(5 * 3, dtype=np.float32).reshape(5, 3),
        ordered=2000 + np.arange(6, dtype=np.float16).reshape(6, 1, 1, 1),
        order_profiles=2000 + np.arange(6, dtype=np.float32).reshape(6, 1),
        order=np.arange(6, dtype=np.float32),
    )
    batch = next(batches(features, np.arange(16), 8, np.random.default_rng(0)))
    shown = batch.features[: sum(batch.counts), 0, 0, 0].long()
    edits = len(batch.truth.edit_points)
    edited = batch.features[len(shown) : len(shown) + edits, 0, 0, 0]
    ordered = batch.features[len(shown) + edits : len(batch.profiles), 0, 0, 0]
    assert set(batch.counts) <= {1, 2, 3, 4}
    assert torch.equal(shown % 4, batch.truth.view)
    assert len(set((shown // 4).tolist())) == 8
    assert torch.equal(batch.profiles[:, 0], batch.features[: len(batch.profiles), 0, 0, 0])
    assert torch.equal(edited, 1000 + batch.truth.edit_points)
    assert torch.equal(ordered, 2000 + batch.truth.order)
    assert len(ordered) == len(edited) == 4
    assert (edited.long() - 1000).reshape(-1, 2).div(3, rounding_mode="floor").diff(dim=1).eq(0).all()  # of one frame
    assert batch.truth.liver.sum() == len(batch.profiles)
    assert len(batch.features) == len(batch.profiles) + 2
