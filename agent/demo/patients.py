"""Synthetic studies as an ultrasound machine would send them (PS3.3 A.6, US Image and US Multi-frame Image IOD)."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
)

from agent.domain.result_uids import derived_uid
from training.phantom import PRESETS, Patient, PhantomFrame, Scanner, draw_patient, render_cine, render_view

FAT_FRACTIONS: Final = (2.0, 3.5, 5.0, 8.0, 11.0, 14.0, 18.0, 19.5, 21.0, 24.0, 30.0, 36.0)
"""Percent, three of each grade by the cut-offs 6.4, 17.4 and 22.1 (Tang et al. 2013)."""
VIEWS: Final = ("subcostal", "intercostal", "liver-kidney")
_CINE_FRAMES: Final = 6
_JPEG_QUALITY: Final = 92


@dataclass(frozen=True, kw_only=True)
class SyntheticStudy:
    """One patient, what is true of them, and the instances of their study."""

    patient: Patient
    label: str
    study_instance_uid: str
    instances: tuple[Dataset, ...]


def make_study(number: int, *, seed: int, when: datetime, fat_fraction_percent: float | None = None) -> SyntheticStudy:
    """Make the study of the `number`-th synthetic patient: two single images and a JPEG cine.

    Parameters
    ----------
    number
        From 1; also chooses fat fraction and scanner.
    seed
        Of everything random.
    when
        Study date and time.
    fat_fraction_percent
        Else taken from `FAT_FRACTIONS`.
    """
    rng = np.random.default_rng([seed, number])
    fat = FAT_FRACTIONS[(number - 1) % len(FAT_FRACTIONS)] if fat_fraction_percent is None else fat_fraction_percent
    patient, scanner = draw_patient(rng, fat_fraction_percent=fat), _scanner(rng, number)
    key = f"demo {seed} {number} {when.isoformat()}"
    common = _common(patient, number, key, when)
    instances = [
        _single(common, key, position, render_view(patient, view, scanner), when)
        for position, view in enumerate(VIEWS[:-1], 1)
    ]
    cine = render_cine(patient, VIEWS[-1], scanner, frames=_CINE_FRAMES)
    region = render_view(patient, VIEWS[-1], scanner)
    instances.append(_cine(common, key, len(VIEWS), cine, region, when))
    return SyntheticStudy(
        patient=patient,
        label=f"DEMO-{number:02d}",
        study_instance_uid=str(common.StudyInstanceUID),
        instances=tuple(instances),
    )


def _scanner(rng: np.random.Generator, number: int) -> Scanner:
    presets: Sequence[Scanner] = tuple(PRESETS.values()) if isinstance(PRESETS, dict) else tuple(PRESETS)
    return presets[number % len(presets)] if number % 2 else Scanner.random(rng)


def _common(patient: Patient, number: int, key: str, when: datetime) -> Dataset:
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SyntheticData = "YES"
    ds.PatientName, ds.PatientID = f"Demo^Patient {number:02d}", f"DEMO-{number:02d}"
    ds.PatientBirthDate, ds.PatientSex = f"{when.year - patient.age_years}0101", patient.sex
    ds.PatientAge = f"{patient.age_years:03d}Y"
    ds.PatientSize, ds.PatientWeight = f"{patient.size_m:.2f}", f"{patient.weight_kg:.1f}"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = derived_uid(key, "study"), derived_uid(key, "series")
    ds.StudyID, ds.AccessionNumber = str(number), f"DEMO{number:04d}"
    ds.StudyDate, ds.StudyTime = when.strftime("%Y%m%d"), when.strftime("%H%M%S")
    ds.StudyDescription, ds.ReferringPhysicianName = "US ABDOMEN (synthetic)", ""
    ds.Modality, ds.SeriesNumber, ds.SeriesDescription = "US", 1, "Liver (synthetic)"
    ds.Manufacturer, ds.ManufacturerModelName = "Phantom", "training.phantom"
    ds.BodyPartExamined, ds.PatientOrientation = "LIVER", ""
    return ds


def _image(common: Dataset, key: str, position: int, frame: PhantomFrame, when: datetime) -> Dataset:
    ds = Dataset()
    ds.update(common)
    ds.InstanceNumber, ds.SOPInstanceUID = position, derived_uid(key, "instance", position)
    taken = when + timedelta(seconds=20 * position)
    ds.ContentDate, ds.ContentTime = taken.strftime("%Y%m%d"), taken.strftime("%H%M%S")
    ds.ImageType = ["ORIGINAL", "PRIMARY", "ABDOMINAL", "0001"]
    ds.Rows, ds.Columns = frame.pixels.shape
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit, ds.PixelRepresentation = 7, 0
    ds.BurnedInAnnotation, ds.UltrasoundColorDataPresent = "NO", 0
    ds.SequenceOfUltrasoundRegions = [_region(frame)]
    return ds


def _region(frame: PhantomFrame) -> Dataset:
    """One 2D tissue region in centimetres (PS3.3 C.8.5.5)."""
    x0, y0, x1, y1 = frame.region
    item = Dataset()
    item.RegionSpatialFormat, item.RegionDataType, item.RegionFlags = 1, 1, 0
    item.RegionLocationMinX0, item.RegionLocationMinY0 = x0, y0
    item.RegionLocationMaxX1, item.RegionLocationMaxY1 = x1 - 1, y1 - 1
    item.PhysicalUnitsXDirection = item.PhysicalUnitsYDirection = 3
    item.PhysicalDeltaX = item.PhysicalDeltaY = frame.cm_per_pixel
    return item


def _single(common: Dataset, key: str, position: int, frame: PhantomFrame, when: datetime) -> Dataset:
    ds = _image(common, key, position, frame, when)
    ds.SOPClassUID = UltrasoundImageStorage
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.LossyImageCompression = "00"
    ds.PixelData = frame.pixels.tobytes()
    ds["PixelData"].VR = "OB"
    return _with_meta(ds, ExplicitVRLittleEndian)


def _cine(
    common: Dataset, key: str, position: int, frames: NDArray[np.uint8], still: PhantomFrame, when: datetime
) -> Dataset:
    ds = _image(common, key, position, still, when)
    ds.SOPClassUID = UltrasoundMultiFrameImageStorage
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "YBR_FULL_422", 0
    ds.NumberOfFrames, ds.FrameTime, ds.FrameIncrementPointer = len(frames), "40.0", 0x00181063
    encoded = [_jpeg(frame) for frame in frames]
    raw = 3 * frames.size
    ds.LossyImageCompression, ds.LossyImageCompressionMethod = "01", "ISO_10918_1"
    ds.LossyImageCompressionRatio = f"{raw / sum(map(len, encoded)):.1f}"
    ds.PixelData = encapsulate(encoded)
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    return _with_meta(ds, JPEGBaseline8Bit)


def _jpeg(frame: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(frame).convert("RGB").save(buffer, "JPEG", quality=_JPEG_QUALITY, subsampling="4:2:2")
    return buffer.getvalue()


def _with_meta(ds: Dataset, transfer_syntax_uid: str) -> Dataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    meta.TransferSyntaxUID = UID(transfer_syntax_uid)
    ds.file_meta = meta
    return ds
