"""Every code that a report may carry (PS3.16; dicom-results.md section 2), and our private scheme 99STEATOSIS."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from agent.domain.eligibility import MANUFACTURER
from agent.domain.result_uids import derived_uid
from agent.domain.score import GRADES, Quality, Refusal
from agent.report.judgement import Verdict

SCHEME: Final = "99STEATOSIS"
SCHEME_VERSION: Final = "1"
SCHEME_UID: Final = derived_uid(SCHEME, "coding-scheme")
"""Constant: a hash of the scheme's own designator."""


def _private(value: str, meaning: str) -> Code:
    return Code(value, SCHEME, meaning)


# Document, context and evidence
REPORT_TITLE: Final = Code("126000", "DCM", "Imaging Measurement Report")
ULTRASOUND_OF_ABDOMEN: Final = Code("45036003", "SCT", "Ultrasonography of abdomen")
DEVICE: Final = Code("121007", "DCM", "Device")
ULTRASOUND: Final = Code("US", "DCM", "Ultrasound")
MODALITY: Final = Code("121139", "DCM", "Modality")
IMAGE_LIBRARY: Final = Code("111028", "DCM", "Image Library")
IMAGE_LIBRARY_GROUP: Final = Code("126200", "DCM", "Image Library Group")
SOURCE: Final = Code("260753009", "SCT", "Source")
COMMENT: Final = Code("121106", "DCM", "Comment")
ARTIFICIAL_INTELLIGENCE: Final = Code("123110", "DCM", "Artificial Intelligence")

# Purposes
PROCESSING_EQUIPMENT: Final = Code("109102", "DCM", "Processing Equipment")
REPLACED_REPORT: Final = Code("121360", "DCM", "Replaced report")
REJECTED_FOR_QUALITY: Final = Code("113001", "DCM", "Rejected for Quality Reasons")
KEY_OBJECT_DESCRIPTION: Final = Code("113012", "DCM", "Key Object Description")
SOURCE_FOR_PROCESSING: Final = Code("121322", "DCM", "Source image for image processing operation")
GRAD_CAM: Final = Code("130403", "DCM", "Gradient-weighted class activation")

# Findings
LIVER: Final = Code("10200004", "SCT", "Liver")
STEATOSIS: Final = Code("197321007", "SCT", "Steatosis of liver")
SEVERITY_NAME: Final = Code("246112005", "SCT", "Severity")
SEVERITY: Final = {
    "S0": Code("260413007", "SCT", "None"),
    "S1": Code("255604002", "SCT", "Mild"),
    "S2": Code("6736007", "SCT", "Moderate"),
    "S3": Code("24484000", "SCT", "Severe"),
}
QUALITY_NAME: Final = Code("111050", "DCM", "Quality Assessment")
QUALITY: Final = {
    Quality.DIAGNOSTIC: Code("RID12", "RADLEX", "Diagnostic quality"),
    Quality.LIMITED: Code("RID13", "RADLEX", "Limited quality"),
    Quality.NON_DIAGNOSTIC: Code("RID14", "RADLEX", "Non-diagnostic quality"),
}
VIEW_NAME: Final = Code("111031", "DCM", "Image View")
YES: Final = Code("373066001", "SCT", "Yes")
NO: Final = Code("373067005", "SCT", "No")

# Measurements
FAT_FRACTION: Final = Code("129100", "DCM", "Fat fraction")
ESTIMATED: Final = Code("414135002", "SCT", "Estimated")
PROBABILITY: Final = Code("122157", "DCM", "Probability")
CERTAINTY: Final = Code("111012", "DCM", "Certainty of Finding")
UPPER_UNCERTAINTY: Final = Code("371886008", "SCT", "+, range of upper measurement uncertainty")
LOWER_UNCERTAINTY: Final = Code("371885007", "SCT", "-, range of lower measurement uncertainty")
PERCENT: Final = Code("%", "UCUM", "Percent")
UNITY: Final = Code("1", "UCUM", "no units")

