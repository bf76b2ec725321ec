"""Readers' grades in Structured Reports that others send: recognised by coded concepts, never by words or file names.

A report counts where a person grades steatosis of the liver: a measurement group (or any container) whose Finding is
(197321007, SCT) with a Severity of None, Mild, Moderate or Severe, or a code of our scheme's GRADE. What names a device
as observer, this agent as equipment or an algorithm among its contents is no reader's: another program's opinion, or
ours come back in a workstation's copy.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, BinaryIO, Final

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.uid import DeflatedExplicitVRLittleEndian

from agent.domain.eligibility import is_own_result
from agent.domain.errors import RequestorError
from agent.domain.identifiers import is_uid
from agent.store.header import read_header

REPORT_CLASSES: Final = (
    "1.2.840.10008.5.1.4.1.1.88.11",  # Basic Text SR
    "1.2.840.10008.5.1.4.1.1.88.22",  # Enhanced SR
    "1.2.840.10008.5.1.4.1.1.88.33",  # Comprehensive SR
    "1.2.840.10008.5.1.4.1.1.88.34",  # Comprehensive 3D SR
)
NO_GRADE: Final = "no grade"
OURS: Final = "one of our own results"
BY_A_DEVICE: Final = "a device's, not a reader's"
AMBIGUOUS: Final = "more than one grade"
UNREADABLE: Final = "cannot be read"
UNKNOWN_STUDY: Final = "of no study here"
_LARGEST: Final = 8 << 20
_EXPLICIT_LITTLE: Final = b"\0" * 128 + b"DICM\x02\x00\x10\x00UI\x14\x001.2.840.10008.1.2.1\0"
"""Preamble, prefix and Transfer Syntax UID (0002,0010) of what a deflated data set is once inflated."""
_MOST_ITEMS: Final = 20_000
_FINDING: Final = ("121071", "DCM")
_STEATOSIS: Final = ("197321007", "SCT")
_SEVERITY: Final = ("246112005", "SCT")
_GRADE: Final = ("GRADE", "99STEATOSIS")
_GRADE_OF: Final = {
    ("260413007", "SCT"): "S0",
    ("255604002", "SCT"): "S1",
    ("6736007", "SCT"): "S2",
    ("24484000", "SCT"): "S3",
    **{(grade, "99STEATOSIS"): grade for grade in ("S0", "S1", "S2", "S3")},
}
_OBSERVER_TYPE: Final = ("121005", "DCM")
_DEVICE: Final = ("121007", "DCM")
_PERSON_NAME: Final = ("121008", "DCM")
_ALGORITHM: Final = ("111001", "DCM")
_FAULTS: Final = (
    OSError,
    InvalidDicomError,
    ValueError,
    AttributeError,
    LookupError,
    TypeError,
    RecursionError,
    NotImplementedError,
    EOFError,
    MemoryError,
    ArithmeticError,
    BytesLengthException,
    struct.error,
    zlib.error,
)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a report says: a grade of studies, or why it gives none."""

    outcome: str
    """`S0` to `S3`, or a reason."""
    studies: tuple[str, ...] = ()
    """Whose images it names as evidence, its own study first."""
    reader: str = ""
    """The observer's name; to be hashed at once."""
    graded_at: float | None = None
    sop_instance_uid: str = ""


