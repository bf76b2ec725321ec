"""Reading the headers of the instances a report rests on: tolerant of what is missing, faithful to what is there.

Values are taken as the bytes they are, so that nothing is decoded, validated or re-encoded on the way into our own
objects, whatever character set the source has. Tolerances, each with a test: absent or empty Type 1 and 2 attributes;
bad dates, times and sex (written empty); PatientSize and Weight of zero (left out); misspelt character sets; a header
that breaks after Series Instance UID.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, Final

from pydicom import Dataset, FileDataset, dcmread
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_partial
from pydicom.tag import BaseTag

from agent.domain.errors import UNREADABLE, RequestorError
from agent.domain.study import date_of
from agent.report.errors import EvidenceError
from agent.report.lossy import LossyCompression, lossy_compression
from agent.report.quiet import quiet_pydicom
from agent.store.header import read_header as read_arrived

IDENTITY_TYPE_2: Final = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
)
"""Written empty where the source lacks them (PS3.3 C.7.1.1, C.7.2.1)."""
IDENTITY_TYPE_3: Final = (
    "IssuerOfPatientID",
    "StudyDescription",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "PatientBodyMassIndex",
)
"""Left out where the source lacks them."""
_STATED: Final = (
    "TimezoneOffsetFromUTC",
    "BurnedInAnnotation",
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
    "NumberOfFrames",
    "PhotometricInterpretation",
    "SeriesNumber",
    "InstanceNumber",
)
_UIDS: Final = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_SIZES: Final = ("SamplesPerPixel", "Rows", "Columns", "BitsAllocated")
_WANTED: Final = ["SpecificCharacterSet", *_UIDS, *_STATED, *IDENTITY_TYPE_2, *IDENTITY_TYPE_3, *_SIZES]
_LAST_NEEDED: Final = 0x0020000E  # Series Instance UID: the last of what every instance must have
_MOST_KEPT: Final = 32
"""Headers that were read ahead of their report."""
_LONGEST_VALUE: Final = 1024
"""Bytes; PS3.5 section 6.2 allows 64 characters in each of three groups of a PN, at most 4 bytes each."""

_TIME: Final = re.compile(rb"([01]\d|2[0-3])([0-5]\d([0-5]\d|60)?(\.\d{1,6})?)?")
_BROKEN: Final = (InvalidDicomError, BytesLengthException, struct.error, RecursionError, *UNREADABLE)
"""What pydicom raises on a header that is no header."""


@dataclass(frozen=True, kw_only=True)
class SourceHeader:
    """What a report needs of one source instance.

    `identity` holds patient and study attributes as the source's own bytes, padding removed; bad values are absent.
    """

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    order: tuple[int, int] = (0, 0)
    """Series Number and Instance Number."""
    rows: int = 0
    columns: int = 0
    frames: int = 1
    photometric: str = ""
    """Photometric Interpretation."""
    burned_in: str = ""
    """YES, NO or empty where the source does not say."""
    timezone: str = ""
    lossy: LossyCompression | None = None
    character_set: bytes = field(default=b"", repr=False)
    identity: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    is_whole: bool = True
    """False where it is known by its UIDs alone: it may be named, but says nothing of patient and study."""

    def frame_number(self, frame: int | None) -> int | None:
        """Say how a frame is referenced: by its number where there are several, else as the whole instance.

        Tolerance: Number of Frames may be less than what was decoded; such a frame is not named.
        """
        return frame if frame is not None and self.frames > 1 and 1 <= frame <= self.frames else None

    @property
    def is_image(self) -> bool:
        """Whether it has pixels."""
        return self.rows > 0 and self.columns > 0


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All instances a report rests on, in a stable order, and the one whose patient and study it takes."""

    headers: tuple[SourceHeader, ...]
    reference: SourceHeader

    def find(self, sop_instance_uid: str) -> SourceHeader | None:
        """Header of an instance, or None where it is no evidence."""
        return next((one for one in self.headers if one.sop_instance_uid == sop_instance_uid), None)


