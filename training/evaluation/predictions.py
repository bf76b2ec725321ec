"""What a system said of a study it was not trained on, beside the truth; one CSV row a study."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from inference.contract import GRADES

EXTERNAL: Final = "external"
COLUMNS: Final = (
    "system", "patient", "study", "fold", "site", "scanner", "sex", "age_years", "body_mass_index", "views",
    "grade_true", "fat_true", "p_s0", "p_s1", "p_s2", "p_s3", "fat_estimate", "fat_low", "fat_high", "grade_set",
    "limits", "readers",
)  # fmt: skip
SUM_TOLERANCE: Final = 1e-3


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One system's answer for one study, and what is known of the study.

    Attributes
    ----------
    system
        Name of the system; figures are made per system.
    patient, study
        Whose study; resampling is by patient.
    fold
        Cross-validation fold that left the patient out, or ``"external"`` for a cohort no fold was trained on.
    site, scanner, sex
        Words as the data set gives them; empty where unknown.
    age_years, body_mass_index
        Years and kg/m²; None where unknown.
    views
        Number of views the system was given.
    grade_true
        Reference grade, 0 to 3.
    fat_true
        Reference fat fraction in percent; None where there is none.
    probabilities
        Of S0, S1, S2 and S3; sum to one.
    fat_estimate, fat_low, fat_high
        Estimated fat fraction and its interval in percent; None for a system that gives none.
    grade_set
        Conformal set of grades, e.g. ``("S1", "S2")``; None for a system that gives none.
    limits
        Why the answer is limited, one phrase each: fewer views than the system was made for, clinical data blank.
    readers
        Grade by reader's name.
    """

    system: str
    patient: str
    study: str
    fold: int | str
    views: int
    grade_true: int
    probabilities: tuple[float, float, float, float]
    site: str = ""
    scanner: str = ""
    sex: str = ""
    age_years: float | None = None
    body_mass_index: float | None = None
    fat_true: float | None = None
    fat_estimate: float | None = None
    fat_low: float | None = None
    fat_high: float | None = None
    grade_set: tuple[str, ...] | None = None
    limits: tuple[str, ...] = ()
    readers: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        where = f"study {self.study!r} of {self.system!r}"
        if not (self.system and self.patient and self.study):
            raise ValueError(f"{where}: system, patient and study must be named")
        if self.fold != EXTERNAL and not isinstance(self.fold, int):
            raise ValueError(f"{where}: fold is {self.fold!r}; give a number or {EXTERNAL!r}")
        if self.views < 1:
            raise ValueError(f"{where}: {self.views} views; a study scored without a view has no prediction")
        for grade in (self.grade_true, *self.readers.values()):
            if grade not in range(len(GRADES)):
                raise ValueError(f"{where}: grade {grade!r} is not 0 to 3")
        if unknown := set(self.grade_set or ()) - set(GRADES):
            raise ValueError(f"{where}: grade_set holds {sorted(unknown)}; know {', '.join(GRADES)}")
        self._check_numbers(where)

    def _check_numbers(self, where: str) -> None:
        numbers = [self.age_years, self.body_mass_index, self.fat_true, self.fat_estimate, self.fat_low, self.fat_high]
        if not all(math.isfinite(value) for value in (*self.probabilities, *numbers) if value is not None):
            raise ValueError(f"{where}: a figure is not finite; leave unknown ones blank")
        if len(self.probabilities) != len(GRADES) or min(self.probabilities) < 0:
            raise ValueError(f"{where}: probabilities {self.probabilities} are not four numbers of at least 0")
        if abs(sum(self.probabilities) - 1) > SUM_TOLERANCE:
            raise ValueError(f"{where}: probabilities sum to {sum(self.probabilities):.4f}, not 1")
        if (self.fat_low is None) != (self.fat_high is None):
            raise ValueError(f"{where}: an interval needs both fat_low and fat_high")
        if self.fat_low is not None and self.fat_high is not None and self.fat_low > self.fat_high:
            raise ValueError(f"{where}: fat_low {self.fat_low} lies above fat_high {self.fat_high}")


