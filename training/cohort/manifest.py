"""The manifest of a cohort: one row a frame, CSV or Parquet, read whole or refused with every reason."""

from __future__ import annotations

import csv
import difflib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PureWindowsPath
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from inference.contract import GRADES, VIEWS
from training.cohort.contradictions import OF_THE_PATIENT, contradictions
from training.cohort.tables import Numbered, TableError, parquet_module, read_rows
from training.phantom.patient import PDFF_CUT_OFFS

READER_PREFIX: Final = "reader_"
BIOPSY_CUT_OFFS: Final = (5.0, 33.0, 66.0)
"""Percent of hepatocytes with fat from which a biopsy is S1, S2, S3 (Kleiner et al., Hepatology 2005)."""
MOST_REASONS: Final = 20
MOST_NUMBERS: Final = 5
"""Of rows that are named for one reason."""
HINTS: Final = {
    "size_m": " (metres, as 1.70)",
    "age_years": " (years, not months or a date)",
    "weight_kg": " (kilograms)",
    "fat_fraction_percent": " (percent, as 12.5)",
    "grade": " (0 to 3, or S0 to S3)",
    "readers": " (0 to 3, or S0 to S3)",
}
"""What a column takes, said behind what it does not."""
LabelSource = Literal["mri-pdff", "biopsy", "reader", "phantom"]


class ManifestError(ValueError):
    """A manifest cannot be used; says all that is wrong with it."""

    def __init__(self, path: Path, reasons: Sequence[str]) -> None:
        more = [f"and {len(reasons) - MOST_REASONS} more"] if len(reasons) > MOST_REASONS else []
        listed = "\n".join(f"  {reason}" for reason in [*reasons[:MOST_REASONS], *more])
        super().__init__(f"{path} cannot be used:\n{listed}")
        self.reasons = tuple(reasons)


def _blank(value: Any) -> Any:
    """Take blank text and Parquet's not-a-number for a missing value."""
    missing = value is None or (isinstance(value, str) and not value.strip()) or value != value
    return None if missing else value


def _grade(value: Any) -> Any:
    """Return S2 as 2, and other words as they are, for the message."""
    bare = value.strip().upper().removeprefix("S") if isinstance(value, str) else ""
    return bare if bare[:1].isdigit() else value


def _number(value: Any) -> Any:
    """Return a number with its decimal comma as a point; none of ours is so large that a comma parts thousands."""
    return value.strip().replace(",", ".") if isinstance(value, str) and value.count(",") == 1 else value


def _percent(value: Any) -> Any:
    """Return a number without the sign that spreadsheets put behind it."""
    return _number(value.strip().removesuffix("%").strip() if isinstance(value, str) else value)


