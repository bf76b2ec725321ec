"""Codes of messages: those of the Structured Report, and the systems' names in FHIR and HL7 v2.

A test holds them against `agent.report.codes`; stages import nothing of one another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from agent.domain.result_uids import derived_uid
from agent.domain.score import GRADES, Refusal

SCHEME: Final = "99STEATOSIS"
FHIR_SYSTEMS: Final = {
    "LN": "http://loinc.org",
    "SCT": "http://snomed.info/sct",
    "DCM": "http://dicom.nema.org/resources/ontology/DCM",
    "UCUM": "http://unitsofmeasure.org",
    SCHEME: f"urn:oid:{derived_uid(SCHEME, 'coding-scheme')}",
}
"""HL7 v2 table 0396 name → URI of the system in FHIR (terminology.hl7.org, DICOM PS3.16 section 8.1)."""


@dataclass(frozen=True)
class Coded:
    """A code."""

    value: str
    scheme: str
    meaning: str


def _private(value: str, meaning: str) -> Coded:
    return Coded(value, SCHEME, meaning)


US_ABDOMEN: Final = Coded("24558-9", "LN", "US Abdomen")
"""LOINC of the examination that is reported on."""
FINDINGS: Final = Coded("59776-5", "LN", "Procedure findings")
DICOM_STUDY: Final = Coded("113014", "DCM", "DICOM Study")
LIVER: Final = Coded("10200004", "SCT", "Liver")
FAT_FRACTION: Final = Coded("129100", "DCM", "Fat fraction")
PROBABILITY: Final = Coded("122157", "DCM", "Probability")
PERCENT: Final = Coded("%", "UCUM", "Percent")
UNITY: Final = Coded("1", "UCUM", "no units")
SEVERITY: Final = {
    "S0": Coded("260413007", "SCT", "None"),
    "S1": Coded("255604002", "SCT", "Mild"),
    "S2": Coded("6736007", "SCT", "Moderate"),
    "S3": Coded("24484000", "SCT", "Severe"),
}
GRADE_NAME: Final = _private("GRADE", "Hepatic steatosis, PDFF-equivalent grade")
GRADE: Final = {grade: _private(grade, f"Hepatic steatosis grade {grade}") for grade in GRADES}
GRADE_PROBABILITY: Final = {
    grade: _private(f"P-{grade}", f"Probability of hepatic steatosis grade {grade}") for grade in GRADES
}
INTERVAL_LOW: Final = _private("FF-LOW", "Lower limit of the fat fraction interval")
INTERVAL_HIGH: Final = _private("FF-HIGH", "Upper limit of the fat fraction interval")
METHOD_FAT_FRACTION: Final = _private("M-BMODE-FF", "AI estimate from B-mode ultrasound, not MRI")
METHOD_PROBABILITY: Final = _private("M-GRADE-P", "Calibrated ensemble probability, steatosis is S1 or higher")
NO_SCORE_NAME: Final = _private("NO-SCORE", "No AI score, not a negative result")
REFUSAL: Final = {
    Refusal.NO_ULTRASOUND_IMAGE: _private("R-NO-US", "No ultrasound image in the study"),
    Refusal.NO_USABLE_VIEW: _private("R-NO-VIEW", "No frame with a usable B-mode region"),
    Refusal.NOT_LIVER: _private("R-NOT-LIVER", "No frame looks like liver B-mode"),
    Refusal.TOO_FEW_VIEWS: _private("R-FEW-VIEWS", "Fewer usable views than this site requires"),
    Refusal.UNDECODABLE: _private("R-UNDECODABLE", "No image could be decoded"),
}
NOTICE: Final = _private("RESEARCH", "For research use only")
"""Of messages alone: in DICOM, Content Qualification (0018,9004) says it."""