def read_evidence(paths: Iterable[Path], study_instance_uid: str) -> Evidence:
    """Read the headers; the order of `paths` does not matter.

    The reference is the header of the study with most of its identity present: machines differ in what they fill in.

    Raises
    ------
    EvidenceError
        If none whose header can be read belongs to the study, or one lacks its UIDs.
    """
    read = {header.sop_instance_uid: header for header in map(read_header, sorted(paths))}
    headers = sorted(read.values(), key=_position)
    candidates = [one for one in headers if one.is_whole and one.study_instance_uid == study_instance_uid]
    if not candidates:
        raise EvidenceError(
            "no instance of the study to report in is among the evidence", remedy="replay the study with --from archive"
        )
    return Evidence(headers=tuple(headers), reference=max(candidates, key=lambda one: len(one.identity)))


def read_header(path: Path) -> SourceHeader:
    """Read one Part 10 file up to its pixels; a file that was read a while ago, as it stood then.

    Raises
    ------
    EvidenceError
        If it is no DICOM file or lacks one of its UIDs. The file is named by its path, which carries no identity.
    """
    stat = path.stat()
    return _read_header(path, (stat.st_ino, stat.st_size, stat.st_mtime_ns))


@lru_cache(maxsize=_MOST_KEPT)
def _read_header(path: Path, _as_it_stands: tuple[int, int, int]) -> SourceHeader:
    try:
        return _whole(path)
    except _BROKEN:
        return _named(path)
    except OSError as error:
        if error.errno is not None:  # the disk's, not pydicom's
            raise
        return _named(path)


def _named(path: Path) -> SourceHeader:
    """Read the UIDs as they were read on arrival: one image's odd header must not cost its study the report."""
    try:
        with path.open("rb") as file:
            header, _, _ = read_arrived(file)
    except RequestorError as error:
        raise EvidenceError(
            f"instance file {path.name} cannot be read as DICOM", remedy="run agent doctor --deep"
        ) from error
    return SourceHeader(
        sop_class_uid=header.sop_class_uid,
        sop_instance_uid=header.sop_instance_uid,
        study_instance_uid=header.study_instance_uid,
        series_instance_uid=header.series_instance_uid,
        is_whole=False,
    )


def _whole(path: Path) -> SourceHeader:
    elements, syntax, encoded_bytes = _elements(path)
    values = {name: _value(elements, name) for name in (*_UIDS, *_STATED, *IDENTITY_TYPE_2, *IDENTITY_TYPE_3)}
    uids = {name: values[name].decode("ascii", "replace") for name in _UIDS}
    if not all(uids.values()):
        raise EvidenceError(f"instance file {path.name} lacks one of {', '.join(_UIDS)}")
    text = {name: values[name].decode("ascii", "replace") for name in _STATED}
    samples, rows, columns, bits = (_unsigned_short(elements, name) for name in _SIZES)
    frames = max(1, _integer(text["NumberOfFrames"], 1))
    return SourceHeader(
        sop_class_uid=uids["SOPClassUID"],
        sop_instance_uid=uids["SOPInstanceUID"],
        study_instance_uid=uids["StudyInstanceUID"],
        series_instance_uid=uids["SeriesInstanceUID"],
        order=(_integer(text["SeriesNumber"], 0), _integer(text["InstanceNumber"], 0)),
        rows=rows,
        columns=columns,
        frames=frames,
        photometric=text["PhotometricInterpretation"],
        burned_in=text["BurnedInAnnotation"],
        timezone=text["TimezoneOffsetFromUTC"],
        lossy=lossy_compression(
            flag=text["LossyImageCompression"],
            ratios=text["LossyImageCompressionRatio"].split("\\"),
            methods=text["LossyImageCompressionMethod"].split("\\"),
            transfer_syntax_uid=syntax,
            native_bytes=rows * columns * samples * bits * frames // 8,
            encoded_bytes=encoded_bytes,
        ),
        character_set=_character_set(elements),
        identity=_identity(values),
    )


