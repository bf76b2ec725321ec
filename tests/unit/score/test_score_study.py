"""Scoring whole studies with the shipped bundle: choice of frames, reasons, refusals, and what must not matter."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import JPEGBaseline8Bit

from agent.domain.score import Quality, Refusal, ScoreOutcome
from agent.domain.study import Instance
from agent.score.choice import BETTER, NOT_LIVER
from agent.score.score_study import ScoreLimits, score_study
from agent.store.result_files import ViewPicture
from inference.contract import VIEWS
from inference.predictor import Predictor
from tests.support.ultrasound import image, jpeg, phantom, region, saved

Source = tuple[Instance, Path]
LIMITS = ScoreLimits(min_views=1, max_views=6)


def view(number: int, name: str, *, fat: float = 12.0, seed: int = 0) -> Dataset:
    frame = phantom(name, fat=fat, seed=seed)
    return image(number, frame.pixels, SequenceOfUltrasoundRegions=[region(frame.region)])


@pytest.fixture
def study(tmp_path: Path) -> list[Source]:
    return [saved(view(number, name), tmp_path) for number, name in enumerate(VIEWS[:3], 1)]


def scored(
    sources: list[Source], predictor: Predictor, limits: ScoreLimits = LIMITS
) -> tuple[ScoreOutcome, tuple[ViewPicture, ...]]:
    outcome, pictures = score_study(sources, predictor, limits)
    assert (outcome.score is None) != (outcome.refusal is None)
    assert {use.sop_instance_uid for use in outcome.views} == {source[0].sop_instance_uid for source in sources}
    assert all(use.used == (use.reason is None) for use in outcome.views)
    assert len(pictures) == sum(use.used for use in outcome.views)
    return outcome, pictures


def test_three_views(study: list[Source], predictor: Predictor) -> None:
    outcome, pictures = scored(study, predictor)
    assert outcome.score is not None
    assert sum(outcome.score.probabilities.values()) == pytest.approx(1.0, abs=1e-5)
    low, high = outcome.score.fat_fraction_interval
    assert low <= outcome.score.fat_fraction_percent <= high
    assert outcome.score.grade in outcome.score.grade_set
    assert sum(use.weight or 0.0 for use in outcome.views) == pytest.approx(1.0, abs=1e-4)
    for picture in pictures:
        assert picture.saliency.shape == picture.source.shape[:2] == picture.sector.shape
        assert picture.saliency.max() > 0.5
        assert not picture.saliency[~picture.sector].any()


def test_neither_order_nor_repetition_changes_anything(study: list[Source], predictor: Predictor) -> None:
    first, pictures = scored(study, predictor)
    shuffled = study[:]
    random.Random(3).shuffle(shuffled)
    again, others = scored(shuffled, predictor)
    assert again == first
    for one, other in zip(pictures, others, strict=True):
        np.testing.assert_array_equal(one.saliency, other.saliency)


def test_fatter_livers_score_higher(tmp_path: Path, predictor: Predictor) -> None:
    """Four patients at either end: what the picture shows decides, not chance."""
    estimates: dict[float, list[float]] = {2.0: [], 32.0: []}
    for fat, found in estimates.items():
        for seed in range(4):
            folder = tmp_path / f"{fat}-{seed}"
            folder.mkdir()
            sources = [saved(view(n, name, fat=fat, seed=seed), folder) for n, name in enumerate(VIEWS[:3], 1)]
            outcome, _ = scored(sources, predictor)
            assert outcome.score is not None
            found.append(outcome.score.fat_fraction_percent)
    assert max(estimates[2.0]) < min(estimates[32.0])


def test_one_view_is_limited_and_says_why(study: list[Source], predictor: Predictor) -> None:
    outcome, _ = scored(study[:1], predictor)
    assert outcome.score is not None
    assert outcome.score.quality is Quality.LIMITED
    assert any("1 of 3 views" in limit for limit in outcome.score.limits)


def test_fewer_views_than_the_site_requires(study: list[Source], predictor: Predictor) -> None:
    outcome, _ = scored(study[:2], predictor, ScoreLimits(min_views=3, max_views=6))
    assert outcome.refusal is Refusal.TOO_FEW_VIEWS
    assert outcome.detail == "2 usable of 3 required"


def test_more_views_than_the_site_takes(study: list[Source], predictor: Predictor) -> None:
    outcome, _ = scored(study, predictor, ScoreLimits(min_views=1, max_views=2))
    assert [use.reason for use in outcome.views if not use.used] == [BETTER]


def test_the_same_picture_twice_does_not_count_twice(study: list[Source], predictor: Predictor) -> None:
    """A frozen picture is often saved again; four pictures of three views use the three."""
    instance, path = study[0]
    copy = replace(instance, sop_instance_uid=f"{instance.sop_instance_uid}.9", id=9)
    outcome, _ = scored([*study, (copy, path)], predictor)
    used = {use.sop_instance_uid for use in outcome.views if use.used}
    assert len(used) == 3
    assert {study[1][0].sop_instance_uid, study[2][0].sop_instance_uid} < used


def test_of_two_versions_the_one_that_came_first_is_scored(study: list[Source], predictor: Predictor) -> None:
    instance, path = study[0]
    other = replace(instance, conflict=True, sha256="0" * 64)
    outcome, _ = scored([(other, path), *study], predictor)
    of_both = [use for use in outcome.views if use.sop_instance_uid == instance.sop_instance_uid]
    assert sorted(use.reason or "" for use in of_both) == ["", "another version of this instance is scored"]


def cine(frames: list[NDArray[np.uint8]], number: int = 1) -> Dataset:
    ds = image(number, np.stack(frames), NumberOfFrames=str(len(frames)))
    ds.PixelData = jpeg(frames)
    return ds


def test_a_cine_whose_first_frames_are_dark_is_scored_by_another(tmp_path: Path, predictor: Predictor) -> None:
    whole = phantom(VIEWS[0]).pixels
    frames = [(whole * share).astype(np.uint8) for share in (0.02, 0.1, 1.0, 0.3)]
    outcome, _ = scored([saved(cine(frames), tmp_path, JPEGBaseline8Bit)], predictor)
    assert [use.frame for use in outcome.views] == [1, 2, 3, 4]
    used = [use.frame for use in outcome.views if use.used]
    assert 3 in used
    assert 1 not in used


def test_a_cine_does_not_crowd_out_other_views(study: list[Source], tmp_path: Path, predictor: Predictor) -> None:
    frames = [phantom(VIEWS[3], seed=seed).pixels for seed in range(5)]
    outcome, _ = scored([*study, saved(cine(frames, 8), tmp_path, JPEGBaseline8Bit)], predictor)
    used = [use.sop_instance_uid for use in outcome.views if use.used]
    assert len(used) == len(set(used)) == 4


def test_colour_flow_is_told_by_its_pixels(tmp_path: Path, predictor: Predictor) -> None:
    pixels = np.stack([phantom(VIEWS[1]).pixels] * 3, axis=-1)
    pixels[200:280, 280:380] = (220, 40, 0)
    outcome, _ = scored([saved(image(1, pixels), tmp_path)], predictor)
    assert outcome.refusal is Refusal.NO_USABLE_VIEW
    assert outcome.views[0].reason == "colour flow or overlay in the picture"


def test_a_tinted_map_is_no_colour_flow(tmp_path: Path, predictor: Predictor) -> None:
    grey = phantom(VIEWS[1]).pixels.astype(float)
    tinted = np.stack([grey, grey * 0.85, grey * 0.6], axis=-1).astype(np.uint8)
    outcome, _ = scored([saved(image(1, tinted), tmp_path)], predictor)
    assert outcome.score is not None


def test_of_a_split_screen_the_half_with_tissue_is_scored(tmp_path: Path, predictor: Predictor) -> None:
    frame = phantom(VIEWS[0]).pixels
    screen = np.concatenate([np.zeros_like(frame), frame], axis=1)
    rows, columns = frame.shape
    halves = [region((0, 0, columns, rows)), region((columns, 0, 2 * columns, rows))]
    outcome, pictures = scored([saved(image(1, screen, SequenceOfUltrasoundRegions=halves), tmp_path)], predictor)
    assert outcome.score is not None
    (alone,) = scored([saved(image(2, frame), tmp_path)], predictor)[1]
    assert pictures[0].source.shape == alone.source.shape


def test_burnt_in_text_beside_the_sector_changes_nothing(tmp_path: Path, predictor: Predictor) -> None:
    frame = phantom(VIEWS[0])
    marked = frame.pixels.copy()
    marked[:40, :120][~frame.sector[:40, :120]] = 255
    plain, _ = scored([saved(image(1, frame.pixels), tmp_path)], predictor)
    other, _ = scored([saved(image(1, marked), tmp_path)], predictor)
    assert plain.score is not None
    assert other.score is not None
    assert other.score.fat_fraction_percent == pytest.approx(plain.score.fat_fraction_percent, abs=0.05)


@pytest.mark.parametrize(
    ("pixels", "reason"),
    [
        (np.zeros((480, 640), np.uint8), "no ultrasound sector found"),
        (np.full((480, 640), 128, np.uint8), "no ultrasound sector found"),
        (np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8), "colour flow or overlay in the picture"),
    ],
)
def test_what_is_no_picture_of_tissue(
    pixels: NDArray[np.uint8], reason: str, tmp_path: Path, predictor: Predictor
) -> None:
    outcome, _ = scored([saved(image(1, pixels), tmp_path)], predictor)
    assert outcome.refusal is Refusal.NO_USABLE_VIEW
    assert outcome.views[0].reason == reason


def test_noise_is_not_liver(tmp_path: Path, predictor: Predictor) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (480, 640), np.uint8)
    outcome, _ = scored([saved(image(1, noise), tmp_path)], predictor)
    assert outcome.refusal is Refusal.NOT_LIVER
    assert outcome.views[0].reason == NOT_LIVER


def test_a_study_of_which_nothing_may_be_scored(study: list[Source], predictor: Predictor) -> None:
    reports = [
        (replace(one, may_be_scored=False, not_scored_reason="not an ultrasound image"), path) for one, path in study
    ]
    outcome, _ = scored(reports, predictor)
    assert outcome.refusal is Refusal.NO_ULTRASOUND_IMAGE


def test_a_study_of_which_nothing_can_be_decoded(tmp_path: Path, predictor: Predictor) -> None:
    ds = view(1, VIEWS[0])
    ds.PixelData = ds.PixelData[:1000]
    outcome, _ = scored([saved(ds, tmp_path)], predictor)
    assert outcome.refusal is Refusal.UNDECODABLE


def test_a_damaged_instance_loses_no_study(study: list[Source], tmp_path: Path, predictor: Predictor) -> None:
    broken = saved(view(7, VIEWS[3]), tmp_path)
    broken[1].write_bytes(b"no DICOM at all")
    missing = saved(view(8, VIEWS[3]), tmp_path)
    missing[1].unlink()
    outcome, _ = scored([*study, broken, missing], predictor)
    assert outcome.score is not None
    assert sum(use.used for use in outcome.views) == 3


def test_the_header_names_the_view(tmp_path: Path, predictor: Predictor) -> None:
    ds = view(1, VIEWS[0])
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "1197041002", "SCT", "Intercostal"
    ds.ViewCodeSequence = [code]
    outcome, _ = scored([saved(ds, tmp_path)], predictor)
    assert outcome.views[0].view == "intercostal"
    assert outcome.views[0].view_probability is None


def test_the_outcome_survives_json(study: list[Source], predictor: Predictor) -> None:
    outcome, _ = scored(study, predictor)
    assert ScoreOutcome.from_dict(json.loads(json.dumps(outcome.as_dict()))) == outcome
