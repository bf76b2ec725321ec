"""What a FHIR server gets, judged by the published models of R4B and R5."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fhir.resources.bundle import Bundle as BundleR5
from fhir.resources.R4B.bundle import Bundle as BundleR4B

from agent.domain import codes
from agent.domain.notices import BANNER, RESEARCH_STATEMENT
from agent.domain.score import Refusal
from agent.messaging.codes import FHIR_SYSTEMS
from agent.messaging.fhir import FhirProfile, transaction
from agent.messaging.fhir_server import _report_id
from agent.messaging.result import ResultMessage
from agent.report import codes as report_codes
from tests.unit.messaging.message_source import message, refusal

MODELS = {"R4": BundleR4B, "R5": BundleR5}


def resources(bundle: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [one["resource"] for one in bundle["entry"] if one["resource"]["resourceType"] == kind]


@pytest.mark.parametrize("version", ["R4", "R5"])
@pytest.mark.parametrize("told", [message(), message(replaced_report_uid="2.25.7"), *map(refusal, Refusal)])
def test_every_bundle_is_valid(version: str, told: ResultMessage) -> None:
    bundle = transaction(told, FhirProfile(version=version, patient_system="urn:hospital:patients"))
    read = MODELS[version].model_validate_json(json.dumps(bundle))
    assert len(read.entry) == len(bundle["entry"])


def test_the_models_do_judge() -> None:
    """A missing status, and the other version's word for the study, are refused: the test above can fail."""
    for version, other in (("R4", "R5"), ("R5", "R4")):
        bundle = transaction(message(), FhirProfile(version=other))
        with pytest.raises(ValueError, match=r"study|imagingStudy"):
            MODELS[version].model_validate(bundle)


def test_what_the_score_says() -> None:
    bundle = transaction(message(), FhirProfile())
    (report,) = resources(bundle, "DiagnosticReport")
    grade, fat = resources(bundle, "Observation")
    assert report["code"]["coding"] == [{"system": "http://loinc.org", "code": "24558-9", "display": "US Abdomen"}]
    assert [one["code"] for one in grade["valueCodeableConcept"]["coding"]] == ["S2", "6736007"]
    assert fat["valueQuantity"] == {"value": 19.6, "unit": "%", "system": "http://unitsofmeasure.org", "code": "%"}
    assert sum(part["valueQuantity"]["value"] for part in grade["component"][:4]) == pytest.approx(1.0)
    assert grade["method"]["text"] == "Calibrated ensemble probability of the grade"
    assert grade["component"][4]["code"]["text"] == "Calibrated ensemble probability, steatosis is S1 or higher"
    assert report["imagingStudy"][0]["identifier"] == {"system": "urn:dicom:uid", "value": "urn:oid:1.2.3"}
    assert report["basedOn"][0]["identifier"]["value"] == "A-1"
    assert report["subject"]["identifier"] == {"value": "P|1", "assigner": {"display": "HOSP"}}
    assert {entry["reference"] for entry in report["result"]} == {entry["fullUrl"] for entry in bundle["entry"][1:]}


@pytest.mark.parametrize("told", [message(), refusal()])
def test_every_resource_says_that_it_is_research(told: ResultMessage) -> None:
    for entry in transaction(told, FhirProfile())["entry"]:
        resource = entry["resource"]
        assert resource["status"] == "preliminary"
        assert [label["code"] for label in resource["meta"]["security"]] == ["HRESCH", "AIAST"]
        assert [tag["code"] for tag in resource["meta"]["tag"]] == ["RESEARCH"]
        said = resource.get("conclusion") or resource["note"][0]["text"]
        assert said.startswith(RESEARCH_STATEMENT)
    assert BANNER in transaction(told, FhirProfile())["entry"][0]["resource"]["text"]["div"]


def test_no_name_and_no_birth_date_leave() -> None:
    written = json.dumps(transaction(message(), FhirProfile()), ensure_ascii=False)
    assert not [text for text in ("Müller", "Anna", "19700102", "1970-01-02") if text in written]


def test_a_refusal_has_no_value_and_a_reason() -> None:
    (observation,) = resources(transaction(refusal(), FhirProfile()), "Observation")
    assert "valueCodeableConcept" not in observation
    assert observation["dataAbsentReason"]["coding"][0]["code"] == "not-performed"
    assert observation["component"][0]["valueCodeableConcept"]["coding"][0]["code"] == "R-NOT-LIVER"


def test_the_same_result_is_the_same_bundle_under_the_same_condition() -> None:
    one, two = (transaction(message(), FhirProfile()) for _ in range(2))
    assert one == two
    conditions = [entry["request"]["ifNoneExist"] for entry in one["entry"]]
    assert conditions[0] == "identifier=urn:dicom:uid|urn:oid:2.25.111"
    assert len(set(conditions)) == 3


def test_codes_are_those_of_the_structured_report() -> None:
    ours = [value for value in vars(codes).values() if isinstance(value, codes.Code)]
    ours += [one for value in vars(codes).values() if isinstance(value, dict) for one in value.values()
             if isinstance(one, codes.Code)]  # fmt: skip
    assert len(ours) > 20
    assert {(code.value, code.scheme): code.meaning for code in ours}.items() <= report_codes.DECLARED.items()
    assert f"urn:oid:{report_codes.SCHEME_UID}" == FHIR_SYSTEMS[codes.SCHEME]


@pytest.mark.parametrize(
    "entry", [None, 1, {}, {"response": None}, {"response": "created"}, {"response": {"location": 3}}]
)
def test_an_answer_that_names_no_report_is_no_fault_of_ours(entry: Any) -> None:
    assert _report_id({"entry": [entry]}) is None
