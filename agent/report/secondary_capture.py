"""Pictures as Secondary Capture Image Storage (PS3.3 A.8.1): derived, marked, and tied to their sources.

They are JPEG Baseline at a quality at which the loss is not seen, with colour at full resolution: a tenth of the bytes
to hash, write, send and store, which the archive keeps for years beside views that are themselves JPEG as a rule. An
archive that takes no JPEG gets them decoded (`deliver/storage_scu`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from pydicom.uid import UID, JPEGBaseline8Bit, SecondaryCaptureImageStorage

from agent.domain.results import ResultKind, ResultObject
from agent.report import codes
from agent.report.codes import Code
from agent.report.content_items import instance
from agent.report.data_set import Compressed, DataSet
from agent.report.envelope import ReportedStudy, finished, new_object
from agent.report.evidence import SourceHeader
from agent.report.lossy import METHODS, compressed_again, worst
from agent.report.words import RESEARCH_STATEMENT, plain

SOP_CLASS: Final = UID(SecondaryCaptureImageStorage)
TRANSFER_SYNTAX: Final = JPEGBaseline8Bit
_QUALITY: Final = 95
_HOW: Final = f"JPEG Baseline, quality {_QUALITY}, 4:4:4."
_UNSTATED: Final = " The source does not state how it was compressed; ratio and method are not known."


@dataclass(frozen=True, kw_only=True)
class Source:
    """An image that a picture was made from; `frame` is None for all of it."""

    header: SourceHeader
    frame: int | None = None


@dataclass(frozen=True, kw_only=True)
class Capture:
    """A drawn picture and what must be said of it."""

    kind: ResultKind
    index: int
    instance_number: int
    pixels: NDArray[np.uint8]
    """[h, w, 3] RGB."""
    sources: Sequence[Source]
    comment: str
    derivation: str
    derivation_code: Code | None
    names_patient: bool
    """Whether the patient was drawn into it."""


def build_capture(study: ReportedStudy, capture: Capture) -> ResultObject:
    """Encode a picture as one single-frame colour object."""
    made = new_object(study, kind=capture.kind, index=capture.index, series="pictures", sop_class=SOP_CLASS)
    made.Modality, made.ConversionType = "OT", "WSD"
    made.BodyPartExamined = "LIVER"
    made.AnatomicRegionSequence = [codes.code_item(codes.LIVER)]
    made.InstanceNumber = capture.instance_number
    made.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
    made.PatientOrientation = None  # Type 2C: the picture is a page, it has no direction in the patient
    made.ImageComments = plain(f"{capture.comment} {RESEARCH_STATEMENT}", 10240)
    made.RecognizableVisualFeatures = "NO"
    stream = _compressed(capture.pixels)
    _add_derivation(made, capture, capture.pixels.nbytes / len(stream))
    _add_burned_in(made, capture)
    _add_pixels(made, capture.pixels.shape, stream)
    return finished(study, made, kind=capture.kind, index=capture.index, syntax=TRANSFER_SYNTAX)


def _compressed(pixels: NDArray[np.uint8]) -> bytes:
    """Compress [h, w, 3] RGB beside other threads: Pillow would repack it first, and hold the interpreter."""
    stream: bytes = simplejpeg.encode_jpeg(
        np.ascontiguousarray(pixels), quality=_QUALITY, colorspace="RGB", colorsubsampling="444"
    )
    return stream


def _add_derivation(made: DataSet, capture: Capture, ratio: float) -> None:
    inherited = worst([source.header.lossy for source in capture.sources])
    unstated = _UNSTATED if inherited is not None and inherited.unstated else ""
    made.DerivationDescription = plain(f"{capture.derivation} {_HOW} {RESEARCH_STATEMENT}{unstated}", 1024)
    derivations = (capture.derivation_code, codes.LOSSY_COMPRESSION)
    made.DerivationCodeSequence = [codes.code_item(code) for code in derivations if code is not None]
    if capture.sources:
        made.SourceImageSequence = [_source_item(source) for source in capture.sources]
    compression = compressed_again(inherited, METHODS[TRANSFER_SYNTAX], ratio)
    made.LossyImageCompression = "01"
    made.LossyImageCompressionRatio = list(compression.ratios)
    made.LossyImageCompressionMethod = list(compression.methods)


def _source_item(source: Source) -> DataSet:
    number = source.header.frame_number(source.frame)
    item = instance(source.header.sop_class_uid, source.header.sop_instance_uid, None if number is None else [number])
    item.PurposeOfReferenceCodeSequence = [codes.code_item(codes.SOURCE_FOR_PROCESSING)]
    item.SpatialLocationsPreserved = "NO"  # panels on a page: no pixel stands where it stood
    return item


def _add_burned_in(made: DataSet, capture: Capture) -> None:
    """YES where we draw the patient or a source may; NO only where every source says so; else not stated."""
    stated = {source.header.burned_in for source in capture.sources}
    if capture.names_patient or "YES" in stated:
        made.BurnedInAnnotation = "YES"
    elif stated <= {"NO"}:
        made.BurnedInAnnotation = "NO"


def _add_pixels(made: DataSet, shape: tuple[int, ...], stream: bytes) -> None:
    made.Rows, made.Columns = shape[:2]
    # so it is called whatever the stream's own subsampling (PS3.3 C.7.6.3.1.2, PS3.5 Table 8.2.1-1)
    made.SamplesPerPixel, made.PhotometricInterpretation, made.PlanarConfiguration = 3, "YBR_FULL_422", 0
    made.BitsAllocated = made.BitsStored = 8
    made.HighBit, made.PixelRepresentation = 7, 0
    made.PixelData = Compressed(stream)
