"""The last look before an object leaves: our own rules, for what validators such as dciodvfy do not see.

Each rule reads the object back from its bytes, as an archive will, and says what is wrong in one sentence, or nothing.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Final

from pydicom import Dataset, dcmread
from pydicom.datadict import keyword_for_tag, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement, convert_raw_data_element
from pydicom.multival import MultiValue
from pydicom.uid import (
    ColorSoftcopyPresentationStateStorage,
    Comprehensive3DSRStorage,
    EncapsulatedPDFStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    KeyObjectSelectionDocumentStorage,
    SecondaryCaptureImageStorage,
)

from agent.domain.eligibility import RESEARCH_SUFFIX
from agent.domain.identifiers import is_uid
from agent.domain.results import ResultKind, ResultObject
from agent.report import codes
from agent.report.envelope import ReportedStudy, algorithm_name, algorithm_version, device_uid
from agent.report.errors import GateError
from agent.report.evidence import IDENTITY_TYPE_2, IDENTITY_TYPE_3
from agent.report.iod import iod_fault
from agent.report.quiet import quiet_pydicom
from agent.report.words import NO_SCORE

SOP_CLASSES: Final = {
    ResultKind.STRUCTURED_REPORT: Comprehensive3DSRStorage,
    ResultKind.SUMMARY: SecondaryCaptureImageStorage,
    ResultKind.HEATMAP: SecondaryCaptureImageStorage,
    ResultKind.DOCUMENT: EncapsulatedPDFStorage,
    ResultKind.REJECTION_NOTE: KeyObjectSelectionDocumentStorage,
    ResultKind.COLOUR_STATE: ColorSoftcopyPresentationStateStorage,
    ResultKind.GREY_STATE: GrayscaleSoftcopyPresentationStateStorage,
}
LONGEST: Final = {"AE": 16, "CS": 16, "DS": 16, "IS": 12, "SH": 16, "LO": 64, "ST": 1024, "UI": 64, "LT": 10240}
"""Characters of one value (PS3.5 Table 6.2-1)."""
LARGEST_SIDE: Final = 4096
"""Pixels: more than any page of ours."""
LARGEST_REPORT: Final = 2 * 1024 * 1024
"""Bytes of a Structured Report."""
_FORBIDDEN: Final = re.compile(r"\b(MASLD|NAFLD|MASH|NASH|diagnos(is|es|ed)|histological grade)\b", re.IGNORECASE)
"""What an ultrasound picture cannot establish, or what we may not claim to do."""
_TEXTS: Final = (
    "TextValue",
    "CodeMeaning",
    "ImageComments",
    "DerivationDescription",
    "SeriesDescription",
    "DocumentTitle",
    "UnformattedTextValue",
)
_MARKED: Final = {
    ResultKind.STRUCTURED_REPORT: (),
    ResultKind.REJECTION_NOTE: (),
    ResultKind.SUMMARY: ("ImageComments", "DerivationDescription"),
    ResultKind.HEATMAP: ("ImageComments", "DerivationDescription"),
    ResultKind.DOCUMENT: ("DocumentTitle",),
    ResultKind.COLOUR_STATE: (),
    ResultKind.GREY_STATE: (),
}
"""Attributes that carry the research marking; none: a content item does."""
Item = Mapping[str, Any]
"""Values of a data set by keyword."""
_NAMES_PATIENT: Final = frozenset({ResultKind.SUMMARY, ResultKind.DOCUMENT})


@dataclass(frozen=True, kw_only=True)
class Finished:
    """An object as it would be sent, and what it was made of."""

    study: ReportedStudy
    made: ResultObject
    read: Dataset

    @property
    def is_report(self) -> bool:
        """Whether it is the Structured Report."""
        return self.made.kind is ResultKind.STRUCTURED_REPORT

    @property
    def is_picture(self) -> bool:
        """Whether it has pixels."""
        return self.made.kind in (ResultKind.SUMMARY, ResultKind.HEATMAP)

    @cached_property
    def own(self) -> _Own:
        """Everything of ours in it, gone through once for all rules."""
        return _Own((self.read,))

    @property
    def items(self) -> Sequence[Item]:
        """Items of its sequences, at any depth."""
        return self.own.items[1:]

    @cached_property
    def texts(self) -> list[tuple[str, str]]:
        """Keyword and words of what is there to be read."""
        return [(name, str(element.value)) for name, element in self.own.elements if name in _TEXTS]


Rule = Callable[[Finished], "str | None"]


def check(study: ReportedStudy, made: ResultObject) -> None:
    """Hold an object against every rule.

    Raises
    ------
    GateError
        Naming the first rule that it breaks.
    """
    with quiet_pydicom():
        finished = Finished(study=study, made=made, read=dcmread(io.BytesIO(made.encoded)))
        for name, rule in RULES.items():
            cause = rule(finished)
            if cause is not None:
                raise GateError(name, cause, made)


def _identity(one: Finished) -> str | None:
    read, made = one.read, one.made
    uids = (made.sop_instance_uid, made.series_instance_uid, made.study_instance_uid)
    if (read.SOPInstanceUID, read.SeriesInstanceUID, read.StudyInstanceUID) != uids or not all(map(is_uid, uids)):
        return "its UIDs are not those it is kept under"
    if read.SOPClassUID != SOP_CLASSES[made.kind] or read.file_meta.MediaStorageSOPInstanceUID != read.SOPInstanceUID:
        return "its SOP class or file meta information is another's"
    reference = one.study.evidence.reference
    if read.StudyInstanceUID != reference.study_instance_uid:
        return "it is not in the study that was scored"
    sources = {header.series_instance_uid for header in one.study.evidence.headers}
    return "it lies in a series of the source" if read.SeriesInstanceUID in sources else None


def _iod(one: Finished) -> str | None:
    return iod_fault(one.read)


def _source_identity(one: Finished) -> str | None:
    """Patient and study attributes are the source's own bytes."""
    reference = one.study.evidence.reference
    for name in IDENTITY_TYPE_2:
        element = one.read.get_item(name)
        if element is None or bytes(element.value or b"").strip(b"\0 ") != reference.identity.get(name, b""):
            return f"{name} is not the source's"
    return None


