"""One invented study, scored and reported before the first real one: none waits for tables, fonts and decoders."""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit, UltrasoundImageStorage

from agent.domain.results import ResultObject
from agent.domain.score import GRADES, ModelIdentity, Quality, ScoreOutcome, StudyScore, ViewUse
from agent.domain.study import Instance
from agent.report.envelope import ReportedStudy
from agent.report.report_study import ReportRequest, build_report, composed
from agent.score.score_study import ScoreLimits, score_study
from agent.store.result_files import ViewPicture
from inference.predictor import Predictor

_STUDY: Final = "2.25.1"
_ROWS, _COLUMNS = 400, 520
_KEY: Final = "0" * 64


def warm_up(
    predictor: Predictor, limits: ScoreLimits, compose: Callable[[ReportedStudy], ResultObject] = composed
) -> None:
    """Score and report a fan of noise in a temporary folder; nothing of it is kept or recorded."""
    with tempfile.TemporaryDirectory() as folder:
        source = _written(Path(folder))
        score_study([source], predictor, limits)
        build_report(_request(source[1], predictor.identity.digest), compose=compose)


def _fan() -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[0:_ROWS, 0:_COLUMNS]
    sector: np.ndarray = np.abs(x - _COLUMNS / 2) < (y + 60) * 0.6
    noise = np.random.default_rng(0).rayleigh(45.0, sector.shape)
    return np.clip(noise * sector, 0, 255).astype(np.uint8), sector


def _written(folder: Path) -> tuple[Instance, Path]:
    encoded = io.BytesIO()
    Image.fromarray(_fan()[0]).save(encoded, "JPEG")
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = UltrasoundImageStorage, f"{_STUDY}.1"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.Modality = _STUDY, f"{_STUDY}.2", "US"
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.Rows, ds.Columns = 1, "MONOCHROME2", _ROWS, _COLUMNS
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    ds.PixelData = encapsulate([encoded.getvalue()])
    ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    path = folder / "warm-up.dcm"
    ds.save_as(path, enforce_file_format=True)
    content = path.read_bytes()
    instance = Instance(
        id=0,
        sop_instance_uid=str(ds.SOPInstanceUID),
        sop_class_uid=str(ds.SOPClassUID),
        study_instance_uid=_STUDY,
        series_instance_uid=str(ds.SeriesInstanceUID),
        transfer_syntax_uid=str(JPEGBaseline8Bit),
        sha256=hashlib.sha256(content).hexdigest(),
        bytes=len(content),
        may_be_scored=True,
        not_scored_reason=None,
    )
    return instance, path


def _request(path: Path, digest: str) -> ReportRequest:
    pixels, sector = _fan()
    uid, even = f"{_STUDY}.1", dict.fromkeys(GRADES, 0.25)
    score = StudyScore(
        grade=GRADES[0],
        probabilities=even,
        steatosis_probability=0.75,
        fat_fraction_percent=5.0,
        fat_fraction_interval=(0.0, 10.0),
        interval_coverage=0.9,
        grade_set=GRADES,
        certainty=0.25,
        member_spread=0.0,
        fat_fraction_spread=0.0,
        quality=Quality.LIMITED,
        limits=("warm-up",),
        cut_offs=(5.0, 15.0, 25.0),
    )
    view = ViewUse(
        sop_instance_uid=uid, frame=1, view="subcostal", used=True, reason=None, weight=1.0, probabilities=even
    )
    return ReportRequest(
        result_key=_KEY,
        outcome=ScoreOutcome(
            score=score,
            refusal=None,
            views=(view,),
            model=ModelIdentity(name="warm-up", version="0", digest=digest, backend="none"),
        ),
        pictures=(
            ViewPicture(
                sop_instance_uid=uid, frame=1, source=pixels, saliency=sector.astype(np.float32), sector=sector
            ),
        ),
        evidence=(path,),
        content_at=datetime.fromtimestamp(0, UTC),
        predecessor=None,
        study_instance_uid=_STUDY,
    )
