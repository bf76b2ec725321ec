"""Content items and references of our objects: highdicom's content tree as our encoder takes it, and small macros.

highdicom makes the Structured Report's content by the templates of PS3.16, and checks it while it does. A report names
the same few codes hundreds of times, so each is made once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, Final

from highdicom import sr
from pydicom.dataset import Dataset

from agent.report.codes import Code, code_item
from agent.report.data_set import DataSet

CONTAINS: Final = sr.RelationshipTypeValues.CONTAINS
ACQUISITION: Final = sr.RelationshipTypeValues.HAS_ACQ_CONTEXT
_CODE: Final = ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")


@cache
def concept(code: Code) -> sr.CodedConcept:
    """Make highdicom's form of a code; it is shared, so nobody may change it."""
    return sr.CodedConcept(*code)


def text(name: Code, value: str) -> sr.TextContentItem:
    """Make a TEXT item that is contained in what it stands in."""
    return sr.TextContentItem(name=concept(name), value=value, relationship_type=CONTAINS)


def evaluation(name: Code, value: Code) -> sr.QualitativeEvaluation:
    """Make a qualitative evaluation (TID 1501 row 10)."""
    return sr.QualitativeEvaluation(concept(name), concept(value))


def taken_over(items: Iterable[Dataset]) -> list[DataSet]:
    """Take content items of highdicom over, at any depth.

    Every container becomes SEPARATE: highdicom writes CONTINUOUS, which means running text.
    """
    return [_taken_over(item) for item in items]


def _taken_over(item: Dataset) -> DataSet:
    made = DataSet()
    for element in item:
        value: Any = element.value
        if element.VR == "SQ":
            value = [_code(one) or _taken_over(one) for one in value]
        elif element.VM > 1:
            value = list(value)
        setattr(made, element.keyword, value)
    if "ContinuityOfContent" in vars(made):
        made.ContinuityOfContent = "SEPARATE"
    return made


def _code(item: Dataset) -> bytes | None:
    if not isinstance(item, sr.CodedConcept) or "CodingSchemeVersion" in item:
        return None
    return code_item(Code(*(str(getattr(item, name)) for name in _CODE)))


def template_item(number: str) -> DataSet:
    """Name a template of PS3.16."""
    made = DataSet()
    made.MappingResource, made.TemplateIdentifier = "DCMR", number
    return made


def instance(sop_class_uid: str, sop_instance_uid: str, frames: Sequence[int] | None = None) -> DataSet:
    """Refer to an instance, or to some frames of it (PS3.3 Tables 10-3 and 10-11)."""
    made = DataSet()
    made.ReferencedSOPClassUID, made.ReferencedSOPInstanceUID = sop_class_uid, sop_instance_uid
    if frames:
        made.ReferencedFrameNumber = list(frames)
    return made