# What no standard code says
GRADE_NAME: Final = _private("GRADE", "Hepatic steatosis, PDFF-equivalent grade")
GRADE_SET_NAME: Final = _private("GRADE-SET", "Grades not excluded at the stated coverage")
GRADE: Final = {grade: _private(grade, f"Hepatic steatosis grade {grade}") for grade in GRADES}
GRADE_PROBABILITY: Final = {
    grade: _private(f"P-{grade}", f"Probability of hepatic steatosis grade {grade}") for grade in GRADES
}
CUT_OFF: Final = {grade: _private(f"CUT-{grade}", f"Fat fraction cut-off of grade {grade}") for grade in GRADES[1:]}
INTERVAL_LOW: Final = _private("FF-LOW", "Lower limit of the fat fraction interval")
INTERVAL_HIGH: Final = _private("FF-HIGH", "Upper limit of the fat fraction interval")
COVERAGE: Final = _private("COVERAGE", "Nominal coverage of interval and grade set")
FAT_FRACTION_SPREAD: Final = _private("SD-FF", "Standard deviation of fat fraction over members")
PROBABILITY_SPREAD: Final = _private("SD-P", "Standard deviation of steatosis probability over members")
VIEW_WEIGHT: Final = _private("VIEW-WEIGHT", "Weight of the view in the study score")
VIEW_PROBABILITY: Final = _private("VIEW-PROB", "Probability of the recognised view")
VIEW_QUALITY: Final = _private("VIEW-QUALITY", "Quality of the view for the task, 0 to 1")
VIEW_USED: Final = _private("VIEW-USED", "View used in the study score")
BORDERLINE: Final = _private("BORDERLINE", "Result close to a cut-off")
EARLIER_FAT_FRACTION: Final = _private("FF-EARLIER", "Fat fraction of the patient's earlier result")
FAT_FRACTION_CHANGE: Final = _private("FF-CHANGE", "Change of fat fraction since the earlier result")
REPEATABILITY: Final = _private("FF-RC", "Repeatability coefficient of the fat fraction")
CHANGE_NAME: Final = _private("CHANGE", "Change since the earlier result")
CHANGE: Final = {
    Verdict.WITHIN: _private("CHANGE-WITHIN", "Within measurement variation"),
    Verdict.BEYOND: _private("CHANGE-BEYOND", "Beyond measurement variation"),
    Verdict.UNJUDGED: _private("CHANGE-UNJUDGED", "Not judged, repeatability not measured"),
}
NO_SCORE_NAME: Final = _private("NO-SCORE", "No AI score, not a negative result")
METHOD_FAT_FRACTION: Final = _private("M-BMODE-FF", "AI estimate from B-mode ultrasound, not MRI")
METHOD_PROBABILITY: Final = _private("M-GRADE-P", "Calibrated ensemble probability, steatosis is S1 or higher")
METHOD_SINGLE_VIEW: Final = _private("M-VIEW-P", "Calibrated probability of this view scored alone")

VIEW: Final[Mapping[str, Code]] = {
    "subcostal": _private("V-SUBCOSTAL", "Subcostal oblique view of liver with hepatic veins"),
    "intercostal": _private("V-INTERCOSTAL", "Right intercostal view of liver"),
    "liver-kidney": _private("V-LIVER-KIDNEY", "Right liver-kidney view"),
    "left-lobe": _private("V-LEFT-LOBE", "Left liver lobe view with aorta"),
}
"""The names are those of `inference.contract.VIEWS`; a test holds them together."""
VIEW_OTHER: Final = _private("V-OTHER", "View not recognised")

REFUSAL: Final = {
    Refusal.NO_ULTRASOUND_IMAGE: _private("R-NO-US", "No ultrasound image in the study"),
    Refusal.NO_USABLE_VIEW: _private("R-NO-VIEW", "No frame with a usable B-mode region"),
    Refusal.NOT_LIVER: _private("R-NOT-LIVER", "No frame looks like liver B-mode"),
    Refusal.TOO_FEW_VIEWS: _private("R-FEW-VIEWS", "Fewer usable views than this site requires"),
    Refusal.UNDECODABLE: _private("R-UNDECODABLE", "No image could be decoded"),
}


def _declared(values: Mapping[str, object]) -> dict[tuple[str, str], str]:
    """Collect every `Code` of this module, also those in tables."""
    found: dict[tuple[str, str], str] = {}
    for value in values.values():
        for code in value.values() if isinstance(value, Mapping) else (value,):
            if isinstance(code, Code):
                found[(code.value, code.scheme_designator)] = code.meaning
    return found


TEMPLATE_CODES: Final = {
    ("121049", "DCM"): "Language of Content Item and Descendants",
    ("en-US", "RFC5646"): "English (United States)",
    ("121005", "DCM"): "Observer Type",
    ("121012", "DCM"): "Device Observer UID",
    ("121013", "DCM"): "Device Observer Name",
    ("121014", "DCM"): "Device Observer Manufacturer",
    ("121015", "DCM"): "Device Observer Model Name",
    ("121058", "DCM"): "Procedure reported",
    ("126010", "DCM"): "Imaging Measurements",
    ("125007", "DCM"): "Measurement Group",
    ("112039", "DCM"): "Tracking Identifier",
    ("112040", "DCM"): "Tracking Unique Identifier",
    ("121071", "DCM"): "Finding",
    ("363698007", "SCT"): "Finding Site",
    ("111000", "DCM"): "Algorithm Family",
    ("111001", "DCM"): "Algorithm Name",
    ("111002", "DCM"): "Algorithm Parameters",
    ("111003", "DCM"): "Algorithm Version",
    ("122405", "DCM"): "Algorithm Manufacturer",
    ("370129005", "SCT"): "Measurement Method",
    ("121401", "DCM"): "Derivation",
    ("260753009", "SCT"): "Source",
    ("121112", "DCM"): "Source of Measurement",
}
"""Codes that highdicom's templates write (TID 1204, 1002, 1004, 1500, 1501, 4019, 300)."""

DECLARED: Final = {**TEMPLATE_CODES, **_declared(globals())}
"""(value, scheme) → meaning of every code that may leave this room; the gate refuses any other."""


def code_item(code: Code) -> Dataset:
    """Make an item of a code sequence (PS3.3 Table 8.8-1)."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme_designator, code.meaning
    return item


def scheme_identification() -> Dataset:
    """Declare 99STEATOSIS for Coding Scheme Identification Sequence (PS3.3 C.12.1, 0008,0110)."""
    item = Dataset()
    item.CodingSchemeDesignator = SCHEME
    item.CodingSchemeUID = SCHEME_UID
    item.CodingSchemeName = "Hepatic steatosis agent concepts"
    item.CodingSchemeVersion = SCHEME_VERSION
    item.CodingSchemeResponsibleOrganization = MANUFACTURER
    return item