def read_predictions(path: Path | str) -> list[Prediction]:
    """Return the predictions of a CSV file in its order; refuses a study given twice for one system and fold.

    Raises
    ------
    ValueError
        Naming file and line, where a column is missing or a value cannot be.
    """
    with Path(path).open(newline="", encoding="utf-8") as stream:
        rows = csv.DictReader(stream)
        try:
            columns = rows.fieldnames or ()
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"{path} is not a file of predictions, which are CSV in UTF-8: {error}") from error
        if missing := [column for column in COLUMNS if column not in columns]:
            raise ValueError(f"{path}: lacks the columns {', '.join(missing)}")
        predictions = []
        for row in rows:
            try:
                predictions.append(_parse(row))
            except (ValueError, TypeError) as error:
                raise ValueError(f"{path}, line {rows.line_num}: {error}") from error
    refuse_repeats(predictions)
    return predictions


def write_predictions(path: Path | str, predictions: Iterable[Prediction]) -> None:
    """Write predictions as CSV, unknown values blank; reading gives the same predictions back."""
    kept = list(predictions)
    refuse_repeats(kept)
    with Path(path).open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(_row(prediction) for prediction in kept)


def refuse_repeats(predictions: Iterable[Prediction]) -> None:
    """Raise ValueError where one system has two rows for a study in one fold: it would count twice."""
    times = Counter((each.system, each.patient, each.study, each.fold) for each in predictions)
    if repeated := [key for key, count in times.items() if count > 1]:
        raise ValueError(f"{len(repeated)} studies are given more than once, the first {repeated[0]}")


def _row(prediction: Prediction) -> list[object]:
    p = prediction
    grade_set = "" if p.grade_set is None else (";".join(p.grade_set) or "-")
    readers = ";".join(f"{name}={grade}" for name, grade in p.readers.items())
    values = [p.system, p.patient, p.study, p.fold, p.site, p.scanner, p.sex, p.age_years, p.body_mass_index, p.views]
    values += [p.grade_true, p.fat_true, *p.probabilities, p.fat_estimate, p.fat_low, p.fat_high, grade_set]
    values += [";".join(p.limits), readers]
    return ["" if value is None else value for value in values]


def _parse(row: Mapping[str, str]) -> Prediction:
    return Prediction(
        system=row["system"],
        patient=row["patient"],
        study=row["study"],
        fold=EXTERNAL if row["fold"] == EXTERNAL else int(row["fold"]),
        site=row["site"],
        scanner=row["scanner"],
        sex=row["sex"],
        age_years=_number(row["age_years"]),
        body_mass_index=_number(row["body_mass_index"]),
        views=int(row["views"]),
        grade_true=int(row["grade_true"]),
        fat_true=_number(row["fat_true"]),
        probabilities=(float(row["p_s0"]), float(row["p_s1"]), float(row["p_s2"]), float(row["p_s3"])),
        fat_estimate=_number(row["fat_estimate"]),
        fat_low=_number(row["fat_low"]),
        fat_high=_number(row["fat_high"]),
        grade_set=_grade_set(row["grade_set"]),
        limits=tuple(part.strip() for part in row["limits"].split(";") if part.strip()),
        readers=_readers(row["readers"]),
    )


def _number(text: str) -> float | None:
    return float(text) if text.strip() else None


def _grade_set(text: str) -> tuple[str, ...] | None:
    if not text.strip():
        return None
    return () if text == "-" else tuple(part.strip() for part in text.split(";"))


def _readers(text: str) -> dict[str, int]:
    if not text.strip():
        return {}
    pairs = [part.partition("=") for part in text.split(";")]
    return {name.strip(): int(grade.strip().removeprefix("S")) for name, _, grade in pairs}
