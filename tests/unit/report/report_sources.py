"""Small ultrasound studies with every oddity a report must bear, and requests for reports of them."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
)

from agent.domain.score import GRADES, ModelIdentity, Quality, Refusal, ScoreOutcome, StudyScore, ViewUse
from agent.report.report_study import ReportRequest
from agent.store.result_files import ViewPicture

STUDY = "1.2.826.0.1.3680043.8.498.1"
OTHER_STUDY = "1.2.826.0.1.3680043.8.498.2"
KEY = "0123456789abcdef" * 4
CONTENT_AT = datetime(2026, 11, 20, 22, 30, 15, tzinfo=UTC)
MODEL = ModelIdentity(name="fusion", version="1.2.0", digest="ab" * 32, backend="onnxruntime", precision="fp32")
VIEWS = ("subcostal", "intercostal", "liver-kidney", "left-lobe")
ROWS, COLUMNS = 120, 160

Change = Callable[[Dataset], None]


def speckle(seed: int, rows: int = ROWS, columns: int = COLUMNS) -> NDArray[np.uint8]:
    """Draw noise in a fan."""
    y, x = np.mgrid[0:rows, 0:columns]
    noise = np.random.default_rng(seed).rayleigh(45, (rows, columns))
    return np.clip(noise * fan(rows, columns) * np.exp(-y / rows) + 0 * x, 0, 255).astype(np.uint8)


def fan(rows: int = ROWS, columns: int = COLUMNS) -> NDArray[np.bool_]:
    """Say where tissue is."""
    y, x = np.mgrid[0:rows, 0:columns]
    return np.abs(x - columns / 2) < (y + rows / 8) * 0.7


def source(number: int, *, study: str = STUDY, colour: bool = False, jpeg: bool = False, frames: int = 1) -> Dataset:
    """Make one conformant instance."""
    pixels = [speckle(10 * number + frame) for frame in range(frames)]
    made = Dataset()
    made.SpecificCharacterSet = "ISO_IR 100"
    made.SOPClassUID = UltrasoundImageStorage if frames == 1 else UltrasoundMultiFrameImageStorage
    made.SOPInstanceUID, made.StudyInstanceUID = f"{study}.1.{number}", study
    made.SeriesInstanceUID, made.SeriesNumber, made.InstanceNumber = f"{study}.1", 1, number
    made.PatientName, made.PatientID, made.IssuerOfPatientID = "Sample^Pat", "ID-1", "HOSPITAL"
    made.PatientBirthDate, made.PatientSex, made.PatientAge = "19700101", "F", "056Y"
    made.PatientSize, made.PatientWeight = "1.65", "82.0"
    made.StudyDate, made.StudyTime, made.StudyID = "20261120", "101500", "S1"
    made.AccessionNumber, made.ReferringPhysicianName = "ACC1", "Ref^Doc"
    made.StudyDescription, made.Modality, made.Manufacturer = "US ABDOMEN", "US", "Vendor"
    made.ImageType = ["ORIGINAL", "PRIMARY", "ABDOMINAL"]
    made.BurnedInAnnotation, made.LossyImageCompression = "NO", "00"
    made.Rows, made.Columns, made.SamplesPerPixel = ROWS, COLUMNS, 3 if colour or jpeg else 1
    made.PhotometricInterpretation = "YBR_FULL_422" if jpeg else "RGB" if colour else "MONOCHROME2"
    if colour or jpeg:
        made.PlanarConfiguration = 0
    made.BitsAllocated = made.BitsStored = 8
    made.HighBit, made.PixelRepresentation = 7, 0
    if frames > 1:
        made.NumberOfFrames = frames
    _put_pixels(made, pixels, colour=colour, jpeg=jpeg)
    return made


def _put_pixels(made: Dataset, pixels: Sequence[NDArray[np.uint8]], *, colour: bool, jpeg: bool) -> None:
    shown = [np.repeat(one[..., None], 3, 2) if colour or jpeg else one for one in pixels]
    if jpeg:
        made.LossyImageCompression, made.LossyImageCompressionMethod = "01", "ISO_10918_1"
        made.LossyImageCompressionRatio = "9.5"
        made.PixelData = encapsulate([_jpeg(one) for one in shown])
        made["PixelData"].is_undefined_length = True
    else:
        made.PixelData = b"".join(one.tobytes() for one in shown)
    made["PixelData"].VR = "OB"
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = JPEGBaseline8Bit if jpeg else ExplicitVRLittleEndian


def _jpeg(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90, subsampling="4:2:2")
    return buffer.getvalue()


def write(folder: Path, instances: Sequence[Dataset], change: Change | None = None) -> tuple[Path, ...]:
    """Write instances as Part 10 files, each after `change`."""
    paths = []
    for instance in instances:
        if change is not None:
            change(instance)
        path = folder / f"{instance.SOPInstanceUID}.dcm"
        instance.file_meta.MediaStorageSOPClassUID = instance.SOPClassUID
        instance.file_meta.MediaStorageSOPInstanceUID = instance.SOPInstanceUID
        instance.save_as(path, enforce_file_format=True)
        paths.append(path)
    return tuple(paths)


def standard_study() -> list[Dataset]:
    """Three instances: grey, colour, and a lossy cine."""
    return [source(1), source(2, colour=True), source(3, jpeg=True, frames=6)]


def picture(uid: str, frame: int, seed: int, rows: int = ROWS, columns: int = COLUMNS) -> ViewPicture:
    """Make a picture with a saliency blob."""
    y, x = np.mgrid[0:rows, 0:columns]
    blob = np.exp(-(((x - columns * 0.5) / (columns * 0.15)) ** 2 + ((y - rows * 0.6) / (rows * 0.2)) ** 2))
    return ViewPicture(
        sop_instance_uid=uid,
        frame=frame,
        source=speckle(seed, rows, columns),
        saliency=blob.astype(np.float32),
        sector=fan(rows, columns),
    )


def score(**changes: Any) -> StudyScore:
    """Make an unremarkable S2."""
    made = StudyScore(
        grade="S2",
        probabilities=dict(zip(GRADES, (0.03, 0.12, 0.65, 0.2), strict=True)),
        steatosis_probability=0.97,
        fat_fraction_percent=19.6,
        fat_fraction_interval=(15.1, 24.2),
        interval_coverage=0.9,
        grade_set=("S1", "S2", "S3"),
        certainty=0.65,
        member_spread=0.02,
        fat_fraction_spread=1.3,
        quality=Quality.DIAGNOSTIC,
        cut_offs=(6.4, 17.4, 22.1),
        cut_offs_source="Tang 2013, MRI-PDFF against histology",
    )
    return replace(made, **changes)


def outcome(uids: Sequence[tuple[str, int]], *, scored: StudyScore | None = None, **changes: Any) -> ScoreOutcome:
    """Make the outcome of used frames."""
    views = tuple(
        ViewUse(
            sop_instance_uid=uid,
            frame=frame,
            view=VIEWS[index % len(VIEWS)],
            used=True,
            reason=None,
            weight=1 / len(uids),
            view_probability=0.9,
            quality=0.8,
            probabilities=dict(zip(GRADES, (0.1, 0.2, 0.5, 0.2), strict=True)),
        )
        for index, (uid, frame) in enumerate(uids)
    )
    made = ScoreOutcome(score=scored or score(), refusal=None, views=views, model=MODEL)
    return replace(made, **changes)


def refused(refusal: Refusal, uids: Sequence[tuple[str, int | None]], **changes: Any) -> ScoreOutcome:
    """Make a refusal for which these frames were looked at."""
    views = tuple(
        ViewUse(sop_instance_uid=uid, frame=frame, view=None, used=False, reason="no 2D tissue region")
        for uid, frame in uids
    )
    return replace(ScoreOutcome(score=None, refusal=refusal, views=views, model=MODEL), **changes)


def used_frames(instances: Sequence[Dataset]) -> list[tuple[str, int]]:
    """Name one frame of each instance: the last of a cine."""
    return [(str(one.SOPInstanceUID), int(one.get("NumberOfFrames") or 1)) for one in instances]


def request(
    folder: Path, instances: Sequence[Dataset] | None = None, change: Change | None = None, **changes: Any
) -> ReportRequest:
    """Make the request for a report of a study in which every instance was used."""
    sources = list(instances or standard_study())
    frames = used_frames(sources)
    made = ReportRequest(
        result_key=KEY,
        outcome=outcome(frames),
        pictures=tuple(picture(uid, frame, index) for index, (uid, frame) in enumerate(frames)),
        evidence=write(folder, sources, change),
        content_at=CONTENT_AT,
        predecessor=None,
        study_instance_uid=STUDY,
        station_name="STEATOSIS",
        agent_version="0.1.0",
    )
    return replace(made, **changes)


def refusal_request(folder: Path, refusal: Refusal, instances: Sequence[Dataset] | None = None) -> ReportRequest:
    """Make the request for the report of a refusal."""
    sources = list(instances or standard_study())
    made = request(folder, sources, pictures=())
    return replace(made, outcome=refused(refusal, used_frames(sources)))
