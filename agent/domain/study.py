"""What the agent keeps of an instance: the elements up to (0020,000E), its digest, and where it came from."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date


def date_of(text: str) -> date | None:
    """Read a DICOM date (DA, PS3.5 section 6.2); None of what is no day of the calendar written as YYYYMMDD."""
    if len(text) != len("YYYYMMDD") or not (text.isascii() and text.isdecimal()):
        return None
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except ValueError:
        return None


@dataclass(frozen=True, kw_only=True)
class InstanceHeader:
    """The elements of a data set that are read on arrival (PS3.3 C.12.1, C.7.1.1, C.7.2.1, C.7.3.1).

    Text is as decoded from the data set's own character set; an absent element is an empty string.
    """

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    modality: str = ""
    image_type: tuple[str, ...] = ()
    manufacturer: str = ""
    manufacturer_model_name: str = ""
    station_name: str = ""
    institution_name: str = ""
    device_uid: str = ""
    series_description: str = ""
    content_qualification: str = ""
    patient_id: str = field(default="", repr=False)
    issuer_of_patient_id: str = field(default="", repr=False)
    study_date: str = ""
    study_description: str = ""
    accession_number: str = field(default="", repr=False)
    algorithm_names: tuple[str, ...] = ()
    """Manufacturer's Model Name of each item of Contributing Equipment Sequence (0018,A001)."""
    equipment_manufacturers: tuple[str, ...] = ()
    """Manufacturer of each such item."""


@dataclass(frozen=True, kw_only=True)
class StoredFile:
    """An encoded data set that lies durably in the store.

    `sha256` is of the encoded data set as it was received, without preamble and file meta information;
    `bytes` is its length.
    """

    sha256: str
    bytes: int
    transfer_syntax_uid: str
    header: InstanceHeader


@dataclass(frozen=True, kw_only=True)
class Instance:
    """One stored version of an instance, as the ledger knows it."""

    id: int
    sop_instance_uid: str
    sop_class_uid: str
    study_instance_uid: str
    series_instance_uid: str
    transfer_syntax_uid: str
    sha256: str
    bytes: int
    may_be_scored: bool
    not_scored_reason: str | None
    conflict: bool = False
    """Another version with other bytes came first under the same SOP Instance UID; that one is scored."""
