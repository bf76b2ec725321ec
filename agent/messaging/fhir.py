"""A result as FHIR: a transaction Bundle of one DiagnosticReport and its Observations, R4 or R5.

Every entry is a conditional create by an identifier derived from the result key, so that sending twice makes nothing
twice. The patient is a logical reference, identifier only: no name leaves, and no Patient is made.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from html import escape
from typing import Any, Final

from agent.domain import codes
from agent.domain.codes import Code
from agent.domain.eligibility import MANUFACTURER
from agent.domain.notices import BANNER
from agent.domain.score import StudyScore
from agent.messaging.codes import FHIR_SYSTEMS, NOTICE, US_ABDOMEN
from agent.messaging.result import ResultMessage
from agent.messaging.sentences import conclusion, finding

Resource = dict[str, Any]
DICOM_UID: Final = "urn:dicom:uid"
"""Identifier system of DICOM UIDs, each as `urn:oid:`."""
_URI: Final = "urn:ietf:rfc:3986"
_CATEGORY: Final = "http://terminology.hl7.org/CodeSystem/v2-0074"
_OBSERVATION_CATEGORY: Final = "http://terminology.hl7.org/CodeSystem/observation-category"
_IDENTIFIER_TYPE: Final = "http://terminology.hl7.org/CodeSystem/v2-0203"
_ABSENT: Final = "http://terminology.hl7.org/CodeSystem/data-absent-reason"
_REPLACES: Final = "http://hl7.org/fhir/StructureDefinition/diagnosticReport-replaces"
_LABELS: Final = (
    ("http://terminology.hl7.org/CodeSystem/v3-ActReason", "HRESCH", "healthcare research"),
    ("http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "AIAST", "Artificial Intelligence asserted"),
)
"""Security labels of every resource: purpose of use, and who asserts it."""


@dataclass(frozen=True, kw_only=True)
class FhirProfile:
    """How one server wants it.

    Parameters
    ----------
    version
        "R4" or "R5".
    patient_system
        URI of the identifier system of Patient IDs; None leaves it out.
    """

    version: str = "R4"
    patient_system: str | None = None


def report_identifier(message: ResultMessage) -> tuple[str, str]:
    """System and value that the DiagnosticReport is known by: the Structured Report's UID."""
    return DICOM_UID, f"urn:oid:{message.identity.report_uid}"


def transaction(message: ResultMessage, profile: FhirProfile) -> Resource:
    """Build the Bundle; the same result gives the same Bundle."""
    observations = [
        {**_common(message, profile), **part, "resourceType": "Observation"} for part in _observations(message)
    ]
    entries = [_entry(message, one) for one in observations]
    report = _report(message, profile, [entry["fullUrl"] for entry in entries])
    return {"resourceType": "Bundle", "type": "transaction", "entry": [_entry(message, report), *entries]}


def _entry(message: ResultMessage, resource: Resource) -> Resource:
    kind = resource["resourceType"]
    identifier = resource["identifier"][0]
    named = f"{identifier['system']}|{identifier['value']}"
    return {
        "fullUrl": uuid.UUID(message.name(named)).urn,
        "resource": resource,
        "request": {"method": "POST", "url": kind, "ifNoneExist": f"identifier={named}"},
    }


def _report(message: ResultMessage, profile: FhirProfile, results: list[str]) -> Resource:
    identity = message.identity
    system, value = report_identifier(message)
    study = "imagingStudy" if profile.version == "R4" else "study"
    report = {
        "resourceType": "DiagnosticReport",
        **_common(message, profile),
        "identifier": [{"system": system, "value": value}],
        "category": [{"coding": [{"system": _CATEGORY, "code": "RUS", "display": "Radiology Ultrasound"}]}],
        "code": _concept(US_ABDOMEN),
        study: [_by_uid("ImagingStudy", identity.study_instance_uid)],
        "result": [{"reference": one} for one in results],
        "conclusion": conclusion(message.outcome),
        "text": _narrative(message),
    }
    if identity.accession_number:
        number = {"type": _concept_of(_IDENTIFIER_TYPE, "ACSN", "Accession ID"), "value": identity.accession_number}
        report["basedOn"] = [{"type": "ServiceRequest", "identifier": number}]
    if message.replaced_report_uid:
        replaced = _by_uid("DiagnosticReport", message.replaced_report_uid)
        report["extension"] = [{"url": _REPLACES, "valueReference": replaced}]
    return report


def _common(message: ResultMessage, profile: FhirProfile) -> Resource:
    """Elements that report and observations share. Preliminary: nobody has verified it."""
    date, identity = message.identity.study_date, message.identity
    shared: Resource = {
        "meta": {
            "security": [{"system": s, "code": c, "display": d} for s, c, d in _LABELS],
            "tag": [_coding(NOTICE)],
        },
        "status": "preliminary",
        "subject": _subject(message, profile),
        "issued": message.content_at.isoformat(timespec="seconds"),
    }
    if not identity.patient_id:
        del shared["subject"]
    if len(date) == 8 and date.isdecimal():
        shared["effectiveDateTime"] = f"{date[:4]}-{date[4:6]}-{date[6:]}"
    return shared