def _research(one: Finished) -> str | None:
    read = one.read
    if read.get("ContentQualification") != "RESEARCH":
        return "Content Qualification is not RESEARCH"
    if not str(read.get("SeriesDescription", "")).endswith(RESEARCH_SUFFIX):
        return "Series Description does not end with the marking"
    places = _MARKED[one.made.kind]
    if not places:
        comments = [text for name, text in one.texts if name in ("TextValue", "UnformattedTextValue")]
        return None if any(RESEARCH_SUFFIX in text for text in comments) else "no Comment carries the marking"
    missing = [name for name in places if RESEARCH_SUFFIX not in str(read.get(name, ""))]
    return f"{missing[0]} does not carry the marking" if missing else None


def _synthetic(one: Finished) -> str | None:
    expected = "YES" if one.study.outcome.synthetic else None
    return None if one.read.get("SyntheticData") == expected else "Synthetic Data does not say what the sources are"


def _flags(one: Finished) -> str | None:
    if not one.is_report:
        return None
    flags = (one.read.CompletionFlag, one.read.VerificationFlag, one.read.PreliminaryFlag)
    return None if flags == ("COMPLETE", "UNVERIFIED", "PRELIMINARY") else "only a person verifies a report"


def _known_codes(one: Finished) -> str | None:
    for item in one.items:
        if "CodeValue" not in item:
            continue
        key = (str(item["CodeValue"]), str(item.get("CodingSchemeDesignator")))
        if codes.DECLARED.get(key) != item.get("CodeMeaning"):
            return f"code ({key[0]}, {key[1]}) is not in our tables under its meaning"
    schemes = [item.CodingSchemeDesignator for item in one.read.CodingSchemeIdentificationSequence]
    return None if schemes == [codes.SCHEME] else "the private coding scheme is not declared"


def _purposes(one: Finished) -> str | None:
    expected = {
        "SourceImageSequence": codes.SOURCE_FOR_PROCESSING,
        "ContributingEquipmentSequence": codes.PROCESSING_EQUIPMENT,
    }
    for sequence, code in expected.items():
        for item in one.read.get(sequence, ()):
            if not _has_purpose(item, code.value):
                return f"{sequence} has another purpose than {code.value}"
    for item in _Own(one.read.get("PredecessorDocumentsSequence", ())).items:
        if "ReferencedSOPInstanceUID" in item and not _has_purpose(item, codes.REPLACED_REPORT.value):
            return f"a replaced document has another purpose than {codes.REPLACED_REPORT.value}"
    return None


