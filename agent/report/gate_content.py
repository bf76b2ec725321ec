"""Rules of the gate on what an object names and says: codes, references, algorithm, values, words."""

from __future__ import annotations

import re
from typing import Final

from agent.domain.results import ResultKind
from agent.report import codes
from agent.report.envelope import algorithm_name, algorithm_version, device_uid
from agent.report.finished import Finished, has_purpose, named
from agent.report.words import NO_SCORE

LONGEST: Final = {
    b"AE": 16, b"CS": 16, b"DS": 16, b"IS": 12, b"SH": 16, b"LO": 64, b"ST": 1024, b"UI": 64, b"LT": 10240
}  # fmt: skip
"""Characters of one value (PS3.5 Table 6.2-1)."""
_FORBIDDEN: Final = re.compile(r"\b(MASLD|NAFLD|MASH|NASH|diagnos(is|es|ed)|histological grade)\b", re.IGNORECASE)
"""What an ultrasound picture cannot establish, or what we may not claim to do."""


def known_codes(one: Finished) -> str | None:
    """Find every code in our tables, and our scheme declared."""
    for item in one.items:
        if "CodeValue" not in item:
            continue
        value, scheme = item.text("CodeValue"), item.text("CodingSchemeDesignator")
        if codes.DECLARED.get((value, scheme)) != item.text("CodeMeaning"):
            return f"code ({value}, {scheme}) is not in our tables under its meaning"
    schemes = [item.text("CodingSchemeDesignator") for item in one.read.items("CodingSchemeIdentificationSequence")]
    return None if schemes == [codes.SCHEME] else "the private coding scheme is not declared"


def purposes(one: Finished) -> str | None:
    """Find it said of references what they are there for."""
    expected = {
        "SourceImageSequence": codes.SOURCE_FOR_PROCESSING,
        "ContributingEquipmentSequence": codes.PROCESSING_EQUIPMENT,
    }
    for sequence, code in expected.items():
        if not all(has_purpose(item, code.value) for item in one.read.items(sequence)):
            return f"{sequence} has another purpose than {code.value}"
    for holder in one.read.items("PredecessorDocumentsSequence"):
        for item in holder.everything():
            if "ReferencedSOPInstanceUID" in item and not has_purpose(item, codes.REPLACED_REPORT.value):
                return f"a replaced document has another purpose than {codes.REPLACED_REPORT.value}"
    return None


def predecessor(one: Finished) -> str | None:
    """Find the report that this one replaces."""
    if not one.is_report:
        return None
    replaced = one.study.predecessor
    expected = [] if replaced is None else [replaced.sop_instance_uid]
    said = named(one.read.items("PredecessorDocumentsSequence"))
    return None if said == expected else "the replaced report is not named"


def algorithm(one: Finished) -> str | None:
    """Compare what names the algorithm (IHE AIR): equipment, TID 4019, device observer."""
    model = one.study.outcome.model
    name, version, device = algorithm_name(model), algorithm_version(model), device_uid(model)
    keywords = ("ManufacturerModelName", "SoftwareVersions", "DeviceUID")
    stated = [tuple(map(item.text, keywords)) for item in one.read.items("ContributingEquipmentSequence")]
    if stated != [(name, version, device)]:
        return "the contributing equipment is not the model"
    if not one.is_report:
        return None
    expected = {"111001": {name}, "111003": {version}, "121012": {device}, "121015": {name}}
    found: dict[str, set[str]] = {value: set() for value in expected}
    for item in one.items:
        for concept in item.items("ConceptNameCodeSequence"):
            if (value := concept.text("CodeValue")) in found:
                found[value].add(item.text("TextValue") or item.text("UID"))
    return None if found == expected else "algorithm and device observer are not the contributing equipment"


def references(one: Finished) -> str | None:
    """Find everything referenced among the evidence, under its own SOP class and with the frames named.

    A rejection note names what is replaced instead.
    """
    rejecting = one.made.kind is ResultKind.REJECTION_NOTE
    replaced = {(was.sop_class_uid, was.sop_instance_uid) for was in one.study.replaced if rejecting}
    for item in one.items:
        if "ReferencedSOPInstanceUID" not in item or has_purpose(item, codes.REPLACED_REPORT.value):
            continue
        sop_class, uid = item.text("ReferencedSOPClassUID"), item.text("ReferencedSOPInstanceUID")
        if (sop_class, uid) in replaced:
            continue
        header = one.study.evidence.find(uid)
        if header is None or header.sop_class_uid != sop_class:
            return "a referenced instance is not among the evidence"
        if any(not 1 <= int(frame) <= header.frames for frame in item.values("ReferencedFrameNumber")):
            return "a referenced frame does not exist"
    heatmap = one.made.kind is ResultKind.HEATMAP
    return "a heatmap names no source" if heatmap and len(one.read.items("SourceImageSequence")) != 1 else None


def all_evidence(one: Finished) -> str | None:
    """Find every instance named once in a report."""
    if not one.is_report:
        return None
    sequences = ("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence")
    said = [uid for sequence in sequences for uid in named(one.read.items(sequence))]
    expected = sorted(header.sop_instance_uid for header in one.study.evidence.headers)
    return None if sorted(said) == expected else "the evidence sequences do not name every instance once"


def value_lengths(one: Finished) -> str | None:
    """Hold every value of ours to the length that its VR allows."""
    for name, vr, values in one.words:
        longest = LONGEST.get(vr)
        if longest is not None and any(len(value) > longest for value in values):
            return f"{name} is longer than {longest} characters"
    return None


def words(one: Finished) -> str | None:
    """Read what is there to be read: no claim that is not ours to make, and ASCII."""
    for name, text in one.texts:
        if not text.isascii():
            return f"{name} is not ASCII and may read otherwise in the source's character set"
        if found := _FORBIDDEN.search(text):
            return f"{name} says {found.group(0)!r}"
    refused = one.is_report and one.study.outcome.refusal is not None
    said = any(NO_SCORE in text for name, text in one.texts if name == "TextValue")
    return "a refusal does not say that it is not a negative result" if refused and not said else None
