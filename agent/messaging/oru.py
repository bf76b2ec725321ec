"""A result as HL7 v2.5.1 ORU^R01 (chapter 7), preliminary, in UTF-8; the same result gives the same bytes.

Observation identifiers are those of the Structured Report. The study stands in OBX as IHE writes it (RAD TF-2, table
4.7-7), the accession number in OBR-18.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from agent.domain import codes
from agent.domain.codes import Code
from agent.domain.notices import BANNER, RESEARCH_STATEMENT
from agent.domain.score import StudyScore
from agent.messaging.codes import DICOM_STUDY, FINDINGS, NOTICE, US_ABDOMEN
from agent.messaging.result import Identity, ResultMessage
from agent.messaging.sentences import finding

_ESCAPES: Final = {
    "\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\", "\r": " ", "\n": " ",
}  # fmt: skip
"""Chapter 2.7.1."""
_PRELIMINARY: Final = "P"
_DETAIL: Final = "O"
"""Observation result status (table 0085): order detail, no result."""
_SEXES: Final = {"M": "M", "F": "F", "O": "O"}


@dataclass(frozen=True, kw_only=True)
class OruProfile:
    """MSH-3 to MSH-6. Receiver is `application^facility`."""

    sending_application: str
    sending_facility: str = ""
    receiver: str = "^"


def control_id(message: ResultMessage) -> str:
    """MSH-10, 20 characters: a receiver that keeps them knows a message that comes twice."""
    return message.name("oru")[:20].upper()


def oru(message: ResultMessage, profile: OruProfile) -> str:
    """Write the message; segments end with a carriage return."""
    segments = [
        _msh(message, profile),
        _pid(message.identity),
        _obr(message, profile),
        f"NTE|1||{_escaped(RESEARCH_STATEMENT)}",
        *(f"OBX|{number}|{rest}" for number, rest in enumerate(_observations(message), 1)),
    ]
    return "\r".join(segments) + "\r"


def _msh(message: ResultMessage, profile: OruProfile) -> str:
    application, facility = profile.receiver.split("^")
    ours = f"{_escaped(profile.sending_application)}|{_escaped(profile.sending_facility)}"
    theirs = f"{_escaped(application)}|{_escaped(facility)}"
    kind, identifier = "ORU^R01^ORU_R01", control_id(message)
    return f"MSH|^~\\&|{ours}|{theirs}|{_moment(message)}||{kind}|{identifier}|P|2.5.1||||||UNICODE UTF-8"


def _pid(identity: Identity) -> str:
    """Patient ID as CX, name as XPN: its suffix comes before its prefix, other than in DICOM."""
    family, given, middle, prefix, suffix = (*map(_escaped, identity.patient_name), *[""] * 5)[:5]
    name = "^".join((family, given, middle, suffix, prefix)).rstrip("^") or "UNKNOWN"
    number = f"{_escaped(identity.patient_id)}^^^{_escaped(identity.issuer_of_patient_id)}^PI"
    return f"PID|1||{number}||{name}||{_escaped(identity.birth_date)}|{_SEXES.get(identity.sex, 'U')}"


def _obr(message: ResultMessage, profile: OruProfile) -> str:
    identity = message.identity
    fields = [""] * 26
    fields[1] = "1"
    fields[3] = f"{message.name('filler')[:16].upper()}^{_escaped(profile.sending_application)}"
    fields[4] = _code(US_ABDOMEN)
    fields[7] = _date(identity.study_date) or _moment(message)
    fields[18] = _escaped(identity.accession_number)
    fields[22] = _moment(message)
    fields[24] = "RUS"  # table 0074: radiology ultrasound
    fields[25] = _PRELIMINARY
    return "|".join(["OBR", *fields[1:]])


def _observations(message: ResultMessage) -> list[str]:
    identity, score = message.identity, message.outcome.score
    when = _date(identity.study_date)
    parts = [
        _obx("ST", _code(DICOM_STUDY), identity.study_instance_uid, status=_DETAIL),
        _obx("ST", "^SR Instance UID", identity.report_uid, status=_DETAIL),
        _obx("TX", _code(NOTICE), _escaped(f"{BANNER}. {RESEARCH_STATEMENT}"), when=when),
        *(_refused(message, when) if score is None else _scored(score, when)),
        _obx("TX", _code(FINDINGS), _escaped(finding(message.outcome)), when=when),
    ]
    if message.replaced_report_uid:
        parts.insert(2, _obx("ST", "^Replaced SR Instance UID", message.replaced_report_uid, status=_DETAIL))
    return parts


def _scored(score: StudyScore, when: str) -> list[str]:
    low, high = score.fat_fraction_interval
    fat, of_grade = codes.METHOD_FAT_FRACTION, codes.METHOD_GRADE_PROBABILITY
    numbers = [
        (codes.FAT_FRACTION, f"{score.fat_fraction_percent:.1f}", codes.PERCENT, fat),
        (codes.INTERVAL_LOW, f"{low:.1f}", codes.PERCENT, fat),
        (codes.INTERVAL_HIGH, f"{high:.1f}", codes.PERCENT, fat),
        (codes.PROBABILITY, f"{score.steatosis_probability:.3f}", codes.UNITY, codes.METHOD_PROBABILITY),
        *((codes.GRADE_PROBABILITY[g], f"{p:.3f}", codes.UNITY, of_grade) for g, p in score.probabilities.items()),
    ]
    return [
        _obx("CE", _code(codes.GRADE_NAME), _code(codes.GRADE[score.grade]), method=of_grade, when=when),
        *(_obx("NM", _code(name), value, unit=unit, method=how, when=when) for name, value, unit, how in numbers),
    ]


def _refused(message: ResultMessage, when: str) -> list[str]:
    refusal = message.outcome.refusal
    value = "" if refusal is None else _code(codes.REFUSAL[refusal])
    return [_obx("CE", _code(codes.NO_SCORE_NAME), value, when=when)]


def _obx(
    kind: str,
    name: str,
    value: str,
    *,
    unit: Code | None = None,
    status: str = _PRELIMINARY,
    method: Code | None = None,
    when: str = "",
) -> str:
    """Write an observation from its value type on; the set id stands before it."""
    fields = [kind, name, "", value, "" if unit is None else _code(unit), "", "", "", "", status, "", "", when, "", ""]
    return "|".join([*fields, "" if method is None else _code(method)]).rstrip("|")


def _code(code: Code) -> str:
    return f"{_escaped(code.value)}^{_escaped(code.meaning)}^{code.scheme}"


def _moment(message: ResultMessage) -> str:
    return message.content_at.strftime("%Y%m%d%H%M%S%z")


def _date(date: str) -> str:
    return date if len(date) == 8 and date.isdecimal() else ""


def _escaped(text: str) -> str:
    """Write text so that it cannot end its field."""
    return "".join(_ESCAPES.get(sign, sign) for sign in text if sign.isprintable() or sign in "\r\n")