def _has_purpose(item: Dataset | Item, value: str) -> bool:
    purposes = item.get("PurposeOfReferenceCodeSequence", ())
    return len(purposes) == 1 and purposes[0].CodeValue == value


def _predecessor(one: Finished) -> str | None:
    if not one.is_report:
        return None
    named = _named(one.read.get("PredecessorDocumentsSequence", ()))
    replaced = one.study.predecessor
    expected = [] if replaced is None else [replaced.sop_instance_uid]
    return None if named == expected else "the replaced report is not named"


def _algorithm(one: Finished) -> str | None:
    """IHE AIR: contributing equipment, TID 4019 and the device observer name the same algorithm."""
    model = one.study.outcome.model
    equipment = one.read.ContributingEquipmentSequence[0]
    name, version, device = algorithm_name(model), algorithm_version(model), device_uid(model)
    stated = (equipment.ManufacturerModelName, equipment.SoftwareVersions, equipment.DeviceUID)
    if stated != (name, version, device):
        return "the contributing equipment is not the model"
    if not one.is_report:
        return None
    expected = {"111001": {name}, "111003": {version}, "121012": {device}, "121015": {name}}
    found: dict[str, set[str]] = {value: set() for value in expected}
    for item in one.items:
        concept = item["ConceptNameCodeSequence"][0].CodeValue if "ConceptNameCodeSequence" in item else ""
        if concept in found:
            found[concept].add(str(item.get("TextValue") or item.get("UID")))
    return None if found == expected else "algorithm and device observer are not the contributing equipment"


def _lossy(one: Finished) -> str | None:
    read = one.read
    if read.get("LossyImageCompression") == "01":
        ratios, methods = (_values(read, f"LossyImageCompression{part}") for part in ("Ratio", "Method"))
        if not ratios or len(ratios) != len(methods):
            return "a lossy picture lacks ratio or method"
    used = [one.study.evidence.find(item.ReferencedSOPInstanceUID) for item in read.get("SourceImageSequence", ())]
    lossy = any(header is not None and header.lossy is not None and header.lossy.lossy for header in used)
    return "a lossy source is not declared" if lossy and read.get("LossyImageCompression") != "01" else None


def _references(one: Finished) -> str | None:
    """Everything referenced is evidence, under its own SOP class, and has the frames named.

    A rejection note names what is replaced instead.
    """
    rejecting = one.made.kind is ResultKind.REJECTION_NOTE
    replaced = {(was.sop_class_uid, was.sop_instance_uid) for was in one.study.replaced if rejecting}
    for item in one.items:
        if "ReferencedSOPInstanceUID" not in item or _has_purpose(item, codes.REPLACED_REPORT.value):
            continue
        sop_class, uid = item.get("ReferencedSOPClassUID"), item["ReferencedSOPInstanceUID"]
        if (sop_class, uid) in replaced:
            continue
        header = one.study.evidence.find(uid)
        if header is None or header.sop_class_uid != sop_class:
            return "a referenced instance is not among the evidence"
        frames = _values(item, "ReferencedFrameNumber")
        if any(not 1 <= int(frame) <= header.frames for frame in frames):
            return "a referenced frame does not exist"
    heatmap = one.made.kind is ResultKind.HEATMAP
    return "a heatmap names no source" if heatmap and len(one.read.get("SourceImageSequence", ())) != 1 else None


def _all_evidence(one: Finished) -> str | None:
    if not one.is_report:
        return None
    named = [
        uid
        for sequence in ("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence")
        for uid in _named(one.read.get(sequence, ()))
    ]
    expected = sorted(header.sop_instance_uid for header in one.study.evidence.headers)
    return None if sorted(named) == expected else "the evidence sequences do not name every instance once"


def _orientation(one: Finished) -> str | None:
    """Refuse a page that claims a direction in the patient, or to be an original."""
    if not one.is_picture:
        return None
    if one.read.get("PatientOrientation"):
        return "a page claims a patient orientation"
    return None if list(one.read.ImageType)[:2] == ["DERIVED", "SECONDARY"] else "a page claims to be an original"


def _burned_in(one: Finished) -> str | None:
    wrong = one.made.kind in _NAMES_PATIENT and one.read.get("BurnedInAnnotation") != "YES"
    return "a page that names the patient does not say so" if wrong else None


