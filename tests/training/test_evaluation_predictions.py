"""Predictions: what is written is read back, and what cannot be is refused with its line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from training.evaluation.predictions import COLUMNS, Prediction, read_predictions, write_predictions

FULL = Prediction(
    system="EfficientNet, five members",
    patient="P1",
    study="1.2.3",
    fold=4,
    site="north",
    scanner='GE "LOGIQ", E9',
    sex="F",
    age_years=51.5,
    body_mass_index=31.2,
    views=3,
    grade_true=2,
    fat_true=18.125,
    probabilities=(0.1, 0.2, 0.6, 0.1),
    fat_estimate=17.2,
    fat_low=12.0,
    fat_high=21.0,
    grade_set=("S1", "S2"),
    limits=("2 of 3 views", "no clinical data"),
    readers={"reader A": 2, "B": 1},
)
BARE = Prediction(
    system="baseline",
    patient="P2",
    study="9",
    fold="external",
    views=1,
    grade_true=0,
    probabilities=(1.0, 0.0, 0.0, 0.0),
)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    predictions = [FULL, BARE, replace(BARE, study="10", grade_set=())]
    write_predictions(tmp_path / "p.csv", predictions)
    assert read_predictions(tmp_path / "p.csv") == predictions


def test_the_header_is_the_agreed_one(tmp_path: Path) -> None:
    write_predictions(tmp_path / "p.csv", [FULL])
    header, row = (tmp_path / "p.csv").read_text().splitlines()
    assert header == ",".join(COLUMNS)
    assert row.endswith("S1;S2,2 of 3 views;no clinical data,reader A=2;B=1")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"probabilities": (0.5, 0.5, 0.5, 0.0)}, "sum to 1.5"),
        ({"probabilities": (1.5, -0.5, 0.0, 0.0)}, "at least 0"),
        ({"probabilities": (float("nan"), 0.0, 0.0, 0.0)}, "not finite"),
        ({"grade_true": 4}, "grade 4"),
        ({"fold": "outside"}, "fold"),
        ({"views": 0}, "0 views"),
        ({"patient": ""}, "must be named"),
        ({"grade_set": ("F1",)}, "F1"),
        ({"readers": {"A": 5}}, "grade 5"),
        ({"fat_low": 22.0}, "above"),
        ({"fat_low": None}, "both"),
    ],
)
def test_what_cannot_be_is_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replace(FULL, **change)


def test_a_study_given_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="more than once"):
        write_predictions(tmp_path / "p.csv", [FULL, FULL])


def test_an_error_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    write_predictions(path, [FULL, BARE])
    path.write_text(path.read_text().replace("external", "outside"))
    with pytest.raises(ValueError, match="line 3"):
        read_predictions(path)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("system,patient\n")
    with pytest.raises(ValueError, match="study, fold"):
        read_predictions(path)
