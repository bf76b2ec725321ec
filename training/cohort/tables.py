"""Tables as spreadsheets and statistics programs write them: CSV with any usual separator, or Parquet."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

Numbered = tuple[int, dict[str, Any]]
"""Number of a row as a spreadsheet counts it, the header being 1, and its values by column."""
SEPARATORS: Final = (",", ";", "\t")


class TableError(ValueError):
    """A table cannot be read; says why, and what to save it as."""


def read_rows(path: Path) -> Iterator[Numbered]:
    """Yield the rows of a table that are not blank, by the columns of its header.

    CSV is UTF-8, separated by commas, semicolons or tabs, whichever the header has most of.

    Raises
    ------
    TableError
        There is no such file, it is neither, or a row has more fields than the header.
    """
    if not path.is_file():
        raise TableError("it is a folder" if path.is_dir() else "there is no such file")
    if path.suffix.lower() in (".parquet", ".pq"):
        yield from enumerate(_parquet_rows(path), start=2)
        return
    if path.suffix.lower() in (".xlsx", ".xls", ".ods"):
        raise TableError("it is a workbook; save its sheet as 'CSV UTF-8' and give that")
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:  # spreadsheets write a byte order mark
            first = stream.readline()
            stream.seek(0)
            separator = max(SEPARATORS, key=first.count)
            yield from _csv_rows(csv.reader(stream, delimiter=separator, strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise TableError(f"it is not CSV in UTF-8, which spreadsheets save as 'CSV UTF-8': {error}") from error


def _csv_rows(rows: Iterator[list[str]]) -> Iterator[Numbered]:
    header = [name.strip() for name in next(rows, [])]
    width = len(header)
    while header and not header[-1]:
        header.pop()  # of empty columns beside the table
    if twice := [name for name in header if header.count(name) > 1]:
        raise TableError(f"the column {twice[0]!r} is given twice")
    for number, row in enumerate(rows, start=2):
        if not any(value.strip() for value in row):
            continue
        if len(row) > width or any(value.strip() for value in row[len(header) :]):
            raise TableError(
                f"row {number} has {len(row)} fields, more than the header's {len(header)}; "
                "is there a decimal comma, or a comma in a name without quotation marks?"
            )
        yield number, dict(zip(header, row, strict=False))


def _parquet_rows(path: Path) -> list[dict[str, Any]]:
    parquet = parquet_module()
    try:
        rows: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
    except (OSError, ValueError) as error:  # pyarrow's own are these
        raise TableError(f"it cannot be read as Parquet: {error}") from error
    return rows


def parquet_module() -> Any:
    """Return `pyarrow.parquet`.

    Raises
    ------
    TableError
        It is not installed.
    """
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise TableError("Parquet needs the package pyarrow (pip install pyarrow); or give CSV") from error
    return pyarrow.parquet
