"""Which part of an image may be scored, by its header."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence

from agent.score.anatomy import _REGIONS
from agent.score.frames import LEAST_SIDE, UNDER_LEAST, plan_frames
from agent.score.reasons import NotScorableError
from tests.support.ultrasound import image, region

WHOLE = (0, 0, 640, 480)
TISSUE = (100, 40, 540, 460)


def header(*regions: Dataset, **elements: Any) -> Dataset:
    frames = int(elements.get("NumberOfFrames") or 0)
    ds = image(1, np.zeros((frames, 480, 640) if frames > 1 else (480, 640), np.uint8), **elements)
    if regions:
        ds.SequenceOfUltrasoundRegions = DicomSequence(regions)
    return ds


def coded(*codes: tuple[str, str]) -> DicomSequence:
    """Make an Anatomic Region Sequence."""
    items = []
    for scheme, value in codes:
        item = Dataset()
        item.CodingSchemeDesignator, item.CodeValue = scheme, value
        items.append(item)
    return DicomSequence(items)


def reason_of(ds: Dataset) -> NotScorableError:
    with pytest.raises(NotScorableError) as caught:
        plan_frames(ds)
    return caught.value


def test_without_regions_the_whole_image_is_looked_at() -> None:
    assert plan_frames(header()).regions == (WHOLE,)


def test_the_region_maximum_is_the_last_pixel_inside() -> None:
    assert plan_frames(header(region(TISSUE))).regions == (TISSUE,)


def test_a_region_beyond_the_image_is_clamped() -> None:
    assert plan_frames(header(region((0, 0, 2000, 900)))).regions == (WHOLE,)


def test_a_split_screen_gives_both_halves_the_larger_first() -> None:
    left, right = (0, 0, 300, 480), (302, 0, 640, 480)
    assert plan_frames(header(region(left), region(right))).regions == (right, left)


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (region(TISSUE, data=2), "colour flow"),
        (region(TISSUE, data=3), "spectral Doppler"),
        (region(TISSUE, space=2), "M-mode"),
        (region(TISSUE, space=5), "graphic"),
        (region((0, 0, LEAST_SIDE - 1, 400)), UNDER_LEAST),
        (region((700, 0, 900, 400)), UNDER_LEAST),
    ],
)
def test_no_region_of_tissue_is_a_reason(item: Dataset, words: str) -> None:
    assert words in str(reason_of(header(item)))


def test_colour_flow_inside_the_tissue_spoils_it() -> None:
    assert "colour flow" in str(reason_of(header(region(TISSUE), region((200, 200, 400, 400), data=2))))


def test_colour_flow_beside_the_tissue_does_not() -> None:
    left, right = (0, 0, 319, 480), (319, 0, 640, 480)
    assert plan_frames(header(region(left), region(right, data=2))).regions == (left,)


def test_the_trace_of_an_electrocardiogram_only_crosses_the_tissue() -> None:
    assert plan_frames(header(region(TISSUE), region((100, 420, 540, 460), space=4))).regions == (TISSUE,)


@pytest.mark.parametrize(
    ("elements", "words", "undecodable"),
    [
        ({"Rows": 0}, "rows or columns", True),
        ({"Columns": None}, "rows or columns", True),
        ({"Rows": 65535, "Columns": 65535}, "impossible image size", True),
        ({"NumberOfFrames": "0"}, "impossible image size", True),
        ({"Rows": 100}, "under 128 pixels", False),
        ({"PhotometricInterpretation": "HSV"}, "photometric interpretation", True),
        ({"PhotometricInterpretation": None}, "photometric interpretation", True),
        ({"BitsStored": 12}, "impossible together", True),
        ({"HighBit": 8}, "impossible together", True),
        ({"BitsAllocated": 32, "BitsStored": 32}, "impossible together", True),
    ],
)
def test_impossible_headers_are_refused_before_anything_is_decoded(
    elements: dict[str, Any], words: str, undecodable: bool
) -> None:
    error = reason_of(header(**elements))
    assert words in str(error)
    assert error.undecodable is undecodable


def test_a_long_cine_is_looked_at_evenly_and_never_as_a_whole() -> None:
    plan = plan_frames(header(NumberOfFrames="900"))
    steps = np.diff(plan.candidates)
    assert len(plan.candidates) == 16
    assert steps.min() >= 56
    assert steps.max() <= 57
    assert 0 <= plan.candidates[0] < 57
    assert 900 - 57 <= plan.candidates[-1] < 900


def test_enormous_frames_are_looked_at_one_by_one_until_a_limit() -> None:
    assert len(plan_frames(header(NumberOfFrames="900", Rows=4096, Columns=4096)).candidates) == 4


def test_a_short_cine_is_looked_at_whole() -> None:
    assert plan_frames(header(NumberOfFrames="7")).candidates == list(range(7))


def test_region_codes_are_those_of_the_standard() -> None:
    """As pydicom has them from PS3.16, the older scheme beside the newer."""
    from pydicom.sr._snomed_dict import mapping
    from pydicom.sr.codedict import codes

    names = {"CAROTID": "CarotidArtery"}
    for (scheme, value), name in _REGIONS.items():
        code = getattr(codes.SCT, names.get(name, name.capitalize()))
        assert value == (code.value if scheme == "SCT" else mapping["SCT"][code.value])


def test_synthetic_data_is_told() -> None:
    assert plan_frames(header(SyntheticData="YES")).synthetic
    assert not plan_frames(header()).synthetic


def test_a_header_is_not_believed_about_colour() -> None:
    assert plan_frames(header(UltrasoundColorDataPresent=1)).regions == (WHOLE,)


@pytest.mark.parametrize(
    ("elements", "named"),
    [
        ({"ImageType": ["ORIGINAL", "PRIMARY", "CARDIOLOGY"]}, "CARDIOLOGY"),  # Philips
        ({"ImageType": ["ORIGINAL", "PRIMARY", "TTE", "0001"]}, "TTE"),
        ({"BodyPartExamined": "THYROID"}, "THYROID"),
        ({"AnatomicRegionSequence": coded(("SCT", "80891009"))}, "HEART"),
        ({"AnatomicRegionSequence": coded(("SRT", "T-B6000"), ("SRT", "T-D1600"))}, "THYROID"),
        ({"BodyPartExamined": "HEART", "AnatomicRegionSequence": DicomSequence([Dataset()])}, "HEART"),
    ],
)
def test_what_the_header_calls_another_organ_is_not_scored(elements: dict[str, Any], named: str) -> None:
    error = reason_of(header(**elements))
    assert named in str(error)
    assert not error.undecodable


@pytest.mark.parametrize(
    "elements",
    [
        {"ImageType": ["ORIGINAL", "PRIMARY", "ABDOMINAL", "0001"]},
        {"ImageType": ["DERIVED", "PRIMARY"]},
        {"ImageType": "ORIGINAL"},
        {"ImageType": None, "BodyPartExamined": "KIDNEY"},
        {"AnatomicRegionSequence": coded(("SCT", "10200004"))},
        {"AnatomicRegionSequence": coded(("SCT", "64033007"))},
        {"AnatomicRegionSequence": coded(("SCT", "80891009"), ("SCT", "10200004"))},
        {"AnatomicRegionSequence": coded(("99LOCAL", "80891009"))},
        {"AnatomicRegionSequence": DicomSequence([])},
        {"AnatomicRegionSequence": DicomSequence([Dataset()])},
    ],
)
def test_a_header_that_may_mean_the_liver_leaves_it_to_the_picture(elements: dict[str, Any]) -> None:
    given = {name: value for name, value in elements.items() if value is not None}
    assert plan_frames(header(**given)).regions == (WHOLE,)


@pytest.mark.parametrize("kind", ["MONOCHROME1", "RGB", "YBR_FULL_422", "YBR_PARTIAL_420", "PALETTE COLOR"])
def test_every_photometric_kind_of_a_scanner_may_be_scored(kind: str) -> None:
    colour = kind in {"RGB", "YBR_FULL_422", "YBR_PARTIAL_420"}
    pixels = np.zeros((200, 200, 3) if colour else (200, 200), np.uint8)
    assert plan_frames(image(1, pixels, PhotometricInterpretation=kind)).frames == 1
