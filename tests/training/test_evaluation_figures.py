"""Figures against values worked out by hand, and what a report shows of them."""

import json
import re

import numpy as np
import pytest
from click.testing import CliRunner

from training.evaluation.figures import FIGURES, answers_of, delong, figures, limits_of_agreement
from training.evaluation.groups import abstention, readers, subgroups
from training.evaluation.predictions import EXTERNAL, Prediction, write_predictions
from training.evaluation.report import differences, sections, write_report
from training.explain.commands import report
from training.metrics import auroc, chance_error


def prediction(index, grade, steatosis, **more):
    rest = steatosis / 3
    kept = {
        "system": "one", "patient": f"p{index}", "study": f"s{index}", "fold": index % 2, "views": 1,
        "grade_true": grade, "probabilities": (1 - steatosis, rest, rest, rest), "fat_true": 8.0 * grade,
        "fat_estimate": 8.0 * grade + 1, "fat_low": 8.0 * grade - 2, "fat_high": 8.0 * grade + 0.5 + grade % 2,
        "grade_set": ("S0",) if steatosis < 0.5 else ("S1", "S2"),
    }  # fmt: skip
    return Prediction(**{**kept, **more})


@pytest.fixture
def eight():
    """Two S0 told right, one S0 told ill; four ill told right, one told well; the operating point is 0.5."""
    said = [(0, 0.1), (0, 0.2), (0, 0.7), (1, 0.6), (1, 0.4), (2, 0.9), (2, 0.8), (3, 0.9)]
    return [prediction(index, *pair) for index, pair in enumerate(said)]


def test_figures_by_hand(eight):
    found = figures(answers_of(eight, operating_point=0.5), rounds=20)
    value = {name: interval[0] for name, interval in found.items()}
    assert set(value) == set(FIGURES)
    assert value["auroc"] == pytest.approx(13 / 15)
    assert value["accuracy"] == pytest.approx(6 / 8)
    assert value["sensitivity"] == pytest.approx(4 / 5)
    assert value["specificity"] == pytest.approx(2 / 3)
    assert value["ppv"] == pytest.approx(4 / 5)
    assert value["npv"] == pytest.approx(2 / 3)
    assert value["f1"] == pytest.approx(0.8)
    assert value["brier"] == pytest.approx(np.mean([0.01, 0.04, 0.49, 0.16, 0.36, 0.01, 0.04, 0.01]))
    assert value["mae"] == pytest.approx(1.0)
    assert value["bias"] == pytest.approx(1.0)
    assert value["rho"] == pytest.approx(1.0)
    assert value["coverage_interval"] == pytest.approx(1.0)
    assert value["coverage_set"] == pytest.approx(5 / 8)
    assert all(low <= middle <= high for middle, low, high in (found["auroc"], found["f1"]))


def test_operating_points_are_chosen_on_other_folds():
    """Fold 0 alone would choose 0.8; fold 1 chooses 0.3, so fold 0's study at 0.5 counts as ill."""
    made = [(0, 0.7, 0), (1, 0.8, 0), (0, 0.5, 0), (0, 0.2, 1), (1, 0.3, 1), (1, 0.9, 1)]
    kept = [prediction(index, grade, said, fold=fold) for index, (grade, said, fold) in enumerate(made)]
    assert answers_of(kept).decided.tolist() == [True, True, True, False, False, True]
    outside = prediction(9, 0, 0.1, fold=EXTERNAL)
    assert not answers_of([*kept, outside]).decided[-1]


def test_figures_are_of_one_system(eight):
    with pytest.raises(ValueError, match="several systems"):
        answers_of([*eight, prediction(9, 1, 0.5, system="two")])
    with pytest.raises(ValueError, match="none"):
        answers_of([])


def test_patients_are_resampled_with_all_their_studies():
    """Ten copies of each study of one patient must not narrow the interval."""
    rng = np.random.default_rng(0)
    said = np.clip(0.3 + 0.2 * (np.arange(30) % 2) + rng.normal(0, 0.2, 30), 0, 1).tolist()
    single = [prediction(i, i % 2, value) for i, value in enumerate(said)]
    copied = [prediction(i, i % 2, said[i], study=f"{i}-{copy}") for i in range(30) for copy in range(10)]
    one, many = (figures(answers_of(part, operating_point=0.5), rounds=300)["auroc"] for part in (single, copied))
    assert one[0] == pytest.approx(many[0])
    assert many[2] - many[1] == pytest.approx(one[2] - one[1], rel=0.25)


def test_unknown_fat_fractions_give_no_figure(eight):
    nothing = {"fat_true": None, "fat_estimate": None, "fat_low": None, "fat_high": None}
    bare = [prediction(i, p.grade_true, 1 - p.probabilities[0], **nothing) for i, p in enumerate(eight)]
    found = figures(answers_of(bare, operating_point=0.5), rounds=5)
    assert np.isnan(found["mae"][0])
    assert np.isnan(found["rho"][0])
    assert np.isnan(limits_of_agreement(answers_of(bare))[0])


def test_limits_of_agreement_by_hand(eight):
    errors = [0, 2, 1, 1, 1, 1, 0, 2]
    kept = [
        prediction(i, p.grade_true, 0.5, fat_estimate=p.fat_true + error, fat_low=0.0, fat_high=99.0)
        for i, (p, error) in enumerate(zip(eight, errors, strict=True))
    ]
    bias, low, high = limits_of_agreement(answers_of(kept))
    assert bias == pytest.approx(1.0)
    assert high - bias == pytest.approx(1.96 * np.std(errors, ddof=1))
    assert bias - low == pytest.approx(high - bias)


