"""What a message says: who it is about, read from the kept Structured Report, and what was scored, from the ledger.

The report that the archives get is the one source of identity, so that a message never names another patient.
"""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.valuerep import PersonName

from agent.domain.errors import AgentError
from agent.domain.score import ScoreOutcome

_IDENTITY = (
    "SpecificCharacterSet",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "StudyDate",
    "AccessionNumber",
    "PatientID",
    "IssuerOfPatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
)


class UnreadableReportError(AgentError):
    """The kept Structured Report cannot be read."""


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Whose result it is. Text is decoded; an absent element is an empty string."""

    report_uid: str
    study_instance_uid: str
    study_date: str = ""
    """YYYYMMDD."""
    accession_number: str = field(default="", repr=False)
    patient_id: str = field(default="", repr=False)
    issuer_of_patient_id: str = field(default="", repr=False)
    patient_name: tuple[str, ...] = field(default=(), repr=False)
    """Family, given, middle name, prefix, suffix (PS3.5 section 6.2, PN)."""
    birth_date: str = field(default="", repr=False)
    sex: str = ""


@dataclass(frozen=True, kw_only=True)
class ResultMessage:
    """One result to be told of.

    Parameters
    ----------
    content_at
        UTC; the one time that everything written from this result carries.
    replaced_report_uid
        SOP Instance UID of the report that this one replaces.
    """

    result_key: str
    identity: Identity
    outcome: ScoreOutcome
    content_at: datetime
    replaced_report_uid: str | None = None

    def name(self, what: str) -> str:
        """Make 32 hexadecimal digits that name a part of this result, the same each time."""
        return hashlib.sha256(f"{self.result_key}\n{what}".encode()).hexdigest()[:32]


def identity_in(report: Path) -> Identity:
    """Read the identity from a kept report.

    Raises
    ------
    UnreadableReportError
        It is missing or no DICOM file.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd values are the source's, and a warning would quote them
            ds = dcmread(report, specific_tags=list(_IDENTITY))
            return _identity(ds)
    except (OSError, InvalidDicomError, AttributeError, LookupError, ValueError) as error:
        raise UnreadableReportError(
            f"the kept report {report.name} cannot be read: {type(error).__name__}", remedy="replay the study"
        ) from error


def _identity(ds: Dataset) -> Identity:
    name = _told_name(ds.get("PatientName"))
    parts = (
        () if not name else (name.family_name, name.given_name, name.middle_name, name.name_prefix, name.name_suffix)
    )
    return Identity(
        report_uid=str(ds.SOPInstanceUID),
        study_instance_uid=str(ds.StudyInstanceUID),
        study_date=_text(ds, "StudyDate"),
        accession_number=_text(ds, "AccessionNumber"),
        patient_id=_text(ds, "PatientID"),
        issuer_of_patient_id=_text(ds, "IssuerOfPatientID"),
        patient_name=tuple(str(part).strip() for part in parts),
        birth_date=_text(ds, "PatientBirthDate"),
        sex=_text(ds, "PatientSex"),
    )


def _told_name(name: PersonName | None) -> PersonName | None:
    """Choose the component group that has letters: alphabetic, else ideographic, else phonetic (PS3.5 section 6.2)."""
    groups = () if not name else (name.alphabetic, name.ideographic, name.phonetic)
    written = next((group for group in groups if group.strip("^ ")), None)
    return None if written is None else PersonName(written)


def _text(ds: Dataset, keyword: str) -> str:
    value = ds.get(keyword)
    return "" if value is None else str(value).strip(" \0")
