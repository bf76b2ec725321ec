"""Codes of messages: those that the Structured Report has, too, and the systems' names in FHIR and HL7 v2."""

from __future__ import annotations

from typing import Final

from agent.domain.codes import (
    FAT_FRACTION,
    GRADE,
    GRADE_NAME,
    GRADE_PROBABILITY,
    INTERVAL_HIGH,
    INTERVAL_LOW,
    LIVER,
    METHOD_FAT_FRACTION,
    METHOD_PROBABILITY,
    NO_SCORE_NAME,
    PERCENT,
    PROBABILITY,
    REFUSAL,
    SCHEME,
    SCHEME_UID,
    SEVERITY,
    UNITY,
    Code,
    private,
)

__all__ = [
    "FAT_FRACTION",
    "GRADE",
    "GRADE_NAME",
    "GRADE_PROBABILITY",
    "INTERVAL_HIGH",
    "INTERVAL_LOW",
    "LIVER",
    "METHOD_FAT_FRACTION",
    "METHOD_PROBABILITY",
    "NO_SCORE_NAME",
    "PERCENT",
    "PROBABILITY",
    "REFUSAL",
    "SCHEME",
    "SEVERITY",
    "UNITY",
    "Code",
]

FHIR_SYSTEMS: Final = {
    "LN": "http://loinc.org",
    "SCT": "http://snomed.info/sct",
    "DCM": "http://dicom.nema.org/resources/ontology/DCM",
    "UCUM": "http://unitsofmeasure.org",
    SCHEME: f"urn:oid:{SCHEME_UID}",
}
"""HL7 v2 table 0396 name → URI of the system in FHIR (terminology.hl7.org, DICOM PS3.16 section 8.1)."""

US_ABDOMEN: Final = Code("24558-9", "LN", "US Abdomen")
"""LOINC of the examination that is reported on."""
FINDINGS: Final = Code("59776-5", "LN", "Procedure findings")
DICOM_STUDY: Final = Code("113014", "DCM", "DICOM Study")
NOTICE: Final = private("RESEARCH", "For research use only")
"""Of messages alone: in DICOM, Content Qualification (0018,9004) says it."""
