"""Every kind of source picture with every character set, alone, refused, and grown: scored by the shipped bundle,
reported, and held against dciodvfy. What sources lack is in `test_report_validators`.

    REPORT_MATRIX=full python -m pytest tests/peers/test_report_matrix.py tests/peers/test_report_validators.py

tells the count of objects and errors at the end."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import convert_color_space
from pydicom.uid import (
    JPEG2000,
    MPEG4HP41,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from agent.domain.results import OPTIONAL_KINDS, Predecessor, ResultKind, ResultObject
from agent.domain.score import Refusal, ScoreOutcome
from agent.report.report_study import ReportRequest, build_report
from agent.score.score_study import ScoreLimits, score_study
from agent.store.result_files import ViewPicture
from inference.predictor import Predictor
from tests.peers.conftest import Dciodvfy
from tests.support.ultrasound import STUDY, image, jpeg, phantom, saved
from tests.unit.score.conftest import predictor  # noqa: F401 - a fixture

pytestmark = pytest.mark.peers

Pixels = NDArray[np.uint8]
Make = Callable[[int, Pixels], tuple[Dataset, str]]
LIMITS = ScoreLimits(min_views=1, max_views=8)


def native(syntax: str, **elements: object) -> Make:
    return lambda number, grey: (image(number, grey, **elements), syntax)


def inverted(number: int, grey: Pixels) -> tuple[Dataset, str]:
    return image(number, 255 - grey, PhotometricInterpretation="MONOCHROME1"), ExplicitVRLittleEndian


def coloured(number: int, grey: Pixels) -> Dataset:
    return image(number, np.repeat(grey[..., None], 3, axis=-1))


def by_pixel(number: int, grey: Pixels) -> tuple[Dataset, str]:
    return coloured(number, grey), ExplicitVRLittleEndian


def by_plane(number: int, grey: Pixels) -> tuple[Dataset, str]:
    ds = coloured(number, grey)
    ds.PlanarConfiguration, ds.PixelData = 1, np.stack([grey] * 3).tobytes()
    return ds, ExplicitVRLittleEndian


def full_ybr(number: int, grey: Pixels) -> tuple[Dataset, str]:
    ybr = convert_color_space(np.repeat(grey[..., None], 3, axis=-1), "RGB", "YBR_FULL")
    return image(number, ybr, PhotometricInterpretation="YBR_FULL"), ExplicitVRLittleEndian


def palette(number: int, grey: Pixels) -> tuple[Dataset, str]:
    table = (np.arange(256) << 8).astype("<u2").tobytes()
    ds = image(number, grey, PhotometricInterpretation="PALETTE COLOR")
    for colour in ("Red", "Green", "Blue"):
        setattr(ds, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(ds, f"{colour}PaletteColorLookupTableData", table)
    return ds, ExplicitVRLittleEndian


def compressed(syntax: str, *, colour: bool = False, **options: object) -> Make:
    def make(number: int, grey: Pixels) -> tuple[Dataset, str]:
        ds = coloured(number, grey) if colour else image(number, grey)
        uid, ds.file_meta = ds.SOPInstanceUID, FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.compress(syntax, generate_instance_uid=False, **options)
        ds.SOPInstanceUID = uid
        return ds, syntax

    return make


def jpeg_colour(number: int, grey: Pixels) -> tuple[Dataset, str]:
    buffer = io.BytesIO()
    Image.fromarray(np.repeat(grey[..., None], 3, axis=-1)).save(buffer, "JPEG", quality=92, subsampling="4:2:2")
    ds = image(number, np.repeat(grey[..., None], 3, axis=-1), PhotometricInterpretation="YBR_FULL_422")
    ds.PixelData = encapsulate([buffer.getvalue()])
    ds["PixelData"].is_undefined_length = True
    ds.LossyImageCompression, ds.LossyImageCompressionRatio = "01", "9.0"
    ds.LossyImageCompressionMethod = "ISO_10918_1"
    return ds, JPEGBaseline8Bit


def jpeg_cine(number: int, grey: Pixels) -> tuple[Dataset, str]:
    frames = np.stack([grey] * 5)
    ds = image(number, frames, NumberOfFrames=5, PixelData=jpeg(list(frames)))
    ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
    return ds, JPEGBaseline8Bit


def video(number: int, grey: Pixels) -> tuple[Dataset, str]:
    rows, columns = (side - side % 2 for side in grey.shape)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="h264") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "12"})
        stream.width, stream.height, stream.pix_fmt = columns, rows, "yuv420p"
        for _ in range(8):
            picture = np.repeat(grey[:rows, :columns, None], 3, axis=-1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    colour = np.zeros((8, rows, columns, 3), dtype=np.uint8)
    ds = image(number, colour, NumberOfFrames=8, PhotometricInterpretation="YBR_PARTIAL_420")
    content = buffer.getvalue()
    ds.PixelData = encapsulate([content + b"\0" * (len(content) % 2)])
    ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
    ds.LossyImageCompression = "01"
    return ds, MPEG4HP41


SOURCES: dict[str, Make] = {
    "MONOCHROME2, Implicit LE": native(ImplicitVRLittleEndian),
    "MONOCHROME1, Explicit LE": inverted,
    "MONOCHROME2, Explicit BE": native(ExplicitVRBigEndian),
    "MONOCHROME2, Deflated": native(DeflatedExplicitVRLittleEndian),
    "RGB by pixel, Explicit LE": by_pixel,
    "RGB by plane, Explicit LE": by_plane,
    "YBR_FULL, Explicit LE": full_ybr,
    "PALETTE COLOR, Explicit LE": palette,
    "MONOCHROME2, RLE": compressed(RLELossless),
    "RGB, RLE": compressed(RLELossless, colour=True),
    "YBR_FULL_422, JPEG Baseline": jpeg_colour,
    "MONOCHROME2 cine, JPEG Baseline": jpeg_cine,
    "MONOCHROME2, JPEG-LS": compressed(JPEGLSLossless),
    "MONOCHROME2, JPEG 2000 lossless": compressed(JPEG2000Lossless),
    "MONOCHROME2, JPEG 2000 lossy": compressed(JPEG2000, j2k_cr=[8]),
    "YBR_PARTIAL_420 cine, H.264": video,
}

NAMES: dict[str, tuple[str | list[str] | None, str]] = {
    "default": (None, "Sample^Pat"),
    "Latin": ("ISO_IR 100", "Müller^Jörg"),
    "Cyrillic": ("ISO_IR 144", "Люкceмбypг"),
    "Chinese": ("GB18030", "Wang^XiaoDong=王^小东"),
    "Japanese": (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    "Korean": (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
    "Arabic": ("ISO_IR 127", "قباني^لنزار"),
    "Unicode": ("ISO_IR 192", "قباني^لنزار"),
}


IS_FULL = os.environ.get("REPORT_MATRIX") == "full"
PAIRS = [
    (source, name)
    for number, source in enumerate(SOURCES)
    for turn, name in enumerate(NAMES)
    if IS_FULL or (turn - number) % 4 == 0
]
"""Each source with every character set where `REPORT_MATRIX=full`, else each with two of them in turn."""


@dataclass(frozen=True)
class Scored:
    """A study of three views of one kind of picture, and what the bundle makes of its first, of two, and of all."""

    outcomes: tuple[tuple[ScoreOutcome, tuple[ViewPicture, ...]], ...]
    paths: tuple[Path, ...]


@pytest.fixture(scope="module", params=SOURCES)
def scored(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Scored:
    model: Predictor = request.getfixturevalue("predictor")
    folder = tmp_path_factory.mktemp("source")
    views = ("subcostal", "intercostal", "liver-kidney")
    made = [SOURCES[request.param](n, phantom(view, seed=3).pixels) for n, view in enumerate(views, 1)]
    sources = [saved(ds, folder, syntax) for ds, syntax in made]
    outcomes = tuple(score_study(sources[:count], model, LIMITS) for count in (1, 2, 3))
    assert all(outcome.score is not None for outcome, _ in outcomes), [outcome.detail for outcome, _ in outcomes]
    return Scored(outcomes, tuple(path for _, path in sources))


def request_of(one: Scored, paths: Sequence[Path], **changes: object) -> ReportRequest:
    """Ask for the report of as many views as there are files, with every optional kind."""
    outcome, pictures = one.outcomes[len(paths) - 1]
    made = ReportRequest(
        result_key="ab" * 32,
        outcome=outcome,
        pictures=pictures,
        evidence=tuple(paths),
        content_at=datetime(2026, 11, 24, 12, tzinfo=UTC),
        predecessor=None,
        study_instance_uid=STUDY,
        extras=OPTIONAL_KINDS,
    )
    return replace(made, **changes)


def named(made: ResultObject) -> Predecessor:
    """Name an object as a later result names what it replaces."""
    return Predecessor(
        study_instance_uid=made.study_instance_uid,
        series_instance_uid=made.series_instance_uid,
        sop_class_uid=made.sop_class_uid,
        sop_instance_uid=made.sop_instance_uid,
        is_image=made.kind in (ResultKind.SUMMARY, ResultKind.HEATMAP),
    )


def renamed(paths: Sequence[Path], folder: Path, charset: str | list[str] | None, name: str) -> list[Path]:
    """Give the sources another patient's name in its own character set."""
    copies = []
    for path in paths:
        ds = dcmread(path)
        ds.PatientName = name
        if charset is not None:
            ds.SpecificCharacterSet = charset
        ds.save_as(folder / path.name)
        copies.append(folder / path.name)
    return copies


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("scored", "charset"), PAIRS, indirect=["scored"])
def test_several_views_in_every_character_set(scored: Scored, charset: str, tmp_path: Path, dciodvfy: Dciodvfy) -> None:
    paths = renamed(scored.paths, tmp_path, *NAMES[charset])
    made = build_report(request_of(scored, paths))
    dciodvfy.check(made, tmp_path)
    original = dcmread(paths[0], stop_before_pixels=True)
    for one in made:
        assert dcmread(io.BytesIO(one.encoded), stop_before_pixels=True).PatientName == original.PatientName


