"""Every code that a report may carry (PS3.16; dicom-results.md section 2), and our private scheme 99STEATOSIS."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
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
    METHOD_GRADE_PROBABILITY,
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
from agent.domain.eligibility import MANUFACTURER
from agent.domain.score import GRADES, Quality
from agent.report.data_set import DataSet, encoded
from agent.report.judgement import Verdict

__all__ = [
    "FAT_FRACTION",
    "GRADE",
    "GRADE_NAME",
    "GRADE_PROBABILITY",
    "INTERVAL_HIGH",
    "INTERVAL_LOW",
    "LIVER",
    "METHOD_FAT_FRACTION",
    "METHOD_GRADE_PROBABILITY",
    "METHOD_PROBABILITY",
    "NO_SCORE_NAME",
    "PERCENT",
    "PROBABILITY",
    "REFUSAL",
    "SCHEME",
    "SCHEME_UID",
    "SEVERITY",
    "UNITY",
    "Code",
]

SCHEME_VERSION: Final = "1"

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

# Written by the templates that highdicom fills in (TID 1204, 1002, 1004, 1500, 1501, 4019, 300); here for the gate
LANGUAGE: Final = Code("121049", "DCM", "Language of Content Item and Descendants")
ENGLISH: Final = Code("en-US", "RFC5646", "English (United States)")
OBSERVER_TYPE: Final = Code("121005", "DCM", "Observer Type")
OBSERVER_UID: Final = Code("121012", "DCM", "Device Observer UID")
OBSERVER_NAME: Final = Code("121013", "DCM", "Device Observer Name")
OBSERVER_MANUFACTURER: Final = Code("121014", "DCM", "Device Observer Manufacturer")
OBSERVER_MODEL: Final = Code("121015", "DCM", "Device Observer Model Name")
PROCEDURE_REPORTED: Final = Code("121058", "DCM", "Procedure reported")
MEASUREMENTS: Final = Code("126010", "DCM", "Imaging Measurements")
MEASUREMENT_GROUP: Final = Code("125007", "DCM", "Measurement Group")
TRACKING_IDENTIFIER: Final = Code("112039", "DCM", "Tracking Identifier")
TRACKING_UID: Final = Code("112040", "DCM", "Tracking Unique Identifier")
FINDING: Final = Code("121071", "DCM", "Finding")
FINDING_SITE: Final = Code("363698007", "SCT", "Finding Site")
ALGORITHM_FAMILY: Final = Code("111000", "DCM", "Algorithm Family")
ALGORITHM_NAME: Final = Code("111001", "DCM", "Algorithm Name")
ALGORITHM_PARAMETERS: Final = Code("111002", "DCM", "Algorithm Parameters")
ALGORITHM_VERSION: Final = Code("111003", "DCM", "Algorithm Version")
ALGORITHM_MANUFACTURER: Final = Code("122405", "DCM", "Algorithm Manufacturer")
METHOD: Final = Code("370129005", "SCT", "Measurement Method")
DERIVATION: Final = Code("121401", "DCM", "Derivation")
SOURCE_OF_MEASUREMENT: Final = Code("121112", "DCM", "Source of Measurement")

# Purposes
PROCESSING_EQUIPMENT: Final = Code("109102", "DCM", "Processing Equipment")
REPLACED_REPORT: Final = Code("121360", "DCM", "Replaced report")
REJECTED_FOR_QUALITY: Final = Code("113001", "DCM", "Rejected for Quality Reasons")
KEY_OBJECT_DESCRIPTION: Final = Code("113012", "DCM", "Key Object Description")
SOURCE_FOR_PROCESSING: Final = Code("121322", "DCM", "Source image for image processing operation")
LOSSY_COMPRESSION: Final = Code("113040", "DCM", "Lossy Compression")
GRAD_CAM: Final = Code("130403", "DCM", "Gradient-weighted class activation")

# Findings
STEATOSIS: Final = Code("197321007", "SCT", "Steatosis of liver")
SEVERITY_NAME: Final = Code("246112005", "SCT", "Severity")
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
ESTIMATED: Final = Code("414135002", "SCT", "Estimated")
CERTAINTY: Final = Code("111012", "DCM", "Certainty of Finding")
UPPER_UNCERTAINTY: Final = Code("371886008", "SCT", "+, range of upper measurement uncertainty")
LOWER_UNCERTAINTY: Final = Code("371885007", "SCT", "-, range of lower measurement uncertainty")

# What no standard code says
GRADE_SET_NAME: Final = private("GRADE-SET", "Grades not excluded at the stated coverage")
CUT_OFF: Final = {grade: private(f"CUT-{grade}", f"Fat fraction cut-off of grade {grade}") for grade in GRADES[1:]}
COVERAGE: Final = private("COVERAGE", "Nominal coverage of interval and grade set")
FAT_FRACTION_SPREAD: Final = private("SD-FF", "Standard deviation of fat fraction over members")
PROBABILITY_SPREAD: Final = private("SD-P", "Standard deviation of steatosis probability over members")
VIEW_WEIGHT: Final = private("VIEW-WEIGHT", "Weight of the view in the study score")
VIEW_PROBABILITY: Final = private("VIEW-PROB", "Probability of the recognised view")
VIEW_QUALITY: Final = private("VIEW-QUALITY", "Quality of the view for the task, 0 to 1")
VIEW_USED: Final = private("VIEW-USED", "View used in the study score")
BORDERLINE: Final = private("BORDERLINE", "Result close to a cut-off")
EARLIER_FAT_FRACTION: Final = private("FF-EARLIER", "Fat fraction of the patient's earlier result")
FAT_FRACTION_CHANGE: Final = private("FF-CHANGE", "Change of fat fraction since the earlier result")
REPEATABILITY: Final = private("FF-RC", "Repeatability coefficient of the fat fraction")
CHANGE_NAME: Final = private("CHANGE", "Change since the earlier result")
CHANGE: Final = {
    Verdict.WITHIN: private("CHANGE-WITHIN", "Within measurement variation"),
    Verdict.BEYOND: private("CHANGE-BEYOND", "Beyond measurement variation"),
    Verdict.UNJUDGED: private("CHANGE-UNJUDGED", "Not judged, repeatability not measured"),
}
METHOD_SINGLE_VIEW: Final = private("M-VIEW-P", "Calibrated probability of this view scored alone")

VIEW: Final[Mapping[str, Code]] = {
    "subcostal": private("V-SUBCOSTAL", "Subcostal oblique view of liver with hepatic veins"),
    "intercostal": private("V-INTERCOSTAL", "Right intercostal view of liver"),
    "liver-kidney": private("V-LIVER-KIDNEY", "Right liver-kidney view"),
    "left-lobe": private("V-LEFT-LOBE", "Left liver lobe view with aorta"),
}
"""The names are those of `inference.contract.VIEWS`; a test holds them together."""
VIEW_OTHER: Final = private("V-OTHER", "View not recognised")


def _declared(values: Mapping[str, object]) -> dict[tuple[str, str], str]:
    """Collect every `Code` of this module, also those in tables."""
    found: dict[tuple[str, str], str] = {}
    for value in values.values():
        for code in value.values() if isinstance(value, Mapping) else (value,):
            if isinstance(code, Code):
                found[(code.value, code.scheme)] = code.meaning
    return found


DECLARED: Final = _declared(globals())
"""(value, scheme) → meaning of every code that may leave this room; the gate refuses any other."""


@cache
def code_item(code: Code) -> bytes:
    """Make an item of a code sequence (PS3.3 Table 8.8-1), encoded: a report holds the same few hundreds of times."""
    item = DataSet()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code
    return encoded(item)


def scheme_identification() -> DataSet:
    """Declare 99STEATOSIS for Coding Scheme Identification Sequence (PS3.3 C.12.1, 0008,0110)."""
    item = DataSet()
    item.CodingSchemeDesignator = SCHEME
    item.CodingSchemeUID = SCHEME_UID
    item.CodingSchemeName = "Hepatic steatosis agent concepts"
    item.CodingSchemeVersion = SCHEME_VERSION
    item.CodingSchemeResponsibleOrganization = MANUFACTURER
    return item
