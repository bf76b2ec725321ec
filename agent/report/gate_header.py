"""Rules of the gate on what an object says of itself: encoding, identity, marking, flags, pixels."""

from __future__ import annotations

import io
from typing import Final

from PIL import Image, UnidentifiedImageError
from pydicom.uid import ExplicitVRLittleEndian

from agent.domain.eligibility import RESEARCH_SUFFIX
from agent.domain.identifiers import is_uid
from agent.domain.results import ResultKind
from agent.report.evidence import IDENTITY_TYPE_2
from agent.report.finished import SOP_CLASSES, Finished
from agent.report.iod import iod_fault
from agent.report.lossy import METHODS
from agent.report.read_back import NotReadableError
from agent.report.secondary_capture import TRANSFER_SYNTAX

LARGEST_SIDE: Final = 4096
"""Pixels: more than any page of ours."""
LARGEST_REPORT: Final = 2 * 1024 * 1024
"""Bytes of a Structured Report."""
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
_END_OF_IMAGE: Final = b"\xff\xd9"
_NAMES_PATIENT: Final = frozenset({ResultKind.SUMMARY, ResultKind.DOCUMENT})


def encoding(one: Finished) -> str | None:
    """Hold its bytes to be whole and in order, and of the transfer syntax that they are in."""
    try:
        if not one.read.elements:
            return "it holds nothing"
    except NotReadableError as error:
        return str(error)
    expected = TRANSFER_SYNTAX if one.is_picture else ExplicitVRLittleEndian
    return None if one.meta.text("TransferSyntaxUID") == expected else "its transfer syntax is another's"


def identity(one: Finished) -> str | None:
    """Hold it to be what it is kept as, in the study that was scored and a series of its own."""
    read, made = one.read, one.made
    uids = (made.sop_instance_uid, made.series_instance_uid, made.study_instance_uid)
    said = tuple(read.text(name) for name in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"))
    if said != uids or not all(map(is_uid, uids)):
        return "its UIDs are not those it is kept under"
    sop_class = read.text("SOPClassUID")
    stated = (one.meta.text("MediaStorageSOPClassUID"), one.meta.text("MediaStorageSOPInstanceUID"))
    if sop_class != SOP_CLASSES[made.kind] or stated != (sop_class, made.sop_instance_uid):
        return "its SOP class or file meta information is another's"
    if made.study_instance_uid != one.study.evidence.reference.study_instance_uid:
        return "it is not in the study that was scored"
    sources = {header.series_instance_uid for header in one.study.evidence.headers}
    return "it lies in a series of the source" if made.series_instance_uid in sources else None


def source_identity(one: Finished) -> str | None:
    """Hold patient and study attributes to be the source's own bytes."""
    reference = one.study.evidence.reference
    for name in IDENTITY_TYPE_2:
        value = one.read.raw(name)
        if value is None or value.strip(b"\0 ") != reference.identity.get(name, b""):
            return f"{name} is not the source's"
    return None


def research(one: Finished) -> str | None:
    """Find the research marking."""
    read = one.read
    if read.text("ContentQualification") != "RESEARCH":
        return "Content Qualification is not RESEARCH"
    if not read.text("SeriesDescription").endswith(RESEARCH_SUFFIX):
        return "Series Description does not end with the marking"
    places = _MARKED[one.made.kind]
    if not places:
        comments = [text for name, text in one.texts if name in ("TextValue", "UnformattedTextValue")]
        return None if any(RESEARCH_SUFFIX in text for text in comments) else "no Comment carries the marking"
    missing = [name for name in places if RESEARCH_SUFFIX not in read.text(name)]
    return f"{missing[0]} does not carry the marking" if missing else None


def synthetic(one: Finished) -> str | None:
    """Find synthetic sources declared, and only them."""
    expected = "YES" if one.study.outcome.synthetic else ""
    said = one.read.text("SyntheticData")
    return None if said == expected else "Synthetic Data does not say what the sources are"


def flags(one: Finished) -> str | None:
    """Find that nobody has verified it."""
    if not one.is_report:
        return None
    said = [one.read.text(name) for name in ("CompletionFlag", "VerificationFlag", "PreliminaryFlag")]
    return None if said == ["COMPLETE", "UNVERIFIED", "PRELIMINARY"] else "only a person verifies a report"


def lossy(one: Finished) -> str | None:
    """Find what was lost in a source, and in the picture, declared with ratio and method."""
    if not one.is_picture:
        return None
    read = one.read
    ratios, methods = (read.values(f"LossyImageCompression{part}") for part in ("Ratio", "Method"))
    if read.text("LossyImageCompression") != "01" or not ratios or len(ratios) != len(methods):
        return "a lossy picture lacks ratio or method"
    if methods[-1] != METHODS[TRANSFER_SYNTAX]:
        return "its own compression is not declared"
    uids = [item.text("ReferencedSOPInstanceUID") for item in read.items("SourceImageSequence")]
    used = [one.study.evidence.find(uid) for uid in uids]
    from_lossy = any(header is not None and header.lossy is not None and header.lossy.lossy for header in used)
    return "a lossy source is not declared" if from_lossy and len(methods) < 2 else None


def orientation(one: Finished) -> str | None:
    """Refuse a page that claims a direction in the patient, or to be an original."""
    if not one.is_picture:
        return None
    if one.read.text("PatientOrientation"):
        return "a page claims a patient orientation"
    kinds = one.read.values("ImageType")[:2]
    return None if kinds == ["DERIVED", "SECONDARY"] else "a page claims to be an original"


def burned_in(one: Finished) -> str | None:
    """Find it said of a page that shows the patient's name."""
    wrong = one.made.kind in _NAMES_PATIENT and one.read.text("BurnedInAnnotation") != "YES"
    return "a page that names the patient does not say so" if wrong else None


def sizes(one: Finished) -> str | None:
    """Count the pixels: as many as are declared, and not enormously many."""
    if not one.is_picture:
        return "the document is too large" if len(one.made.encoded) > LARGEST_REPORT else None
    rows, columns, samples = (one.read.number(name) for name in ("Rows", "Columns", "SamplesPerPixel"))
    if max(rows, columns) > LARGEST_SIDE or min(rows, columns) == 0:
        return f"a picture of {rows} x {columns} pixels"
    return None if _stream_of(one) == (rows, columns, samples) else "the pixels are not as many as Rows and Columns"


def _stream_of(one: Finished) -> tuple[int, int, int] | None:
    """Rows, columns and samples of its JPEG stream; None where that is none or breaks off."""
    stream = bytes(one.read.raw("PixelData") or b"").removesuffix(b"\0")
    try:
        with Image.open(io.BytesIO(stream), formats=["JPEG"]) as picture:
            columns, rows = picture.size
            is_whole = stream.endswith(_END_OF_IMAGE)
            return (rows, columns, len(picture.getbands())) if is_whole else None
    except (UnidentifiedImageError, OSError):
        return None


def iod(one: Finished) -> str | None:
    """Find what the modules of its IOD require."""
    return iod_fault(one.read)
