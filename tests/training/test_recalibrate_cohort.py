"""Calibration on a cohort moves what a bundle came with, judges nobody by themselves, and says what it left alone."""

import csv
import json
import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from inference.bundle import Bundle, read_calibration
from inference.contract import GRADES, VIEWS
from inference.ensemble import combine
from inference.predictor import Predictor
from inference.verify import verify
from tests.training.test_out_of_fold import _answer
from training.__main__ import main
from training.bundle import recalibrate_cohort
from training.bundle.cohort_fit import LEAST_PATIENTS, Labelled, fit, why_no_fat, why_not
from training.bundle.commands import SHIPPED
from training.cohort.answers import Answered
from training.cohort.as_served import Answer
from training.cohort.manifest import Frame
from training.evaluation.figures import figures
from training.evaluation.predictions import read_predictions
from training.metrics import calibration_error
from training.phantom import Scanner, draw_patient, render_view
from training.phantom.patient import PDFF_CUT_OFFS

BASE = json.loads((SHIPPED / "bundle.json").read_text())["calibration"]
SURE, OFFSETS = 2.5, np.array([0.0, 1.0, 0.5, -0.5])
MIDDLES = np.array([3.0, 11.0, 20.0, 30.0])


def cohort(count, seed, views=(3,)):
    """Patients of another hospital: logits too sure and shifted, fat on another line, with more error for few views."""
    rng = np.random.default_rng(seed)
    outputs, grades, fat, seen = [], [], [], []
    for place in range(count):
        truth = rng.normal(0, 1.5, 4)
        share = np.exp(truth) / np.exp(truth).sum()
        grade = int(rng.choice(4, p=share))
        number = views[place % len(views)]
        entry = BASE["scaling_by_views"][str(number)]
        said = (SURE * (truth - OFFSETS) - np.array(entry["offsets"])) * entry["temperature"]
        own = MIDDLES[grade] + rng.uniform(-2, 2)
        spread = 3.0 * BASE["fat_fraction_interval"]["quantiles_by_views"][str(number)][1] / 10.0
        outputs.append([_answer(said, (own - rng.normal(0, spread) - 4.0) / 1.5, number)])
        grades.append(grade)
        fat.append(own)
        seen.append(number)
    return Labelled(
        outputs=outputs,
        views=np.array(seen),
        grades=np.array(grades),
        fat=np.array(fat),
        patients=np.array([f"p{place}" for place in range(count)]),
    )


def told(labelled, calibration):
    return [combine(study, read_calibration(calibration)) for study in labelled.outputs]


def covered(said, labelled):
    """Shares of patients whose interval, and whose grade set, holds the truth."""
    ends = np.array([one.fat_fraction_interval for one in said])
    in_set = [GRADES[grade] in one.grade_set for one, grade in zip(said, labelled.grades, strict=True)]
    return [np.mean((ends[:, 0] <= labelled.fat) & (labelled.fat <= ends[:, 1])), np.mean(in_set)]


@pytest.fixture(autouse=True)
def few_rounds(monkeypatch):
    """Intervals are the bootstrap's affair, and tested there."""
    monkeypatch.setattr(recalibrate_cohort, "figures", partial(figures, rounds=20))


def test_it_undoes_what_is_wrong_here_for_any_number_of_views():
    fitted = fit(cohort(300, 0), BASE, fat=True)
    own, came = fitted["calibration"]["scaling_by_views"], BASE["scaling_by_views"]
    assert own["3"]["temperature"] / came["3"]["temperature"] == pytest.approx(SURE, rel=0.2)
    for number in (1, 2, 3, 4):  # of which the cohort had three only
        fresh = cohort(2000, 10 + number, views=(number,))
        said = told(fresh, fitted["calibration"])
        errors = [
            calibration_error(np.array([one.steatosis_probability for one in answers]), fresh.grades >= 1)
            for answers in (said, told(fresh, BASE))
        ]
        assert errors[0] < 0.5 * errors[1]
        assert np.abs(np.mean([one.fat_fraction_percent for one in said]) - fresh.fat.mean()) < 0.5
        assert covered(said, fresh) == pytest.approx([0.9, 0.9], abs=0.04)
    assert np.mean([one.fat_fraction_interval[1] - one.fat_fraction_interval[0] for one in said]) < 20


def test_the_smallest_cohort_still_covers():
    found = []
    fresh = cohort(400, 99, views=(1, 2, 3, 4))
    for seed in range(12):
        said = told(fresh, fit(cohort(LEAST_PATIENTS, seed), BASE, fat=True)["calibration"])
        found.append(covered(said, fresh))
    assert np.mean(found, axis=0).min() > 0.87


def test_without_fat_fractions_its_line_and_interval_stay():
    fitted = fit(cohort(100, 1), BASE, fat=False)["calibration"]
    for part in ("fat_fraction", "fat_fraction_interval"):
        assert fitted[part] == BASE[part]
    assert fitted["scaling_by_views"] != BASE["scaling_by_views"]