def _name(value: Any) -> Any:
    """Return a whole number, as Parquet keeps names that are digits, as text."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Grade = Annotated[int, BeforeValidator(_grade), Field(ge=0, le=len(GRADES) - 1)]
Number = Annotated[float | None, BeforeValidator(_number)]
Name = Annotated[str, BeforeValidator(_name), Field(min_length=1)]


class Frame(BaseModel):
    """One row: a frame of a study, what is known of the patient, and the reference label.

    Units are those of the names; percent for the fat fraction. Of grade and fat fraction one may be missing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    patient: Name
    study: Name
    file: Path
    """Relative to the manifest's folder, or absolute."""
    frame: int | None = Field(default=None, ge=0)
    """Of a multi-frame file, from 0; blank takes the middle one."""
    view: Literal[VIEWS] | None = None  # type: ignore[valid-type]
    grade: Grade | None = None
    fat_fraction_percent: Annotated[float | None, BeforeValidator(_percent)] = Field(default=None, ge=0, le=100)
    label_source: LabelSource
    site: str = ""
    scanner: str = ""
    age_years: Number = Field(default=None, ge=0, le=120)
    sex: Literal["F", "M", "O"] | None = None
    size_m: Number = Field(default=None, ge=0, le=2.5)
    weight_kg: Number = Field(default=None, ge=0, le=400)
    diabetes: bool | None = None
    hypertension: bool | None = None
    dyslipidaemia: bool | None = None
    readers: dict[str, Grade] = {}

    @model_validator(mode="before")
    @classmethod
    def _tidy(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        kept = {name: _blank(value) for name, value in values.items()}
        readers = {name: kept.pop(name) for name in list(kept) if name.startswith(READER_PREFIX)}
        kept = {name: value for name, value in kept.items() if value is not None}
        found = {name.removeprefix(READER_PREFIX): grade for name, grade in readers.items() if grade is not None}
        return {**kept, "readers": found} if found else kept

    @model_validator(mode="after")
    def _labelled(self) -> Frame:
        if self.grade is None and self.fat_fraction_percent is None:
            raise ValueError("neither grade nor fat_fraction_percent is given")
        if self.size_m and self.size_m < 0.4:
            raise ValueError(f"size_m {self.size_m} is no height in metres")
        return self

    @property
    def true_grade(self) -> int:
        """The grade given, or that of the fat fraction by the cut-offs of its source."""
        return self.grade_by_fat if self.grade is None else self.grade

    @property
    def grade_by_fat(self) -> int:
        """The grade of the fat fraction by the cut-offs of its source; 0 where it is unknown."""
        cut_offs = BIOPSY_CUT_OFFS if self.label_source == "biopsy" else PDFF_CUT_OFFS
        return sum(float(self.fat_fraction_percent or 0.0) >= cut for cut in cut_offs)

    @property
    def clinical(self) -> dict[str, float | None]:
        """Variables by the names of `training.cohort.clinical`; None where unknown."""
        female = None if self.sex not in ("F", "M") else float(self.sex == "F")
        plain = {name: getattr(self, name) for name in ("age_years", "size_m", "weight_kg")}
        history = {name: getattr(self, name) for name in ("diabetes", "hypertension", "dyslipidaemia")}
        return {
            **plain,
            "sex_female": female,
            **{name: None if value is None else float(value) for name, value in history.items()},
        }


COLUMNS: Final = tuple(name for name in Frame.model_fields if name != "readers")


def read_manifest(path: Path | str) -> list[Frame]:
    """Return the frames of a manifest, files resolved against its folder, in its order.

    Raises
    ------
    ManifestError
        With all that is wrong, alike rows together, up to `MOST_REASONS`: unknown columns or values, missing files, a
        frame given twice, a study of two patients, with two labels or with two of what is known of a patient, fat
        fractions that are shares.
    """
    path = Path(path)
    try:
        rows = list(read_rows(path))
    except TableError as error:
        raise ManifestError(path, [str(error)]) from error
    if not rows:
        raise ManifestError(path, ["it holds no row"])
    reasons = list(_columns(rows))
    if reasons:
        raise ManifestError(path, reasons)
    frames, reasons = _read(path.parent, rows)
    reasons += contradictions(frames)
    if reasons:
        raise ManifestError(path, reasons)
    return list(frames.values())


def _read(folder: Path, rows: Sequence[Numbered]) -> tuple[dict[int, Frame], list[str]]:
    """Return frames by the number of their row, and what is wrong with rows, alike ones together."""
    frames: dict[int, Frame] = {}
    wrong: dict[str, list[int]] = defaultdict(list)
    for number, row in rows:
        try:
            frame = Frame.model_validate(row)
        except ValidationError as error:
            for problem in error.errors():
                wrong[_said(problem)].append(number)
            continue
        frames[number] = frame.model_copy(update={"file": _resolved(folder, frame.file)})
    missing = [(number, frame.file) for number, frame in frames.items() if not frame.file.is_file()]
    reasons = [f"{_numbered(numbers)}: {words}" for words, numbers in wrong.items()]
    if missing:
        more = f", and {len(missing) - 1} more of {len(rows)} rows have none" if len(missing) > 1 else ""
        reasons.append(f"row {missing[0][0]}: there is no file {missing[0][1]}{more}")
    return frames, reasons


def write_manifest(path: Path | str, frames: Iterable[Frame]) -> None:
    """Write frames as CSV, or as Parquet by the name's end; files relative to the manifest where they lie below it."""
    path = Path(path)
    kept = list(frames)
    readers = sorted({name for frame in kept for name in frame.readers})
    columns = [*COLUMNS, *(READER_PREFIX + name for name in readers)]
    rows = []
    for frame in kept:
        row = frame.model_dump(exclude={"readers"}) | {
            READER_PREFIX + name: frame.readers.get(name) for name in readers
        }
        file = frame.file
        row["file"] = str(file.relative_to(path.parent) if file.is_relative_to(path.parent) else file)
        rows.append(row)
    if path.suffix == ".parquet":
        parquet = parquet_module()
        import pyarrow

        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
        return
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: "" if value is None else value for name, value in row.items()} for row in rows)


def by_study(frames: Iterable[Frame]) -> dict[str, list[Frame]]:
    """Return frames by study, both in the manifest's order."""
    found: dict[str, list[Frame]] = defaultdict(list)
    for frame in frames:
        found[frame.study].append(frame)
    return dict(found)


def gathered(rows: Sequence[Frame]) -> Frame:
    """Return a study's first row with what only its others say of the patient, the site, the scanner and readers."""
    known = {}
    for name in (*OF_THE_PATIENT, "site", "scanner"):
        known[name] = next((value for row in rows if (value := getattr(row, name)) not in (None, "")), None)
    readers = {name: grade for row in reversed(rows) for name, grade in row.readers.items()}
    found = {name: value for name, value in known.items() if value is not None}
    return rows[0].model_copy(update={**found, "readers": readers})


def _resolved(folder: Path, file: Path) -> Path:
    """Return a file below the manifest's folder; backslashes of Windows are tried where there is no such name."""
    found = folder / file
    if "\\" in str(file) and not found.is_file():
        found = folder / PureWindowsPath(file).as_posix()
    return found


def _numbered(numbers: Sequence[int]) -> str:
    """Say which rows, as a spreadsheet counts them."""
    if len(numbers) == 1:
        return f"row {numbers[0]}"
    more = f" and {len(numbers) - MOST_NUMBERS} more" if len(numbers) > MOST_NUMBERS else ""
    return f"rows {', '.join(map(str, numbers[:MOST_NUMBERS]))}{more}"


def _columns(rows: Sequence[Numbered]) -> Iterable[str]:
    header = rows[0][1]
    for name in ("patient", "study", "file", "label_source"):
        if name not in header:
            yield f"the column {name!r} is missing"
    for name in header:
        if name not in COLUMNS and not name.startswith(READER_PREFIX):
            near = difflib.get_close_matches(name, COLUMNS, 1)
            hint = f"; is {near[0]!r} meant?" if near else f"; known are {', '.join(COLUMNS)} and {READER_PREFIX}NAME"
            yield f"the column {name!r} is unknown{hint}"


def _said(problem: Any) -> str:
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "missing":
        return f"{where} is blank"
    hint = HINTS.get(str(problem["loc"][0]) if problem["loc"] else "", "")
    return f"{where + ': ' if where else ''}{problem['msg']}" + (f", not {problem['input']!r}{hint}" if where else "")
