"""Files of other people: everything that pydicom ships of ultrasound is scored or given a reason."""

from __future__ import annotations

import warnings
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.datadict import tag_for_keyword
from pydicom.errors import InvalidDicomError

from agent.domain.study import Instance
from agent.score.candidates import look_at
from agent.score.pixels import read_frames
from agent.score.reading import read_image
from agent.score.score_study import ScoreLimits, score_study
from inference.predictor import Predictor
from tests.support.ultrasound import image, phantom, saved

WHEEL = Path(str(pydicom.__file__)).parent / "data" / "test_files"
IN_THE_WHEEL = (
    "ExplVR_BigEnd.dcm",
    "examples_jpeg2k.dcm",
    "examples_palette.dcm",
    "examples_rgb_color.dcm",
    "examples_ybr_color.dcm",
)


def _data_store() -> Path:
    spec = find_spec("data_store")
    assert spec is not None, "pydicom-data is not installed"
    return Path(next(iter(spec.submodule_search_locations or ()))) / "data"


def _is_ultrasound(path: Path) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header = pydicom.dcmread(path, stop_before_pixels=True)
    except (InvalidDicomError, OSError, ValueError):
        return False
    return str(header.get("Modality", "")) == "US" and "Rows" in header


def _source(path: Path) -> tuple[Instance, Path]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        header = pydicom.dcmread(path, stop_before_pixels=True)
    uid = str(header.SOPInstanceUID)
    return Instance(
        id=1,
        sop_instance_uid=uid,
        sop_class_uid=str(header.SOPClassUID),
        study_instance_uid=str(header.StudyInstanceUID),
        series_instance_uid=str(header.SeriesInstanceUID),
        transfer_syntax_uid=str(header.file_meta.TransferSyntaxUID),
        sha256="",
        bytes=path.stat().st_size,
        may_be_scored=True,
        not_scored_reason=None,
    ), path


PYDICOM_DATA = sorted(path for path in _data_store().glob("*.dcm") if _is_ultrasound(path))


def test_there_are_as_many_as_expected() -> None:
    assert all((WHEEL / name).exists() for name in IN_THE_WHEEL)
    assert len(PYDICOM_DATA) >= 14


@pytest.mark.parametrize("path", [*(WHEEL / name for name in IN_THE_WHEEL), *PYDICOM_DATA], ids=lambda path: path.name)
def test_each_is_scored_or_given_a_reason(path: Path, predictor: Predictor) -> None:
    outcome, _ = score_study([_source(path)], predictor, ScoreLimits(min_views=1, max_views=6))
    assert outcome.views
    assert all(use.used or use.reason for use in outcome.views)
    assert not any(use.reason and "understood" in use.reason for use in outcome.views)


@pytest.mark.parametrize("name", ["OBXXXX1A", "OBXXXX1A_2frame", "gdcm-US-ALOKA-16"])
def test_byte_order_changes_no_picture(name: str) -> None:
    little = _data_store() / f"{name}.dcm"
    big = _data_store() / {"OBXXXX1A": "OBXXXX1A_expb", "OBXXXX1A_2frame": "OBXXXX1A_expb_2frame"}.get(
        name, f"{name}_big"
    )
    pictures = []
    for path in (little, big.with_name(big.name + ".dcm")):
        ((_, frame),) = read_frames(read_image(path), [0])
        assert isinstance(frame, np.ndarray), frame
        pictures.append(frame)
    np.testing.assert_array_equal(*pictures)


def test_rle_gives_the_same_picture_as_native() -> None:
    pictures = []
    for name in ("OBXXXX1A.dcm", "OBXXXX1A_rle.dcm"):
        ((_, frame),) = read_frames(read_image(_data_store() / name), [0])
        pictures.append(frame)
    np.testing.assert_array_equal(pictures[0], pictures[1])


def test_a_look_leaves_the_instance_as_it_is(predictor: Predictor) -> None:
    instance, path = _source(WHEEL / IN_THE_WHEEL[2])
    kept = replace(instance)
    before = path.read_bytes()
    look_at(instance, path, predictor.bundle.geometry)
    assert instance == kept
    assert path.read_bytes() == before


def test_an_echocardiogram_says_so_in_its_header(predictor: Predictor) -> None:
    path = next(_data_store().rglob("JPGLosslessP14SV1_1s_1f_8b.dcm"))
    looked = look_at(*_source(path), predictor.bundle.geometry)
    assert not looked.candidates
    assert looked.reasons == ["the header says that it shows no abdomen: CARDIOLOGY"]


@pytest.mark.parametrize("keyword", ["Rows", "BitsStored", "NumberOfFrames", "PhotometricInterpretation"])
@pytest.mark.parametrize("vr", [b"FD", b"AT"])
def test_an_element_of_an_odd_length_is_a_reason_and_no_fault(
    tmp_path: Path, predictor: Predictor, keyword: str, vr: bytes
) -> None:
    instance, path = saved(image(1, phantom("subcostal").pixels, NumberOfFrames=1), tmp_path)
    content, tag = path.read_bytes(), tag_for_keyword(keyword)
    assert tag is not None
    at = content.index((tag >> 16).to_bytes(2, "little") + (tag & 0xFFFF).to_bytes(2, "little"), 132)
    end = at + 8 + int.from_bytes(content[at + 6 : at + 8], "little")
    path.write_bytes(content[: at + 4] + vr + b"\3\0" + b"\1\2\3" + content[end:])
    looked = look_at(instance, path, predictor.bundle.geometry)
    assert len(looked.views) == 1
    assert looked.candidates or looked.reasons