def _sizes(one: Finished) -> str | None:
    read = one.read
    if not one.is_picture:
        return "the document is too large" if len(one.made.encoded) > LARGEST_REPORT else None
    if max(read.Rows, read.Columns) > LARGEST_SIDE or min(read.Rows, read.Columns) == 0:
        return f"a picture of {read.Rows} x {read.Columns} pixels"
    expected = read.Rows * read.Columns * read.SamplesPerPixel
    return None if len(read.PixelData) == expected + expected % 2 else "the pixels are not as many as Rows and Columns"


def _value_lengths(one: Finished) -> str | None:
    for name, element in one.own.elements:
        longest = LONGEST.get(str(element.VR))
        values = element.value if isinstance(element.value, Sequence) and element.VM > 1 else [element.value]
        if longest is not None and any(len(str(value)) > longest for value in values if value is not None):
            return f"{name} is longer than {longest} characters"
    return None


def _words(one: Finished) -> str | None:
    for name, text in one.texts:
        if not text.isascii():
            return f"{name} is not ASCII and may read otherwise in the source's character set"
        if found := _FORBIDDEN.search(text):
            return f"{name} says {found.group(0)!r}"
    refused = one.is_report and one.study.outcome.refusal is not None
    said = any(NO_SCORE in text for name, text in one.texts if name == "TextValue")
    return "a refusal does not say that it is not a negative result" if refused and not said else None


RULES: Final[dict[str, Rule]] = {
    "identity": _identity,
    "source-identity": _source_identity,
    "research-marking": _research,
    "synthetic-data": _synthetic,
    "flags": _flags,
    "codes": _known_codes,
    "purposes": _purposes,
    "predecessor": _predecessor,
    "algorithm-identity": _algorithm,
    "lossy-compression": _lossy,
    "references": _references,
    "evidence": _all_evidence,
    "orientation": _orientation,
    "burned-in": _burned_in,
    "sizes": _sizes,
    "value-lengths": _value_lengths,
    "words": _words,
    "iod": _iod,
}
"""Name → rule, in the order they are held against an object."""

_FOREIGN: Final = frozenset(
    tag_for_keyword(name) for name in (*IDENTITY_TYPE_2, *IDENTITY_TYPE_3, "SpecificCharacterSet", "PixelData")
)


class _Own:
    """What data sets hold at any depth, decoded once; the source's own attributes stay undecoded."""

    def __init__(self, sequence: Iterable[Dataset]) -> None:
        self.elements: list[tuple[str, DataElement]] = []
        """By keyword, in the order of their bytes."""
        self.items: list[Item] = []
        """Every data set, an item before those inside it."""
        for item in sequence:
            self._take(item)

    def _take(self, read: Dataset) -> None:
        values: dict[str, Any] = {}
        self.items.append(values)
        for tag in sorted(map(int, read.keys())):  # a tag of pydicom's compares in Python
            if tag in _FOREIGN:
                continue
            name = _keyword(tag)
            raw: Any = read.get_item(tag)  # as it was read, unless something asked for it before
            if name.endswith("CodeSequence") and isinstance(raw, RawDataElement):
                element, inside = _code(raw)
                self.elements += [(name, element), *inside.elements]
                self.items += inside.items
            else:
                element = read[tag]
                self.elements.append((name, element))
                for item in element.value if element.VR == "SQ" else ():
                    self._take(item)
            values[name] = element.value


@lru_cache(maxsize=512)
def _keyword(tag: int) -> str:
    return keyword_for_tag(tag)


@lru_cache(maxsize=1024)
def _code(raw: RawDataElement) -> tuple[DataElement, _Own]:
    """Decode a sequence of codes; a report holds the same few hundreds of times, and the same bytes read the same."""
    element = convert_raw_data_element(raw)
    return element, _Own(element.value if element.VR == "SQ" else ())


def _named(sequence: Iterable[Dataset]) -> list[str]:
    """SOP Instance UIDs that a sequence refers to, at any depth."""
    items = _Own(sequence).items
    return [str(item["ReferencedSOPInstanceUID"]) for item in items if "ReferencedSOPInstanceUID" in item]


def _values(item: Dataset | Item, name: str) -> list[str]:
    value = item.get(name)
    if value is None or value == "":
        return []
    return [str(one) for one in value] if isinstance(value, MultiValue) else [str(value)]
