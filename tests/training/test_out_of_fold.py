"""Calibration is judged on patients that it was not fitted to."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from inference.bundle import Bundle, read_calibration
from inference.contract import (
    OUTPUT_FAT_FRACTION,
    OUTPUT_GRADE_LOGITS,
    OUTPUT_LIVER_LOGIT,
    OUTPUT_SALIENCY,
    OUTPUT_VIEW_GRADE_LOGITS,
    OUTPUT_VIEW_LOGITS,
    OUTPUT_VIEW_WEIGHTS,
)
from training.bundle import fresh
from training.bundle.calibrate import Scored, calibrate
from training.bundle.commands import SHIPPED, calibration
from training.bundle.out_of_fold import FOLDS, tried
from training.phantom.patient import PDFF_CUT_OFFS

PATIENTS = 1000


def _answer(logits, fat, views):
    return {
        OUTPUT_GRADE_LOGITS: logits,
        OUTPUT_FAT_FRACTION: np.array([fat]),
        OUTPUT_LIVER_LOGIT: np.ones(views),
        OUTPUT_SALIENCY: np.zeros((views, 4, 1, 1)),
        OUTPUT_VIEW_GRADE_LOGITS: np.tile(logits, (views, 1)),
        OUTPUT_VIEW_LOGITS: np.zeros((views, 4)),
        OUTPUT_VIEW_WEIGHTS: np.full(views, 1 / views),
    }


def _site(sureness, seed):
    """Answers whose logits are so many times too large."""
    rng = np.random.default_rng(seed)
    middles = np.array([0.0, *PDFF_CUT_OFFS]) + 3.0
    outputs, truth, counts = [], [], []
    for _ in range(PATIENTS):
        logits = rng.normal(0, 1.2, 4)
        share = np.exp(logits) / np.exp(logits).sum()
        fat = float(middles[rng.choice(4, p=share)])
        for views in (1, 2, 3, 4):
            outputs.append([_answer(sureness * logits, fat + rng.normal(0, 3), views)])
            truth.append(fat)
            counts.append(views)
    return Scored(outputs=outputs, fat_fraction=np.array(truth), views=np.array(counts))


@pytest.fixture(scope="module")
def found():
    sites = {"home": _site(1.0, 0), "foreign": _site(3.0, 1)}
    fitted = read_calibration(calibrate(_site(1.0, 2), 0.9, 3)["calibration"])
    return list(tried(sites, {"shipped": fitted}, [("home",), ("home", "foreign")], 3))


def _errors(found, fitted, site):
    return [one.error for one in found if (one.fitted, one.site) == (fitted, site)]


def test_every_calibration_is_tried_on_every_site_with_every_number_of_views(found):
    assert len(found) == 3 * 2 * 4
    assert {one.patients for one in found} == {PATIENTS}
    assert all(one.error[1] <= one.error[2] and 0 < one.by_chance < 0.05 for one in found)


def test_what_is_calibrated_at_home_is_seen_to_be(found):
    for fitted in ("shipped", "out of fold, home"):
        assert all(error[0] < 0.05 for error in _errors(found, fitted, "home"))
        assert all(error[0] > 0.08 for error in _errors(found, fitted, "foreign"))
    covered = [one.set_coverage[0] for one in found if one.fitted != "shipped" and one.site == "home"]
    assert covered[:4] == pytest.approx([0.9] * 4, abs=0.03)


def test_a_mixture_lies_between(found):
    alone, mixed = (_errors(found, f"out of fold, {sites}", "foreign") for sites in ("home", "home and foreign"))
    assert all(one[0] > other[0] for one, other in zip(alone, mixed, strict=True))


def test_a_patient_is_in_one_fold():
    scored = _site(1.0, 4)
    from training.bundle.out_of_fold import _folds

    folds = _folds(scored).reshape(-1, 4)
    assert (folds == folds[:, :1]).all()
    assert np.bincount(folds[:, 0]).tolist() == [PATIENTS // FOLDS] * FOLDS


def test_the_command_says_it_of_a_bundle_and_a_seed_makes_other_patients(tmp_path, monkeypatch):
    monkeypatch.setattr(fresh, "CHUNK", 10)
    told = []
    for more in (("--foreign", "10"), ("--foreign", "0", "--seed", "20261212", "--workers", "2")):
        options = ["--home", "20", *more, "--keep", str(tmp_path), "--out", str(tmp_path / "told.json")]
        done = CliRunner().invoke(calibration, options)
        assert done.exit_code == 0, done.output
        rows = json.loads((tmp_path / "told.json").read_text())
        assert done.output.count("\n| ") == len(rows) + 1
        told.append(rows)
    assert [len(rows) for rows in told] == [3 * 2 * 4, 2 * 4]
    assert told[0][0]["fitted"] == f"{Bundle.load(SHIPPED).version}, as it ships"
    home, other = ({row["brier"] for row in rows if row["site"] == "home"} for rows in told)
    assert not home & other