def test_calibration_has_a_floor_that_falls_with_patients():
    rng = np.random.default_rng(4)
    floors = [chance_error(rng.random(patients)) for patients in (50, 2000)]
    assert floors[0] > 0.1 > 0.04 > floors[1] > 0


def test_delong_agrees_with_the_bootstrap():
    rng = np.random.default_rng(1)
    positive = np.arange(300) % 2 == 0
    first = positive + rng.normal(0, 1, 300)
    second = positive + rng.normal(0, 1.6, 300)
    difference, p = delong(first, second, positive)
    assert difference == pytest.approx(auroc(first, positive) - auroc(second, positive))
    draws = []
    for _ in range(600):
        chosen = rng.integers(0, 300, 300)
        draws.append(auroc(first[chosen], positive[chosen]) - auroc(second[chosen], positive[chosen]))
    z = difference / np.std(draws)
    from scipy.stats import norm

    assert norm.isf(p / 2) == pytest.approx(abs(z), rel=0.15)
    assert delong(first, first, positive) == (0.0, 1.0)
    with pytest.raises(ValueError, match="both kinds"):
        delong(first, second, np.ones(300, bool))


def test_subgroups_and_those_too_small():
    kept = [
        prediction(i, i % 2, 0.2 + 0.6 * (i % 2), site="a" if i < 20 else "b", sex="FM"[i % 2], age_years=30.0 + i)
        for i in range(24)
    ]
    found = {(group.by, group.name): group for group in subgroups(kept)}
    assert found["site", "a"].figures["auroc"][0] == 1.0
    assert found["site", "b"].figures is None
    assert ("age", "under 40") in found
    assert not any(by == "number of views" for by, _ in found)  # all alike


def test_many_groups_too_small_are_one_row_and_their_studies_counted():
    scanners = [*["big"] * 12, *[f"once {place}" for place in range(4)]]
    kept = [prediction(i, i % 2, 0.2 + 0.6 * (i % 2), scanner=scanner) for i, scanner in enumerate(scanners)]
    found = [(group.name, group.studies, group.figures is None) for group in subgroups(kept) if group.by == "scanner"]
    assert found == [("big", 12, False), ("4 with fewer than 10 patients each", 4, True)]


def test_readers_beside_the_system():
    kept = [prediction(i, i % 2, 0.2 + 0.6 * (i % 2), readers={"ann": i % 2 if i < 6 else 0}) for i in range(8)]
    (ann,) = readers(kept)
    assert (ann.studies, ann.sensitivity, ann.specificity) == (8, pytest.approx(3 / 4), 1.0)
    assert ann.system_auroc == 1.0
    assert ann.system_sensitivity == 1.0


def test_abstaining_leaves_the_surest(eight):
    found = abstention(answers_of(eight, operating_point=0.5), (1.0, 0.5))
    assert [one.answered for one in found] == [1.0, 0.5]
    assert found[1].accuracy == 1.0  # those far from 0.5, which is where the errors lie
    shifted = abstention(answers_of(eight, operating_point=0.9), (1.0, 0.5))
    assert shifted[1].accuracy >= shifted[0].accuracy


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(2)

    def made(name, noise):
        rows = []
        for index in range(60):
            grade = index % 4
            said = float(np.clip(0.2 + 0.5 * (grade > 0) + rng.normal(0, noise), 0.01, 0.99))
            fold = EXTERNAL if index >= 48 else index % 3
            rows.append(
                prediction(index, grade, said, system=name, fold=fold, sex="FM"[index % 2], readers={"ann": grade})
            )
        (tmp_path / name).mkdir()
        write_predictions(tmp_path / name / "predictions.csv", rows)
        return tmp_path / name / "predictions.csv"

    return made("good", 0.05), made("fair", 0.3)


def test_a_report_shows_every_system_and_what_it_is_for(files, tmp_path):
    (files[0].parent / "clinical_contributions.json").write_text(
        json.dumps({"names": ["age_years", "diabetes"], "mean_size": [0.2, 0.4], "patients": ["p"]})
    )
    log = files[0].parent / "fold-0" / "member-0" / "log.csv"
    log.parent.mkdir(parents=True)
    log.write_text("epoch,loss,held_back_loss,learning_rate,seconds\n1,3.0,3.1,0.001,2\n2,2.0,2.5,0.001,2\n")
    out = tmp_path / "out" / "report.html"
    done = CliRunner().invoke(report, [*map(str, files), "--out", str(out), "--about", "Sixty made-up <patients>."])
    assert done.exit_code == 0, done.output
    text = out.read_text()
    for said in (
        "Research use only",
        "good",
        "fair",
        "external site",
        "DeLong",
        "Beside human readers",
        "diabetes",
        "1 fits",
    ):
        assert said in text
    assert "&lt;patients&gt;" in text
    assert text.count("<svg") >= 4 * 5 + 1
    assert not re.search(r"(src|href)=.http|url\(http|@import", text)  # whole in itself


def test_differences_are_on_the_same_patients_only(files):
    from training.evaluation.predictions import read_predictions

    good, fair = (read_predictions(path) for path in files)
    assert [one.part for one in differences(sections([*good, *fair]))] == ["patients left out", "external site"]
    assert not [one for one in differences(sections([*good, *fair[:-1]])) if one.part == "external site"]


def test_a_report_of_one_small_set(tmp_path, eight):
    write_report(tmp_path / "r.html", sections(eight), title="t", about="", limits="")
    assert "Side by side" not in (tmp_path / "r.html").read_text()


def test_files_that_are_none_are_refused(tmp_path):
    path = tmp_path / "odd.csv"
    path.write_text("a,b\n1,2\n")
    done = CliRunner().invoke(report, [str(path)])
    assert done.exit_code == 1
    assert "lacks the columns" in done.output
