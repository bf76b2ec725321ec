"""Ultrasound pictures of phantoms, and instances that hold them in every way that scanners write."""

from __future__ import annotations

import functools
import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
)

from agent.domain.study import Instance
from inference.contract import VIEWS
from training.phantom import PRESETS, PhantomFrame, Scanner, draw_patient, render_view

STUDY = "2.25.1000"


@functools.cache
def phantom(view: str = VIEWS[0], *, fat: float = 12.0, seed: int = 0, scanner: int = 0) -> PhantomFrame:
    """Render one B-mode frame of a synthetic patient; pixels are not to be written to."""
    patient = draw_patient(np.random.default_rng(seed), fat_fraction_percent=fat)
    presets: Sequence[Scanner] = tuple(PRESETS.values()) if isinstance(PRESETS, dict) else tuple(PRESETS)
    return render_view(patient, view, presets[scanner % len(presets)])


def image(number: int, pixels: NDArray[Any], **elements: Any) -> Dataset:
    """Make an instance of a native picture: [H, W], [H, W, 3], or [F, H, W] with `NumberOfFrames` given.

    Further elements replace those that follow from the pixels; None removes one.
    """
    ds = Dataset()
    frames = int(elements.get("NumberOfFrames") or 1)
    ds.SOPClassUID = UltrasoundImageStorage if frames == 1 else UltrasoundMultiFrameImageStorage
    ds.SOPInstanceUID, ds.StudyInstanceUID, ds.SeriesInstanceUID = f"{STUDY}.{number}", STUDY, f"{STUDY}.0"
    ds.Modality, ds.PatientName, ds.PatientID = "US", "Nobody^Known", "ID-7"
    colour = pixels.ndim - (frames > 1) == 3
    ds.SamplesPerPixel, ds.PhotometricInterpretation = (3, "RGB") if colour else (1, "MONOCHROME2")
    if colour:
        ds.PlanarConfiguration = 0
    ds.Rows, ds.Columns = pixels.shape[1:3] if frames > 1 else pixels.shape[:2]
    bits = 8 * pixels.dtype.itemsize
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = bits, bits, bits - 1
    ds.PixelRepresentation = int(np.issubdtype(pixels.dtype, np.signedinteger))
    content = pixels.tobytes()
    ds.PixelData = content + b"\0" * (len(content) % 2)
    ds["PixelData"].VR = "OB" if bits == 8 else "OW"
    for keyword, value in elements.items():
        if value is None:
            del ds[keyword]
        else:
            setattr(ds, keyword, value)
    return ds


def jpeg(frames: Sequence[NDArray[np.uint8]]) -> bytes:
    """Encapsulate grey frames in baseline JPEG."""
    encoded = []
    for frame in frames:
        buffer = io.BytesIO()
        Image.fromarray(frame).save(buffer, "JPEG", quality=95)
        encoded.append(buffer.getvalue())
    return encapsulate(encoded)


def region(box: tuple[int, int, int, int], *, space: int = 1, data: int = 1) -> Dataset:
    """Make an item of Sequence of Ultrasound Regions of x0, y0, x1, y1, the end excluded."""
    item = Dataset()
    item.RegionSpatialFormat, item.RegionDataType, item.RegionFlags = space, data, 0
    item.RegionLocationMinX0, item.RegionLocationMinY0 = box[0], box[1]
    item.RegionLocationMaxX1, item.RegionLocationMaxY1 = box[2] - 1, box[3] - 1
    return item


def saved(ds: Dataset, folder: Path, syntax: str = ExplicitVRLittleEndian) -> tuple[Instance, Path]:
    """Write an instance as the store does, and give what the ledger knows of it."""
    path = folder / f"{ds.SOPInstanceUID}.dcm"
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = UID(syntax)
    ds.save_as(path, enforce_file_format=True)
    content = path.read_bytes()
    return Instance(
        id=int(str(ds.SOPInstanceUID).rpartition(".")[2]),
        sop_instance_uid=str(ds.SOPInstanceUID),
        sop_class_uid=str(ds.SOPClassUID),
        study_instance_uid=STUDY,
        series_instance_uid=f"{STUDY}.0",
        transfer_syntax_uid=str(syntax),
        sha256=hashlib.sha256(content).hexdigest(),
        bytes=len(content),
        may_be_scored=True,
        not_scored_reason=None,
    ), path
