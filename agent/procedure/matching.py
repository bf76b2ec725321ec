"""Matching of a C-FIND's keys (PS3.4 C.2.2.2): single value, list of UIDs, wild cards, ranges, sequences."""

from __future__ import annotations

import re
from fnmatch import translate

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

_RANGES = frozenset({"DA", "DT", "TM"})
_ALWAYS = ("SOPClassUID", "SOPInstanceUID")


def matches(candidate: Dataset, keys: Dataset) -> bool:
    """Whether a candidate fits every key that has a value; keys that it has no attribute for do not match."""
    return all(_fits(candidate, key) for key in keys if not _is_universal(key))


def answer(candidate: Dataset, keys: Dataset) -> Dataset:
    """Return what was asked for, and the candidate's name."""
    made = Dataset()
    made.SpecificCharacterSet = candidate.SpecificCharacterSet
    for tag in {key.tag for key in keys}:
        if tag in candidate:
            made[tag] = candidate[tag]
    for keyword in _ALWAYS:
        made[keyword] = candidate[keyword]
    return made


def _is_universal(key: DataElement) -> bool:
    if key.keyword == "SpecificCharacterSet":
        return True
    if key.VR == "SQ":
        return not key.value or all(_is_universal(inner) for inner in key.value[0])
    return not key.value or str(key.value) == "*"


def _fits(candidate: Dataset, key: DataElement) -> bool:
    if key.tag not in candidate:
        return False
    found = candidate[key.tag].value
    if key.VR == "SQ":
        return any(matches(item, key.value[0]) for item in found or [])
    wanted = [str(one) for one in key.value] if isinstance(key.value, MultiValue) else [str(key.value)]
    return any(_value_fits(str(found), one, key.VR) for one in wanted)


def _value_fits(found: str, wanted: str, vr: str) -> bool:
    if vr in _RANGES and "-" in wanted:
        first, _, last = wanted.partition("-")
        return (not first or found[: len(first)] >= first) and (not last or found[: len(last)] <= last)
    if vr in _RANGES or vr == "UI":
        return found.startswith(wanted) if vr in _RANGES else found == wanted
    literal = wanted.replace("[", "[[]")  # DICOM knows * and ? alone
    return re.match(translate(literal), found) is not None
