"""Content items of a Structured Report by their Value Type (PS3.3 Table C.17.3-1)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from pydicom.valuerep import format_number_as_ds

from agent.report.codes import Code, code_item
from agent.report.data_set import DataSet

CONTAINS: Final = "CONTAINS"
PROPERTY: Final = "HAS PROPERTIES"
CONTEXT: Final = "HAS OBS CONTEXT"
ACQUISITION: Final = "HAS ACQ CONTEXT"
MODIFIER: Final = "HAS CONCEPT MOD"


def text(name: Code, value: str, relationship: str = CONTAINS) -> DataSet:
    """Make a TEXT item."""
    made = _item("TEXT", name, relationship)
    made.TextValue = value
    return made


def code(name: Code, value: Code, relationship: str = CONTAINS) -> DataSet:
    """Make a CODE item."""
    made = _item("CODE", name, relationship)
    made.ConceptCodeSequence = [code_item(value)]
    return made


def uid_reference(name: Code, uid: str, relationship: str = CONTEXT) -> DataSet:
    """Make a UIDREF item."""
    made = _item("UIDREF", name, relationship)
    made.UID = uid
    return made


def number(
    name: Code, value: float, unit: Code, relationship: str = CONTAINS, children: Iterable[DataSet] = ()
) -> DataSet:
    """Make a NUM item; raises ValueError where the value is not finite."""
    measured = DataSet()
    measured.NumericValue, measured.FloatingPointValue = format_number_as_ds(float(value)), float(value)
    measured.MeasurementUnitsCodeSequence = [code_item(unit)]
    made = _item("NUM", name, relationship)
    made.MeasuredValueSequence = [measured]
    return _with_children(made, children)


def image(name: Code, reference: DataSet, relationship: str = CONTAINS) -> DataSet:
    """Make an IMAGE item."""
    made = _item("IMAGE", name, relationship)
    made.ReferencedSOPSequence = [reference]
    return made


def container(
    name: Code, children: Iterable[DataSet], relationship: str | None = CONTAINS, *, template: str | None = None
) -> DataSet:
    """Make a CONTAINER item, SEPARATE: its children are no running text.

    Parameters
    ----------
    relationship
        None: it is the root.
    template
        The number of its TID, where it begins one.
    """
    made = _item("CONTAINER", name, relationship)
    made.ContinuityOfContent = "SEPARATE"
    if template is not None:
        made.ContentTemplateSequence = [template_item(template)]
    return _with_children(made, children)


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


def _item(value_type: str, name: Code, relationship: str | None) -> DataSet:
    made = DataSet()
    if relationship is not None:
        made.RelationshipType = relationship
    made.ValueType, made.ConceptNameCodeSequence = value_type, [code_item(name)]
    return made


def _with_children(made: DataSet, children: Iterable[DataSet]) -> DataSet:
    if inside := list(children):
        made.ContentSequence = inside
    return made
