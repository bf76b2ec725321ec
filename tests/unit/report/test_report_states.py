"""Presentation states: one for the colour views, one for the grey ones, with text that a viewer switches off."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import ImageCms
from pydicom import Dataset, dcmread

from agent.domain.results import ResultKind
from agent.domain.score import Refusal
from agent.report.report_study import build_report
from tests.unit.report.report_sources import OTHER_STUDY, Change, refusal_request, request, source

STATES = frozenset({ResultKind.COLOUR_STATE, ResultKind.GREY_STATE})


def states(
    folder: Path, instances: list[Dataset] | None = None, change: Change | None = None
) -> dict[ResultKind, Dataset]:
    made = build_report(request(folder, instances, change, extras=STATES))
    return {one.kind: dcmread(io.BytesIO(one.encoded)) for one in made if one.kind in STATES}


def images(state: Dataset) -> list[tuple[str, int | None]]:
    return [
        (image.ReferencedSOPInstanceUID, image.get("ReferencedFrameNumber"))
        for series in state.ReferencedSeriesSequence
        for image in series.ReferencedImageSequence
    ]


def test_colour_and_grey_views_have_a_state_each(tmp_path: Path) -> None:
    made = states(tmp_path)
    grey, colour, cine = (f"1.2.826.0.1.3680043.8.498.1.1.{number}" for number in (1, 2, 3))
    assert images(made[ResultKind.GREY_STATE]) == [(grey, None)]
    assert images(made[ResultKind.COLOUR_STATE]) == [(colour, None), (cine, 6)]
    assert made[ResultKind.GREY_STATE].PresentationLUTShape == "IDENTITY"
    profile = ImageCms.ImageCmsProfile(io.BytesIO(made[ResultKind.COLOUR_STATE].ICCProfile)).profile
    assert profile.device_class == "scnr"
    assert profile.xcolor_space.strip() == "RGB"


def test_every_image_has_its_text_in_one_layer(tmp_path: Path) -> None:
    state = states(tmp_path)[ResultKind.COLOUR_STATE]
    assert [layer.GraphicLayer for layer in state.GraphicLayerSequence] == ["AI_RESEARCH"]
    texts = [item.TextObjectSequence[0].UnformattedTextValue for item in state.GraphicAnnotationSequence]
    assert len(texts) == 2
    for number, text in zip((2, 3), texts, strict=True):
        assert "Study: S2 (moderate), fat fraction 19.6 % (15.1 to 24.2), estimate" in text
        assert f"View {number} of 3" in text
        assert text.startswith("INVESTIGATIONAL AI - NOT FOR DIAGNOSTIC USE")


def test_several_frames_of_one_image_are_one_reference(tmp_path: Path) -> None:
    cine = source(1, jpeg=True, frames=6)
    asked = request(tmp_path, [cine], extras=STATES)
    one = asked.outcome.views[0]
    views = tuple(replace(one, frame=frame, weight=0.5) for frame in (2, 5))
    pictures = tuple(replace(asked.pictures[0], frame=frame) for frame in (2, 5))
    made = build_report(replace(asked, outcome=replace(asked.outcome, views=views), pictures=pictures))
    (state,) = (dcmread(io.BytesIO(made_one.encoded)) for made_one in made if made_one.kind in STATES)
    assert images(state) == [(cine.SOPInstanceUID, [2, 5])]
    assert len(state.DisplayedAreaSelectionSequence) == 2


def inverse(ds: Dataset) -> None:
    ds.PhotometricInterpretation = "MONOCHROME1"


@pytest.mark.parametrize(
    ("instances", "change"),
    [
        ([source(1)], inverse),
        ([source(1), source(2, study=OTHER_STUDY, colour=True)], None),
    ],
    ids=["MONOCHROME1", "another study"],
)
def test_what_a_state_cannot_show_is_left_out(
    tmp_path: Path, instances: list[Dataset], change: Callable[[Dataset], None] | None
) -> None:
    made = states(tmp_path, instances, change)
    assert ResultKind.COLOUR_STATE not in made
    assert (ResultKind.GREY_STATE in made) == (change is None)


def test_a_refusal_has_none(tmp_path: Path) -> None:
    made = build_report(replace(refusal_request(tmp_path, Refusal.NOT_LIVER), extras=STATES))
    assert not {one.kind for one in made} & STATES
