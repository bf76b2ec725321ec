"""The manifest of a cohort: one row a frame, CSV or Parquet, read whole or refused with every reason."""

from __future__ import annotations

import csv
import difflib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from inference.contract import GRADES, VIEWS
from training.phantom.patient import PDFF_CUT_OFFS

READER_PREFIX: Final = "reader_"
BIOPSY_CUT_OFFS: Final = (5.0, 33.0, 66.0)
"""Percent of hepatocytes with fat from which a biopsy is S1, S2, S3 (Kleiner et al., Hepatology 2005)."""
MOST_REASONS: Final = 20
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
    return value.strip().upper().removeprefix("S") if isinstance(value, str) else value


Grade = Annotated[int, BeforeValidator(_grade), Field(ge=0, le=len(GRADES) - 1)]


class Frame(BaseModel):
    """One row: a frame of a study, what is known of the patient, and the reference label.

    Units are those of the names; percent for the fat fraction. Of grade and fat fraction one may be missing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    patient: str = Field(min_length=1)
    study: str = Field(min_length=1)
    file: Path
    """Relative to the manifest's folder, or absolute."""
    frame: int | None = Field(default=None, ge=0)
    """Of a multi-frame file, from 0; blank takes the middle one."""
    view: Literal[VIEWS] | None = None  # type: ignore[valid-type]
    grade: Grade | None = None
    fat_fraction_percent: float | None = Field(default=None, ge=0, le=100)
    label_source: LabelSource
    site: str = ""
    scanner: str = ""
    age_years: float | None = Field(default=None, ge=0, le=120)
    sex: Literal["F", "M", "O"] | None = None
    size_m: float | None = Field(default=None, ge=0, le=2.5)
    weight_kg: float | None = Field(default=None, ge=0, le=400)
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
        if self.grade is not None:
            return self.grade
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
        With every row that is wrong, up to `MOST_REASONS`: unknown columns or values, missing files, a frame given
        twice, a study of two patients or with two labels.
    """
    path = Path(path)
    rows = _rows(path)
    if not rows:
        raise ManifestError(path, ["it holds no row"])
    reasons = list(_columns(rows[0]))
    if reasons:
        raise ManifestError(path, reasons)
    frames: list[Frame] = []
    for number, row in enumerate(rows, start=2):
        try:
            frame = Frame.model_validate(row)
        except ValidationError as error:
            reasons += [f"row {number}: {_said(problem)}" for problem in error.errors()]
            continue
        frame = frame.model_copy(update={"file": path.parent / frame.file})
        if not frame.file.is_file():
            reasons.append(f"row {number}: there is no file {frame.file}")
        frames.append(frame)
    reasons += _contradictions(frames)
    if reasons:
        raise ManifestError(path, reasons)
    return frames


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
        _parquet().write_table(_arrow().Table.from_pylist(rows), path)
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


def _rows(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        raise ManifestError(path, ["it is a folder" if path.is_dir() else "there is no such file"])
    if path.suffix == ".parquet":
        return list(_parquet().read_table(path).to_pylist())
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:  # spreadsheets write a byte order mark
            reader = csv.DictReader(stream, restkey="more", strict=True)
            return list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ManifestError(path, [f"it is not CSV in UTF-8: {error}"]) from error


def _columns(row: Mapping[str, Any]) -> Iterable[str]:
    if len(row) == 1 and ";" in next(iter(row)):
        yield "its columns are separated by semicolons; save it with commas"
        return
    for name in ("patient", "study", "file", "label_source"):
        if name not in row:
            yield f"the column {name!r} is missing"
    for name in row:
        if name == "more" or name is None:
            yield "row 2 has more fields than the header"
        elif name not in COLUMNS and not name.startswith(READER_PREFIX):
            near = difflib.get_close_matches(name, COLUMNS, 1)
            hint = f"; is {near[0]!r} meant?" if near else f"; known are {', '.join(COLUMNS)} and {READER_PREFIX}NAME"
            yield f"the column {name!r} is unknown{hint}"


def _said(problem: Any) -> str:
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "missing":
        return f"{where} is blank"
    return f"{where + ': ' if where else ''}{problem['msg']}" + (f", not {problem['input']!r}" if where else "")


def _contradictions(frames: Sequence[Frame]) -> Iterable[str]:
    seen: set[tuple[Path, int | None]] = set()
    for frame in frames:
        if (frame.file, frame.frame) in seen:
            yield f"{frame.file.name} is given twice; every frame counts once"
        seen.add((frame.file, frame.frame))
    for study, rows in by_study(frames).items():
        for what, values in (
            ("patients", {row.patient for row in rows}),
            ("grades", {row.true_grade for row in rows}),
            ("fat fractions", {row.fat_fraction_percent for row in rows}),
        ):
            if len(values) > 1:
                yield f"study {study!r} has {len(values)} {what}: {', '.join(sorted(map(str, values)))}"


def _arrow() -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise ValueError("Parquet needs the package pyarrow (pip install pyarrow); or give CSV.") from error
    return pyarrow


def _parquet() -> Any:
    _arrow()
    import pyarrow.parquet

    return pyarrow.parquet