def test_a_bundle_with_one_scaling_for_all_is_moved_as_well():
    plain = {name: value for name, value in BASE.items() if name != "scaling_by_views"} | {"temperature": 1.0}
    fitted = fit(cohort(300, 2), plain, fat=True)["calibration"]
    assert list(fitted["scaling_by_views"]) == ["1"]
    assert fitted["scaling_by_views"]["1"]["temperature"] == pytest.approx(fitted["temperature"])


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"fat": lambda one: np.where(np.arange(len(one)) < 39, one.fat, np.nan)}, "was measured in 39 patients"),
        ({"fat": lambda one: np.where(one.grades >= 1, one.fat, np.nan)}, "0 have no steatosis"),
        ({"fat": lambda one: 50 - one.fat}, "does not rise with the measured fat fraction"),
        ({}, ""),
    ],
)
def test_why_the_fat_fraction_is_left_alone(changed, words):
    one = cohort(120, 3)
    found = why_no_fat(replace(one, **{name: change(one) for name, change in changed.items()}))
    assert words in found
    assert bool(found) == bool(words)


def test_too_few_patients_or_one_class_are_refused():
    one = cohort(200, 4)
    assert not why_not(one)
    assert "39 patients could be scored" in why_not(one.some(np.arange(39)))
    assert "0 patients have no steatosis" in why_not(one.some(one.grades >= 1))
    assert "0 have some" in why_not(cohort(400, 5).some(cohort(400, 5).grades < 1))


def test_a_patient_counts_once_with_the_first_study():
    one = cohort(60, 6)
    twice = replace(one, patients=np.repeat([f"p{place}" for place in range(30)], 2))
    first = twice.first_of_each()
    assert len(first) == 30
    assert first.raw_fat.tolist() == one.raw_fat[::2].tolist()


def answered(labelled):
    """Studies as if they had been scored."""
    for place, outputs in enumerate(labelled.outputs):
        percent = None if np.isnan(labelled.fat[place]) else float(np.clip(labelled.fat[place], 0, 100))
        row = Frame(
            patient=str(labelled.patients[place]), study=f"s{place}", file="x.png", label_source="mri-pdff",
            grade=int(labelled.grades[place]), fat_fraction_percent=percent,
        )  # fmt: skip
        yield Answered(row=row, answer=Answer(outputs=tuple(outputs)))


def calibrated(monkeypatch, tmp_path, labelled, name="out"):
    monkeypatch.setattr(recalibrate_cohort, "read_manifest", lambda path: [])
    monkeypatch.setattr(recalibrate_cohort, "answered", lambda *_: list(answered(labelled)))
    return recalibrate_cohort.recalibrate_on(SHIPPED, tmp_path / "m.csv", "1", tmp_path, out=tmp_path / name)


def test_nobody_is_judged_by_what_was_fitted_to_them(monkeypatch, tmp_path):
    labelled = cohort(90, 7)
    ill = int(np.flatnonzero(labelled.grades == 3)[0])
    other = replace(labelled, fat=np.where(np.arange(len(labelled)) == ill, 99.0, labelled.fat))
    one = calibrated(monkeypatch, tmp_path, labelled, "one")
    moved = calibrated(monkeypatch, tmp_path, other, "moved")
    before, after = one.predictions[ill], moved.predictions[ill]
    assert (before.fat_estimate, before.fat_low, before.fat_high) == (after.fat_estimate, after.fat_low, after.fat_high)
    assert before.probabilities == after.probabilities
    elsewhere = [pair for pair in zip(one.predictions, moved.predictions, strict=True) if pair[0].fold != before.fold]
    assert all(first.fat_high != second.fat_high for first, second in elsewhere)


