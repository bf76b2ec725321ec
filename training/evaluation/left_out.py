"""What has no prediction, by name and reason: studies that are refused, files of which nothing is used."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Final

SUFFIX: Final = ".left-out.csv"
MOST_NAMED: Final = 20


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A study without a prediction, or a file that adds nothing to its study's.

    Attributes
    ----------
    patient, study
        Whose.
    grade
        Reference grade, as text, since losing the ill is another matter than losing the well.
    file
        Name of the file; empty where the study as a whole is refused.
    code
        Coded reason of a refused study, as `not-liver`; empty for a file.
    reason
        In words.
    """

    patient: str
    study: str
    grade: str
    file: str = ""
    code: str = ""
    reason: str = ""


COLUMNS: Final = tuple(field.name for field in fields(LeftOut))


def beside(predictions: Path) -> Path:
    """Return where the file lies that belongs to a file of predictions."""
    return predictions.with_name(predictions.stem + SUFFIX)


def write_left_out(path: Path, found: Iterable[LeftOut]) -> None:
    """Write as CSV, the header alone where nothing is left out."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(astuple(one) for one in found)


def read_left_out(path: Path) -> list[LeftOut]:
    """Return what a file holds; raises ValueError where it is none of these."""
    with path.open(newline="", encoding="utf-8") as stream:
        try:
            rows = list(csv.DictReader(stream))
            return [LeftOut(**row) for row in rows]
        except (UnicodeDecodeError, csv.Error, TypeError) as error:
            raise ValueError(f"{path} does not hold what is left out of predictions: {error}") from error


def refused(found: Iterable[LeftOut]) -> list[LeftOut]:
    """Return the studies that are refused."""
    return [one for one in found if one.code]


def counted(found: Sequence[LeftOut]) -> str:
    """Say how many studies are refused, by code and by grade; empty where none is."""
    studies = refused(found)
    if not studies:
        return ""
    codes = ", ".join(f"{code} {count}" for code, count in Counter(one.code for one in studies).most_common())
    grades = ", ".join(f"{grade} {count}" for grade, count in sorted(Counter(one.grade for one in studies).items()))
    return f"{codes}; by reference grade: {grades}"


def named(found: Sequence[LeftOut]) -> list[str]:
    """Give a line for each, up to `MOST_NAMED` of studies and of files."""
    studies = refused(found)
    files = [one for one in found if not one.code]
    lines = [f"refused: study {one.study} ({one.grade}): {one.code}: {one.reason}" for one in studies[:MOST_NAMED]]
    lines += [f"not used: {one.file} of study {one.study}: {one.reason}" for one in files[:MOST_NAMED]]
    more = max(0, len(studies) - MOST_NAMED) + max(0, len(files) - MOST_NAMED)
    return [*lines, f"and {more} more"] if more else lines
