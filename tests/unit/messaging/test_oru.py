"""What an HL7 v2 receiver gets, judged by hl7apy's tables of version 2.5.1."""

from __future__ import annotations

import pytest
from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.exceptions import HL7apyException
from hl7apy.parser import parse_message

from agent.domain.notices import RESEARCH_STATEMENT
from agent.domain.score import Refusal
from agent.messaging.oru import OruProfile, control_id, oru
from agent.messaging.result import ResultMessage
from tests.unit.messaging.message_source import IDENTITY, message, refusal

PROFILE = OruProfile(sending_application="STEATOSIS", sending_facility="LAB", receiver="RIS^HOSPITAL")


def segments(told: ResultMessage) -> list[list[str]]:
    return [line.split("|") for line in oru(told, PROFILE).split("\r") if line]


def observed(told: ResultMessage) -> dict[str, list[str]]:
    return {line[3].split("^")[0]: line for line in segments(told) if line[0] == "OBX"}


@pytest.mark.parametrize("told", [message(), message(replaced_report_uid="2.25.7"), *map(refusal, Refusal)])
def test_every_message_is_valid(told: ResultMessage) -> None:
    read = parse_message(oru(told, PROFILE), validation_level=VALIDATION_LEVEL.TOLERANT)
    assert read.name == "ORU_R01"
    assert read.validate()


def test_the_tables_do_judge() -> None:
    broken = oru(message(), PROFILE).replace("OBR|1", "ZZZ|1")
    with pytest.raises(HL7apyException):
        parse_message(broken, validation_level=VALIDATION_LEVEL.TOLERANT).validate()


def test_text_of_the_source_cannot_end_its_field() -> None:
    pid = segments(message())[1]
    assert pid[3] == "P\\F\\1^^^HOSP^PI"
    assert pid[5] == "Müller^Anna\\S\\^B^MSc^Dr", "XPN: suffix before prefix"
    assert (pid[7], pid[8]) == ("19700102", "F")


def test_a_line_break_in_a_name_makes_no_segment() -> None:
    hostile = message(identity=type(IDENTITY)(report_uid="2.25.1", study_instance_uid="1.2", patient_id="x\rOBX|9|"))
    assert [line[0] for line in segments(hostile)] == [line[0] for line in segments(message())]


def test_what_the_score_says() -> None:
    told = observed(message())
    assert told["GRADE"][5].startswith(("S2^", "Hepatic"))
    assert (told["129100"][2], told["129100"][5], told["129100"][6]) == ("NM", "19.6", "%^Percent^UCUM")
    assert told["113014"][5] == "1.2.3"
    assert told["GRADE"][17].startswith("M-EACH-GRADE-P^")
    assert told["122157"][17].startswith("M-GRADE-P^"), "probability of S1 or higher"
    obr = next(line for line in segments(message()) if line[0] == "OBR")
    assert obr[4] == "24558-9^US Abdomen^LN"
    assert (obr[18], obr[24], obr[25]) == ("A-1", "RUS", "P")


@pytest.mark.parametrize("told", [message(), refusal()])
def test_every_message_says_that_it_is_research(told: ResultMessage) -> None:
    lines = segments(told)
    assert ["NTE", "1", "", RESEARCH_STATEMENT] in lines
    assert RESEARCH_STATEMENT in observed(told)["RESEARCH"][5]
    assert {line[11] for line in lines if line[0] == "OBX"} == {"P", "O"}, "nothing is final"


def test_a_refusal_says_why() -> None:
    assert observed(refusal())["NO-SCORE"][5].startswith("R-NOT-LIVER^")
    assert "129100" not in observed(refusal())


def test_the_same_result_is_the_same_message() -> None:
    assert oru(message(), PROFILE) == oru(message(), PROFILE)
    assert control_id(message()) != control_id(message(result_key="another"))
    assert len(control_id(message())) == 20