def read_report(path: Path) -> Reading:
    """Read a Structured Report; whatever is wrong with it becomes a reason."""
    try:
        if path.stat().st_size > _LARGEST:
            return Reading(outcome=UNREADABLE)
        with path.open("rb") as file:
            header, syntax, offset = read_header(file)
            source = file if syntax != DeflatedExplicitVRLittleEndian else _inflated(file, offset)
            if is_own_result(header):
                return Reading(outcome=OURS)
            source.seek(0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # odd values are the sender's, and a warning would quote them
                return _reading(dcmread(source, stop_before_pixels=True))
    except (*_FAULTS, RequestorError):
        return Reading(outcome=UNREADABLE)


def _inflated(file: BinaryIO, offset: int) -> BinaryIO:
    """Inflate a data set (PS3.5 A.5) no further than a report is long; pydicom would inflate a bomb whole."""
    file.seek(offset)
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    content = inflater.decompress(file.read(), _LARGEST)
    if inflater.unconsumed_tail:
        raise ValueError("it inflates to more than a report is long")
    return io.BytesIO(_EXPLICIT_LITTLE + content)


def _reading(ds: Dataset) -> Reading:
    items = list(_content(ds))
    if any(name == _OBSERVER_TYPE and value == _DEVICE for name, value, _ in items) or any(
        name == _ALGORITHM for name, _, _ in items
    ):
        return Reading(outcome=BY_A_DEVICE)
    grades = {grade for container in _containers(ds) for grade in _grades(container)}
    if len(grades) != 1:
        return Reading(outcome=AMBIGUOUS if grades else NO_GRADE)
    return Reading(
        outcome=grades.pop(),
        studies=_studies(ds),
        reader=_reader(ds, items),
        graded_at=_time(ds),
        sop_instance_uid=str(ds.SOPInstanceUID),
    )


def _content(ds: Dataset) -> Iterator[tuple[tuple[str, str], tuple[str, str], Dataset]]:
    """Every content item, with its concept name and its coded value; without recursion, and not endlessly."""
    waiting = [ds]
    for _ in range(_MOST_ITEMS):
        if not waiting:
            return
        item = waiting.pop()
        waiting.extend(reversed(item.get("ContentSequence") or ()))
        yield _code(item, "ConceptNameCodeSequence"), _code(item, "ConceptCodeSequence"), item
    raise ValueError("more content items than a report has")


def _containers(ds: Dataset) -> list[Dataset]:
    return [item for _, _, item in _content(ds) if item.get("ContentSequence")]


def _grades(container: Dataset) -> Iterator[str]:
    """Grades that stand directly in a container, or as properties of its finding."""
    children = list(container.ContentSequence)
    named = [
        (_code(child, "ConceptNameCodeSequence"), _code(child, "ConceptCodeSequence"), child) for child in children
    ]
    is_steatosis = any(name == _FINDING and value == _STEATOSIS for name, value, _ in named)
    for name, value, _ in named:
        if value in _GRADE_OF and (name == _GRADE or (name == _SEVERITY and is_steatosis)):
            yield _GRADE_OF[value]
    if (
        _code(container, "ConceptNameCodeSequence") == _FINDING
        and _code(container, "ConceptCodeSequence") == _STEATOSIS
    ):
        yield from (_GRADE_OF[value] for name, value, _ in named if name == _SEVERITY and value in _GRADE_OF)


def _code(item: Dataset, keyword: str) -> tuple[str, str]:
    sequence = item.get(keyword)
    if not sequence:
        return "", ""
    return str(sequence[0].get("CodeValue", "")).strip(), str(sequence[0].get("CodingSchemeDesignator", "")).strip()


def _studies(ds: Dataset) -> tuple[str, ...]:
    named = [str(ds.get("StudyInstanceUID", ""))]
    for keyword in ("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence"):
        named += [str(item.get("StudyInstanceUID", "")) for item in ds.get(keyword) or ()]
    return tuple(uid for uid in dict.fromkeys(named) if is_uid(uid))


def _reader(ds: Dataset, items: list[tuple[Any, Any, Dataset]]) -> str:
    """Who graded: the person observer, else who verified or wrote the report."""
    for name, _, item in items:
        if name == _PERSON_NAME and item.get("PersonName"):
            return str(item.PersonName)
    for keyword, inner in (
        ("VerifyingObserverSequence", "VerifyingObserverName"),
        ("AuthorObserverSequence", "PersonName"),
    ):
        for observer in ds.get(keyword) or ():
            if observer.get(inner):
                return str(observer.get(inner))
    return ""


def _time(ds: Dataset) -> float | None:
    """When the content was made (PS3.3 C.17.2); where no zone is named, times are taken for UTC."""
    date, time = str(ds.get("ContentDate", "")), str(ds.get("ContentTime", "")).partition(".")[0].ljust(6, "0")
    offset = str(ds.get("TimezoneOffsetFromUTC", "") or "+0000")
    try:
        zone = timezone(timedelta(hours=int(offset[:3]), minutes=int(offset[0] + offset[3:5])))
        return datetime.strptime(date + time, "%Y%m%d%H%M%S").replace(tzinfo=zone).astimezone(UTC).timestamp()
    except (ValueError, OverflowError):  # a placeholder such as 00010101
        return None