def _subject(message: ResultMessage, profile: FhirProfile) -> Resource:
    identifier: Resource = {"value": message.identity.patient_id}
    if profile.patient_system:
        identifier["system"] = profile.patient_system
    if message.identity.issuer_of_patient_id:
        identifier["assigner"] = {"display": message.identity.issuer_of_patient_id}
    return {"type": "Patient", "identifier": identifier}


def _observations(message: ResultMessage) -> list[Resource]:
    score = message.outcome.score
    shared = {
        "contained": [_device(message)],
        "category": [_concept_of(_OBSERVATION_CATEGORY, "imaging", "Imaging")],
        "device": {"reference": "#model"},
        "bodySite": _concept(codes.LIVER),
    }
    parts = [_refused(message)] if score is None else [_grade(score), _fat_fraction(score)]
    return [
        {
            **shared,
            **part,
            "identifier": [{"system": _URI, "value": uuid.UUID(message.name(part["code"]["text"])).urn}],
            "note": [{"text": conclusion(message.outcome)}],
        }
        for part in parts
    ]


def _grade(score: StudyScore) -> Resource:
    components = [
        _component(codes.GRADE_PROBABILITY[grade], p, codes.UNITY) for grade, p in score.probabilities.items()
    ]
    steatosis = _component(codes.PROBABILITY, score.steatosis_probability, codes.UNITY)
    steatosis["code"]["text"] = codes.METHOD_PROBABILITY.meaning  # a component has no method of its own
    return {
        "code": _concept(codes.GRADE_NAME),
        "valueCodeableConcept": {
            "coding": [_coding(codes.GRADE[score.grade]), _coding(codes.SEVERITY[score.grade])],
            "text": codes.GRADE[score.grade].meaning,
        },
        "method": _concept(codes.METHOD_GRADE_PROBABILITY),
        "component": [*components, steatosis],
    }


def _fat_fraction(score: StudyScore) -> Resource:
    low, high = score.fat_fraction_interval
    return {
        "code": _concept(codes.FAT_FRACTION),
        "valueQuantity": _quantity(score.fat_fraction_percent, codes.PERCENT),
        "method": _concept(codes.METHOD_FAT_FRACTION),
        "component": [
            _component(codes.INTERVAL_LOW, low, codes.PERCENT),
            _component(codes.INTERVAL_HIGH, high, codes.PERCENT),
        ],
    }


def _refused(message: ResultMessage) -> Resource:
    """Say that there is no value, and why, so that silence never looks normal."""
    refusal = message.outcome.refusal
    component = [] if refusal is None else [{"code": _concept(codes.NO_SCORE_NAME),
                                             "valueCodeableConcept": _concept(codes.REFUSAL[refusal])}]  # fmt: skip
    return {
        "code": _concept(codes.GRADE_NAME),
        "dataAbsentReason": _concept_of(_ABSENT, "not-performed", "Not Performed"),
        "component": component,
    }


def _component(code: Code, value: float, unit: Code) -> Resource:
    return {"code": _concept(code), "valueQuantity": _quantity(value, unit)}


def _quantity(value: float, unit: Code) -> Resource:
    system = FHIR_SYSTEMS[unit.scheme]
    return {"value": round(value, 4), "unit": unit.value, "system": system, "code": unit.value}


def _device(message: ResultMessage) -> Resource:
    model = message.outcome.model
    return {
        "resourceType": "Device",
        "id": "model",
        "manufacturer": MANUFACTURER,
        "modelNumber": model.name,
        "version": [{"value": f"{model.version} ({model.digest[:12]}) on {model.backend} {model.precision}"}],
    }


def _narrative(message: ResultMessage) -> Resource:
    said = "".join(f"<p>{escape(text)}</p>" for text in (BANNER, finding(message.outcome)))
    return {"status": "generated", "div": f'<div xmlns="http://www.w3.org/1999/xhtml">{said}</div>'}


def _by_uid(kind: str, uid: str) -> Resource:
    return {"type": kind, "identifier": {"system": DICOM_UID, "value": f"urn:oid:{uid}"}}


def _coding(code: Code) -> Resource:
    return {"system": FHIR_SYSTEMS[code.scheme], "code": code.value, "display": code.meaning}


def _concept(code: Code) -> Resource:
    return {"coding": [_coding(code)], "text": code.meaning}


def _concept_of(system: str, code: str, display: str) -> Resource:
    return {"coding": [{"system": system, "code": code, "display": display}]}