@pytest.mark.filterwarnings("ignore")
def test_one_view(scored: Scored, tmp_path: Path, dciodvfy: Dciodvfy) -> None:
    dciodvfy.check(build_report(request_of(scored, scored.paths[:1])), tmp_path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("charset", ["Latin", "Chinese"])
def test_an_addendum_and_a_replacement(scored: Scored, charset: str, tmp_path: Path, dciodvfy: Dciodvfy) -> None:
    """A third image arrives after two were reported; then another model scores the same three."""
    paths = renamed(scored.paths, tmp_path, *NAMES[charset])
    first = build_report(request_of(scored, paths[:2]))
    key, replaced = 0xC0, first
    for views in (3, 3):
        key += 1
        asked = request_of(
            scored, paths[:views], result_key=f"{key:02x}" * 32, predecessor=named(replaced[0]),
            replaced=tuple(map(named, replaced)),
        )  # fmt: skip
        made = build_report(asked)
        dciodvfy.check(made, tmp_path)
        assert ResultKind.REJECTION_NOTE in {one.kind for one in made}
        report = dcmread(io.BytesIO(made[0].encoded))
        before = report.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
        assert before.ReferencedSOPInstanceUID == replaced[0].sop_instance_uid
        assert not {one.sop_instance_uid for one in made} & {one.sop_instance_uid for one in replaced}
        replaced = made


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("refusal", Refusal)
def test_every_refusal(scored: Scored, refusal: Refusal, tmp_path: Path, dciodvfy: Dciodvfy) -> None:
    outcome, _ = scored.outcomes[-1]
    views = tuple(replace(view, used=False, reason="no 2D tissue region", weight=None) for view in outcome.views)
    refused = replace(outcome, score=None, refusal=refusal, views=views)
    dciodvfy.check(build_report(request_of(scored, scored.paths, outcome=refused, pictures=())), tmp_path)
