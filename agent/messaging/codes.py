"""Codes of messages alone, and the systems' names in FHIR and HL7 v2; all others are the Structured Report's, too."""

from __future__ import annotations

from typing import Final

from agent.domain.codes import SCHEME, SCHEME_UID, Code, private

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
