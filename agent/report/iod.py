"""What the standard's tables require of an object: attributes of the mandatory modules of its IOD (PS3.3 Annex A).

The tables are those of PS3.3 as highdicom carries them. Conditions (Types 1C and 2C, modules of usage C) are prose in
the standard and are not judged here; the gate's own rules stand for those that we meet.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final

from highdicom._standard_utils import get_iod_module_map, get_module_attribute_map, get_sop_class_iod_map
from pydicom import Dataset
from pydicom.datadict import keyword_for_tag, tag_for_keyword
from pydicom.tag import BaseTag

MANDATORY: Final = "M"
BY_VALUE_TYPE: Final = "sr-document-content"
"""A content item's attributes depend on its Value Type (PS3.3 C.17.3): the table lists those of all types at once."""
VALUE_REQUIRED: Final = "1"
PRESENT: Final = ("1", "2")

Requirement = tuple[str, str, tuple[str, ...]]
"""Keyword, type, and the sequences it lies in from the outside in."""


def iod_fault(read: Dataset) -> str | None:
    """Say which required attribute is missing or empty, or which one the IOD does not know; None if neither."""
    sop_class = str(read.SOPClassUID)
    if sop_class not in get_sop_class_iod_map():
        return f"no IOD is known for SOP class {sop_class}"
    for keyword, kind, path in requirements(sop_class):
        for holder in _holders(read, path):
            if fault := _lacking(holder, keyword, kind):
                return f"{'.'.join((*path, keyword))} of Type {kind} {fault}"
    foreign = [name for name in map(keyword_for_tag, map(BaseTag, read.keys())) if name not in known(sop_class)]
    return f"{foreign[0] or 'a private attribute'} belongs to no module of the IOD" if foreign else None


@lru_cache(maxsize=16)
def requirements(sop_class_uid: str) -> tuple[Requirement, ...]:
    """Attributes of Types 1 and 2 of every mandatory module of the IOD of a SOP class."""
    return tuple(
        (row["keyword"], row["type"], tuple(row["path"]))
        for module in get_iod_module_map()[get_sop_class_iod_map()[sop_class_uid]]
        if module["usage"] == MANDATORY and module["key"] != BY_VALUE_TYPE
        for row in get_module_attribute_map()[module["key"]]
        if row["type"] in PRESENT
    )


@lru_cache(maxsize=16)
def known(sop_class_uid: str) -> frozenset[str]:
    """Top-level attributes of every module that the IOD may have."""
    modules = [module["key"] for module in get_iod_module_map()[get_sop_class_iod_map()[sop_class_uid]]]
    return frozenset(row["keyword"] for key in modules for row in get_module_attribute_map()[key] if not row["path"])


def _holders(read: Dataset, path: Sequence[str]) -> Iterator[Dataset]:
    if not path:
        yield read
        return
    for item in read.get(path[0]) or ():
        yield from _holders(item, path[1:])


def _lacking(holder: Dataset, keyword: str, kind: str) -> str | None:
    tag = tag_for_keyword(keyword)
    element = None if tag is None else holder.get_item(tag)  # undecoded: a source's own bytes need no character set
    if element is None:
        return "is missing"
    return "is empty" if kind == VALUE_REQUIRED and not element.value and element.value != 0 else None
