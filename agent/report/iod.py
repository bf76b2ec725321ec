"""What the standard's tables require of an object: attributes of the mandatory modules of its IOD (PS3.3 Annex A).

The tables are those of PS3.3 as highdicom carries them. Conditions (Types 1C and 2C, modules of usage C) are prose in
the standard and are not judged here; the gate's own rules stand for those that we meet.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final

from highdicom._standard_utils import get_iod_module_map, get_module_attribute_map, get_sop_class_iod_map

from agent.report.read_back import Item

MANDATORY: Final = "M"
BY_VALUE_TYPE: Final = "sr-document-content"
"""A content item's attributes depend on its Value Type (PS3.3 C.17.3): the table lists those of all types at once."""
VALUE_REQUIRED: Final = "1"
PRESENT: Final = ("1", "2")

Requirements = dict[tuple[str, ...], list[tuple[str, str]]]
"""Keyword and type of each, by the sequences they lie in from the outside in."""


def iod_fault(read: Item) -> str | None:
    """Say which required attribute is missing or empty, or which one the IOD does not know; None if neither."""
    sop_class = read.text("SOPClassUID")
    if sop_class not in get_sop_class_iod_map():
        return f"no IOD is known for SOP class {sop_class}"
    for path, wanted in requirements(sop_class).items():
        for holder in _holders(read, path):
            for keyword, kind in wanted:
                if fault := _lacking(holder, keyword, kind):
                    return f"{'.'.join((*path, keyword))} of Type {kind} {fault}"
    foreign = read.elements.keys() - known(sop_class)
    return f"{min(foreign)} belongs to no module of the IOD" if foreign else None


@lru_cache(maxsize=16)
def requirements(sop_class_uid: str) -> Requirements:
    """Attributes of Types 1 and 2 of every mandatory module of the IOD of a SOP class."""
    found: Requirements = {}
    for module in get_iod_module_map()[get_sop_class_iod_map()[sop_class_uid]]:
        if module["usage"] != MANDATORY or module["key"] == BY_VALUE_TYPE:
            continue
        for row in get_module_attribute_map()[module["key"]]:
            if row["type"] in PRESENT:
                found.setdefault(tuple(row["path"]), []).append((row["keyword"], row["type"]))
    return found


@lru_cache(maxsize=16)
def known(sop_class_uid: str) -> frozenset[str]:
    """Top-level attributes of every module that the IOD may have."""
    modules = [module["key"] for module in get_iod_module_map()[get_sop_class_iod_map()[sop_class_uid]]]
    return frozenset(row["keyword"] for key in modules for row in get_module_attribute_map()[key] if not row["path"])


def _holders(read: Item, path: Sequence[str]) -> Iterator[Item]:
    if not path:
        yield read
        return
    for item in read.items(path[0]):
        yield from _holders(item, path[1:])


def _lacking(holder: Item, keyword: str, kind: str) -> str | None:
    element = holder.elements.get(keyword)
    if element is None:
        return "is missing"
    return "is empty" if kind == VALUE_REQUIRED and not element[1] else None