def test_studies_of_a_patient_share_a_fold_and_all_are_judged(monkeypatch, tmp_path):
    labelled = cohort(120, 8)
    labelled = replace(labelled, patients=np.array([f"p{place % 60}" for place in range(120)]))
    done = calibrated(monkeypatch, tmp_path, labelled)
    assert (done.record["patients"], done.record["studies"], len(done.predictions)) == (60, 120, 120)
    assert all(one.fold == two.fold for one, two in zip(done.predictions[:60], done.predictions[60:], strict=True))
    assert done.after["ece"][0] < done.before["ece"][0]
    assert done.after["coverage_interval"][0] > done.before["coverage_interval"][0]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Forty-four patients of one or two views, with fat fractions."""
    folder = tmp_path_factory.mktemp("pictures")
    rows = []
    for place in range(44):
        rng = np.random.default_rng([71, place])
        fat = float(rng.uniform(1, 6) if place % 3 == 0 else rng.uniform(8, 35))
        patient, scanner = draw_patient(rng, fat_fraction_percent=fat), Scanner.random(rng)
        for view in VIEWS[: 1 + (place % 8 == 0)]:
            name = f"{place}-{view}.png"
            Image.fromarray(render_view(patient, view, scanner).pixels).save(folder / name)
            row = {"patient": place, "study": f"{place}-1", "file": folder / name, "label_source": "phantom"}
            rows.append({**row, "site": "here", "grade": "", "fat_fraction_percent": round(fat, 2)})
    return rows, tmp_path_factory.mktemp("keep")


def run(rows, keep, folder, *more):
    with (folder / "m.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    command = ["recalibrate", "--bundle", SHIPPED, "--manifest", folder / "m.csv", "--version", "0.9", "--keep", keep]
    return CliRunner().invoke(main, [str(one) for one in [*command, "--out", folder / "b", *more]])


def test_a_bundle_is_calibrated_by_the_command_and_stays_whole(pictures, tmp_path):
    done = run(*pictures, tmp_path, "--about", "Forty-four volunteers", "--predictions", tmp_path / "made" / "oof.csv")
    assert done.exit_code == 0, done.output
    came, made = Bundle.load(SHIPPED), Bundle.load(tmp_path / "b")
    assert (made.members, made.golden_vectors) == (came.members, came.golden_vectors)
    assert (made.liver_logit_minimum, made.version) == (came.liver_logit_minimum, "0.9")
    assert made.calibration != came.calibration
    assert verify(Predictor.open(tmp_path / "b", "onnxruntime")).ok
    assert made.repeatability / came.repeatability == pytest.approx(
        made.calibration.fat_slope / came.calibration.fat_slope
    )
    record, predictions = made.description["calibrated_on"], read_predictions(tmp_path / "made" / "oof.csv")
    assert record["studies"] + record["refused"] == 44
    assert record["studies"] == len(predictions)
    assert {one.fold for one in predictions} == set(range(5))
    text = (tmp_path / "b" / "MODEL_CARD.md").read_text()
    assert f"those of version {came.version}, before it was calibrated on a cohort" in text
    assert "**Calibrated on a cohort: Forty-four volunteers.**" in text
    area = made.description["metrics"]["cohort"]["out_of_fold"]["auroc"]
    assert "| AUROC ≥ S1 |" in text
    assert f"| {area[0]:.3f} ({area[1]:.3f}–{area[2]:.3f}) |" in text
    assert "nothing here is known about\npatients" in text  # phantoms all the same
    assert made.description["metrics"]["3_views"] == came.description["metrics"]["3_views"]


def test_grades_alone_leave_the_fat_fraction_as_it_came_and_say_so(pictures, tmp_path):
    rows, keep = pictures
    graded = [
        {**row, "label_source": "reader", "fat_fraction_percent": "", "grade": f"S{grade}"}
        for row in rows
        for grade in [min(2, sum(row["fat_fraction_percent"] >= cut for cut in PDFF_CUT_OFFS))]
    ]
    done = run(graded, keep, tmp_path)
    assert done.exit_code == 0, done.output
    why = "stay as they came, fitted to phantoms"
    assert why in done.output
    assert "a fat fraction was measured in 0 patients, 40 are needed" in done.output
    assert "nobody had S3" in done.output
    came, made = Bundle.load(SHIPPED), Bundle.load(tmp_path / "b")
    assert made.calibration.fat_slope == came.calibration.fat_slope
    assert made.calibration.interval_quantiles_by_views == came.calibration.interval_quantiles_by_views
    assert made.repeatability == came.repeatability
    text = (tmp_path / "b" / "MODEL_CARD.md").read_text()
    assert why in text
    assert "Nobody had S3" in text
    assert "only how it was calibrated on" in text
    assert "nothing here is known about" not in text


def test_one_class_is_refused_and_nothing_is_left(pictures, tmp_path):
    rows, keep = pictures
    done = run([{**row, "grade": "S2"} for row in rows], keep, tmp_path)
    assert done.exit_code == 1
    assert "0 patients have no steatosis (S0)" in done.output
    assert not (tmp_path / "b").exists()


def test_in_place_without_a_new_folder(monkeypatch, tmp_path):
    shutil.copytree(SHIPPED, tmp_path / "b")
    monkeypatch.setattr(recalibrate_cohort, "read_manifest", lambda path: [])
    monkeypatch.setattr(recalibrate_cohort, "answered", lambda *_: list(answered(cohort(80, 9))))
    recalibrate_cohort.recalibrate_on(tmp_path / "b", tmp_path / "m.csv", "1", tmp_path)
    again = recalibrate_cohort.recalibrate_on(tmp_path / "b", tmp_path / "m.csv", "2", tmp_path)
    assert again.record["members_of"] == "1"
    assert again.record["phantom_figures_of"] == Bundle.load(SHIPPED).version
    assert Bundle.load(tmp_path / "b").version == "2"
