"""What a manifest's rows, each right by itself, cannot all be; and what is not wrong but strange."""

from __future__ import annotations

import hashlib
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from training.cohort.manifest import Frame

OF_THE_PATIENT: Final = ("age_years", "sex", "size_m", "weight_kg", "diabetes", "hypertension", "dyslipidaemia")
"""Columns that are the same in every row of a study, or blank."""
SHARE: Final = 1.0
"""Percent; a site whose fat fractions all lie below has given shares of one."""
LEAST_FOR_SHARES: Final = 5
"""Studies; of fewer, all may be as lean."""


def contradictions(frames: Mapping[int, Frame]) -> Iterator[str]:
    """Say which rows, by their numbers, contradict one another."""
    seen: dict[tuple[Path, int | None], int] = {}
    studies: dict[str, list[Frame]] = defaultdict(list)
    for number, frame in frames.items():
        first = seen.setdefault((frame.file, frame.frame), number)
        if first != number:
            yield f"rows {first} and {number}: {frame.file.name} is given twice; every frame counts once"
        studies[frame.study].append(frame)
    for study, rows in studies.items():
        yield from _within(study, rows)
    yield from _sexes(studies.values())
    yield from _shares(studies.values())


def _within(study: str, rows: Sequence[Frame]) -> Iterator[str]:
    readers = sorted({name for row in rows for name in row.readers})
    for what, values in (
        ("patients", {row.patient for row in rows}),
        ("grades", {row.true_grade for row in rows}),
        ("fat fractions", {row.fat_fraction_percent for row in rows}),
        ("values of site", {row.site for row in rows} - {""}),
        *((f"values of {name}", {getattr(row, name) for row in rows} - {None}) for name in OF_THE_PATIENT),
        *((f"grades of reader {name}", {row.readers.get(name) for row in rows} - {None}) for name in readers),
    ):
        if len(values) > 1:
            yield f"study {study!r} has {len(values)} {what}: {', '.join(sorted(map(str, values)))}"


def _sexes(studies: Iterable[Sequence[Frame]]) -> Iterator[str]:
    sexes: dict[str, set[str]] = defaultdict(set)
    for rows in studies:
        known = {row.sex for row in rows if row.sex is not None}
        if len(known) == 1:  # more are said of the study
            sexes[rows[0].patient] |= known
    for patient, found in sexes.items():
        if len(found) > 1:
            yield f"patient {patient!r} has {len(found)} values of sex in several studies; are these two patients?"


def _shares(studies: Iterable[Sequence[Frame]]) -> Iterator[str]:
    sites: dict[tuple[str, str], list[float]] = defaultdict(list)
    for rows in studies:
        if rows[0].fat_fraction_percent is not None:
            sites[rows[0].site, rows[0].label_source].append(rows[0].fat_fraction_percent)
    for (site, source), values in sites.items():
        if len(values) >= LEAST_FOR_SHARES and max(values) <= SHARE:
            yield (
                f"all {len(values)} fat fractions of source {source!r}{f', site {site!r}' if site else ''} lie between "
                f"{min(values):g} and {max(values):g}; they are shares of one, not percent: give 12 for 0.12"
            )


def remarks(studies: Mapping[str, Sequence[Frame]]) -> Iterator[str]:
    """Say what is not wrong by itself: ranges of numbers, and grades that are not those of their fat fraction."""
    first = [rows[0] for rows in studies.values()]
    for name in ("fat_fraction_percent", "age_years", "size_m", "weight_kg"):
        values = [value for row in first if (value := getattr(row, name)) is not None]
        if values:
            told = f"{min(values):g} to {max(values):g}, median {statistics.median(values):g}"
            yield f"{name}: {told}, unknown in {len(first) - len(values)} studies"
    other = [row.study for row in first if row.fat_fraction_percent is not None and row.true_grade != row.grade_by_fat]
    if other:
        yield (
            f"{len(other)} studies, as {other[0]!r}, have another grade than their fat fraction gives by the cut-offs "
            "of its source; the grade counts"
        )


def copies(frames: Iterable[Frame]) -> Iterator[str]:
    """Say which files hold the same bytes under several names, of several studies: such pictures leak across splits."""
    sizes: dict[int, dict[Path, str]] = defaultdict(dict)
    for frame in frames:
        sizes[frame.file.stat().st_size][frame.file] = frame.study
    for files in sizes.values():
        digests: dict[str, Path] = {}
        for file in files if len(files) > 1 else ():
            with file.open("rb") as stream:
                first = digests.setdefault(hashlib.file_digest(stream, "sha256").hexdigest(), file)
            if files[first] != files[file]:
                yield f"{file} of study {files[file]!r} holds the same bytes as {first.name} of study {files[first]!r}"