def _position(header: SourceHeader) -> tuple[str, tuple[int, int], str]:
    return header.study_instance_uid, header.order, header.sop_instance_uid


def _elements(path: Path) -> tuple[Dataset, str, int]:
    """Wanted elements still raw, the transfer syntax, and roughly how many bytes of pixels follow."""
    with path.open("rb") as file, quiet_pydicom():
        try:
            read = dcmread(file, stop_before_pixels=True, specific_tags=list(_WANTED))
        except _BROKEN:
            file.seek(0)
            read = _until_series(file)
        syntax = str(read.file_meta.get("TransferSyntaxUID", ""))
        return read, syntax, max(0, path.stat().st_size - file.tell())


def _until_series(file: BinaryIO) -> FileDataset:
    """Read only what every instance has: a header may break further on and its instance still be named."""
    tags: list[BaseTag | int] = [BaseTag(tag) for name in _WANTED if (tag := tag_for_keyword(name)) is not None]
    return read_partial(file, stop_when=lambda tag, _vr, _length: tag > _LAST_NEEDED, specific_tags=tags)


def _raw(elements: Dataset, name: str) -> RawDataElement | None:
    tag = tag_for_keyword(name)
    element = None if tag is None or tag not in elements else elements.get_item(tag)
    return element if isinstance(element, RawDataElement) else None


def _value(elements: Dataset, name: str) -> bytes:
    element = _raw(elements, name)
    value = b"" if element is None or element.value is None else element.value
    return b"" if len(value) > _LONGEST_VALUE else value.strip(b"\0 ")


def _unsigned_short(elements: Dataset, name: str) -> int:
    element = _raw(elements, name)
    if element is None or element.value is None:
        return 0
    return int.from_bytes(element.value[:2], "little" if element.is_little_endian else "big")


def _integer(text: str, default: int) -> int:
    try:
        return int(text)
    except ValueError:
        return default


def _character_set(elements: Dataset) -> bytes:
    """Spell the terms as PS3.3 C.12.1.1.2 does; some machines write ISO-IR 100 or ISO 2022-IR 87.

    The one element that pydicom decodes while it reads.
    """
    stated = elements.get("SpecificCharacterSet") or ""
    terms = [stated] if isinstance(stated, str) else stated
    spelt = "\\".join(str(term).strip() for term in terms)
    spelt = re.sub(r"ISO[ _-]2022[ _-]IR[ _-]", "ISO 2022 IR ", spelt)
    return re.sub(r"ISO[ _-]IR[ _-]", "ISO_IR ", spelt).encode("ascii", "replace")


def _identity(values: Mapping[str, bytes]) -> dict[str, bytes]:
    checks = {
        "PatientBirthDate": _is_date,
        "StudyDate": _is_date,
        "StudyTime": lambda value: _TIME.fullmatch(value) is not None,
        "PatientSex": lambda value: value in (b"M", b"F", b"O"),
        "PatientAge": lambda value: re.fullmatch(rb"\d{3}[DWMY]", value) is not None,
        "PatientSize": _is_positive,
        "PatientWeight": _is_positive,
        "PatientBodyMassIndex": _is_positive,
    }
    names: Sequence[str] = (*IDENTITY_TYPE_2, *IDENTITY_TYPE_3)
    return {name: values[name] for name in names if values[name] and checks.get(name, bool)(values[name])}


def _is_date(value: bytes) -> bool:
    return date_of(value.decode("ascii", "replace")) is not None


def _is_positive(value: bytes) -> bool:
    try:
        return len(value) <= 16 and 0 < float(value) < float("inf")  # DS, PS3.5 section 6.2
    except ValueError:
        return False
