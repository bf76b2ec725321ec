"""Codes that a result carries in DICOM and in messages (PS3.16), and our private scheme 99STEATOSIS."""

from __future__ import annotations

from typing import Final, NamedTuple

from agent.domain.result_uids import derived_uid
from agent.domain.score import GRADES, Refusal

SCHEME: Final = "99STEATOSIS"
SCHEME_UID: Final = derived_uid(SCHEME, "coding-scheme")
"""Constant: a hash of the scheme's own designator."""


class Code(NamedTuple):
    """A code: Code Value, Coding Scheme Designator and Code Meaning (PS3.3 section 8)."""

    value: str
    scheme: str
    meaning: str


def private(value: str, meaning: str) -> Code:
    """Make a code of our own scheme."""
    return Code(value, SCHEME, meaning)


LIVER: Final = Code("10200004", "SCT", "Liver")
FAT_FRACTION: Final = Code("129100", "DCM", "Fat fraction")
PROBABILITY: Final = Code("122157", "DCM", "Probability")
PERCENT: Final = Code("%", "UCUM", "Percent")
UNITY: Final = Code("1", "UCUM", "no units")
SEVERITY: Final = {
    "S0": Code("260413007", "SCT", "None"),
    "S1": Code("255604002", "SCT", "Mild"),
    "S2": Code("6736007", "SCT", "Moderate"),
    "S3": Code("24484000", "SCT", "Severe"),
}
GRADE_NAME: Final = private("GRADE", "Hepatic steatosis, PDFF-equivalent grade")
GRADE: Final = {grade: private(grade, f"Hepatic steatosis grade {grade}") for grade in GRADES}
GRADE_PROBABILITY: Final = {
    grade: private(f"P-{grade}", f"Probability of hepatic steatosis grade {grade}") for grade in GRADES
}
INTERVAL_LOW: Final = private("FF-LOW", "Lower limit of the fat fraction interval")
INTERVAL_HIGH: Final = private("FF-HIGH", "Upper limit of the fat fraction interval")
METHOD_FAT_FRACTION: Final = private("M-BMODE-FF", "AI estimate from B-mode ultrasound, not MRI")
METHOD_PROBABILITY: Final = private("M-GRADE-P", "Calibrated ensemble probability, steatosis is S1 or higher")
METHOD_GRADE_PROBABILITY: Final = private("M-EACH-GRADE-P", "Calibrated ensemble probability of the grade")
NO_SCORE_NAME: Final = private("NO-SCORE", "No AI score, not a negative result")
REFUSAL: Final = {
    Refusal.NO_ULTRASOUND_IMAGE: private("R-NO-US", "No ultrasound image in the study"),
    Refusal.NO_USABLE_VIEW: private("R-NO-VIEW", "No frame with a usable B-mode region"),
    Refusal.NOT_LIVER: private("R-NOT-LIVER", "No frame looks like liver B-mode"),
    Refusal.TOO_FEW_VIEWS: private("R-FEW-VIEWS", "Fewer usable views than this site requires"),
    Refusal.UNDECODABLE: private("R-UNDECODABLE", "No image could be decoded"),
}
