"""Content items and references of our objects: highdicom's content tree as our encoder takes it, and small macros.

highdicom makes the Structured Report's content by the templates of PS3.16, and checks it while it does. A report names
the same few codes hundreds of times, so each is made once; so is what says the same in each report of a model.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, Final, TypeVar

from highdicom import sr
from pydicom.dataset import Dataset

from agent.report.codes import Code, code_item
from agent.report.data_set import DataSet, encoded

CONTAINS: Final = sr.RelationshipTypeValues.CONTAINS
ACQUISITION: Final = sr.RelationshipTypeValues.HAS_ACQ_CONTEXT
_CODE: Final = ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")


_SAID_AGAIN: Final[dict[int, tuple[Dataset, bytes]]] = {}
"""By identity: items that stand in many reports, and what they are encoded."""


class _Concept(sr.CodedConcept):
    """A code that remembers its hash, which highdicom asks for at every item that it puts into a sequence."""

    def __hash__(self) -> int:
        if "_hash" not in self.__dict__:
            self.__dict__["_hash"] = super().__hash__()
        return int(self.__dict__["_hash"])

    @property
    def encoded(self) -> bytes:
        """Its encoding, made once."""
        known: bytes | None = self.__dict__.get("_encoded")
        if known is None:
            known = self.__dict__["_encoded"] = code_item(Code(*(str(getattr(self, name)) for name in _CODE)))
        return known


@cache
def concept(code: Code) -> sr.CodedConcept:
    """Make highdicom's form of a code; it is shared, so nobody may change it."""
    return _Concept(*code)


def text(name: Code, value: str) -> sr.TextContentItem:
    """Make a TEXT item that is contained in what it stands in."""
    return sr.TextContentItem(name=concept(name), value=value, relationship_type=CONTAINS)


_Items = TypeVar("_Items", bound=Iterable[Dataset])


def said_again(items: _Items) -> _Items:
    """Note content items that other reports will hold, too: they are shared, and nobody may change them."""
    for item in items:
        if "CodingSchemeVersion" not in (name := item.ConceptNameCodeSequence[0]):
            name.__class__ = _Concept
        _SAID_AGAIN[id(item)] = item, encoded(_taken_over(item))
    return items


@cache
def evaluation(name: Code, value: Code) -> sr.QualitativeEvaluation:
    """Make a qualitative evaluation (TID 1501 row 10)."""
    return said_again(sr.QualitativeEvaluation(concept(name), concept(value)))


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
            value = [_encoded(one) or _taken_over(one) for one in value]
        elif element.VM > 1:
            value = list(value)
        setattr(made, element.keyword, value)
    if "ContinuityOfContent" in vars(made):
        made.ContinuityOfContent = "SEPARATE"
    return made


def _encoded(item: Dataset) -> bytes | None:
    """Give what is known of an item that stands in many reports, or in many places of one."""
    known = _SAID_AGAIN.get(id(item))
    if known is not None:
        return known[1]
    if isinstance(item, _Concept):  # one of ours, with what it is encoded
        return item.encoded
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
