"""The result as text over the sources themselves, which a viewer can switch off: softcopy presentation states.

One for the colour views used (PS3.3 A.33.2, Color Softcopy Presentation State) and one for the grey ones (A.33.1).
The pixels stay untouched; where the model looked is not drawn here: a map is no annotation (`heatmap` has it).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from PIL import ImageCms
from pydicom.uid import UID, ColorSoftcopyPresentationStateStorage, GrayscaleSoftcopyPresentationStateStorage

from agent.domain.eligibility import RESEARCH_SUFFIX
from agent.domain.results import ResultKind, ResultObject
from agent.domain.score import StudyScore, ViewUse
from agent.report.content_items import instance
from agent.report.data_set import DataSet
from agent.report.envelope import ReportedStudy, finished, new_object
from agent.report.secondary_capture import Source
from agent.report.words import BANNER, GRADE_WORDS, RESEARCH_STATEMENT, plain, view_name

SOP_CLASSES: Final = {
    ResultKind.COLOUR_STATE: UID(ColorSoftcopyPresentationStateStorage),
    ResultKind.GREY_STATE: UID(GrayscaleSoftcopyPresentationStateStorage),
}
LAYER: Final = "AI_RESEARCH"
"""Graphic Layer (0070,0002): what a viewer switches on and off."""
_LABEL: Final = "AI_STEATOSIS"
_AMBER_LAB: Final = (0xC7AE, 0x8F8F, 0xC3C3)
"""Recommended colour, as PS3.3 C.10.7.1.1 scales CIELab: L* 78, a* 15, b* 67."""
_TOP_LEFT: Final = (0.02, 0.02)
_BOTTOM_RIGHT: Final = (0.98, 0.16)
"""Corners of the text, as shares of the displayed area."""
_ST: Final = 1024


def build_presentation_states(study: ReportedStudy, sources: Sequence[Source]) -> list[ResultObject]:
    """Build a state for the colour views, and one for the grey ones, of those that there are.

    Parameters
    ----------
    sources
        Of the used views, in their order. Those of another study (patient-day) are left out: a state lies in the study
        of its images. So is MONOCHROME1, whose polarity a grey state would have to repeat.
    """
    score = study.outcome.score
    views = [view for view in study.outcome.views if view.used]
    if score is None:
        return []
    here = study.evidence.reference.study_instance_uid
    own = [
        (number, view, source)
        for number, (view, source) in enumerate(zip(views, sources, strict=True), 1)
        if source.header.study_instance_uid == here
    ]
    grey = [one for one in own if one[2].header.photometric == "MONOCHROME2"]
    colour = [one for one in own if one[2].header.photometric not in ("MONOCHROME1", "MONOCHROME2", "")]
    shown = {ResultKind.COLOUR_STATE: colour, ResultKind.GREY_STATE: grey}
    return [_state(study, kind, score, some, len(views)) for kind, some in shown.items() if some]


def _state(
    study: ReportedStudy,
    kind: ResultKind,
    score: StudyScore,
    shown: Sequence[tuple[int, ViewUse, Source]],
    count: int,
) -> ResultObject:
    made = new_object(study, kind=kind, index=0, series="presentation", sop_class=SOP_CLASSES[kind])
    made.Modality, made.BodyPartExamined = "PR", "LIVER"
    made.InstanceNumber = 1 + list(SOP_CLASSES).index(kind)
    made.ContentLabel, made.ContentCreatorName = _LABEL, None
    made.ContentDescription = plain(f"Hepatic steatosis estimate. {RESEARCH_STATEMENT}", 64)
    made.PresentationCreationDate, made.PresentationCreationTime = made.ContentDate, made.ContentTime
    del made.ContentDate, made.ContentTime  # of no module here
    made.ReferencedSeriesSequence = _by_series([source for _, _, source in shown])
    made.DisplayedAreaSelectionSequence = [_whole(source) for _, _, source in shown]
    made.GraphicAnnotationSequence = [_text(number, count, view, source, score) for number, view, source in shown]
    made.GraphicLayerSequence = [_layer()]
    if kind is ResultKind.COLOUR_STATE:
        made.ICCProfile, made.ColorSpace = _srgb(), "SRGB"
    else:
        made.PresentationLUTShape = "IDENTITY"
    return finished(study, made, kind=kind, index=0)


def _image(source: Source) -> DataSet:
    """Image SOP Instance Reference Macro (PS3.3 Table 10-3)."""
    number = source.header.frame_number(source.frame)
    return instance(source.header.sop_class_uid, source.header.sop_instance_uid, None if number is None else [number])


def _by_series(sources: Sequence[Source]) -> list[DataSet]:
    """Name each image once, with all frames that are shown of it."""
    series: dict[str, dict[tuple[str, str], list[int]]] = {}
    for source in sources:
        images = series.setdefault(source.header.series_instance_uid, {})
        frames = images.setdefault((source.header.sop_class_uid, source.header.sop_instance_uid), [])
        number = source.header.frame_number(source.frame)
        if number is not None and number not in frames:
            frames.append(number)
    made = []
    for uid, images in series.items():
        item = DataSet()
        item.SeriesInstanceUID = uid
        item.ReferencedImageSequence = [instance(*image, frames) for image, frames in images.items()]
        made.append(item)
    return made


def _whole(source: Source) -> DataSet:
    """Show all of the image, as large as fits (PS3.3 C.10.4)."""
    item = DataSet()
    item.ReferencedImageSequence = [_image(source)]
    item.DisplayedAreaTopLeftHandCorner = [1, 1]
    item.DisplayedAreaBottomRightHandCorner = [source.header.columns, source.header.rows]
    item.PresentationSizeMode, item.PresentationPixelAspectRatio = "SCALE TO FIT", [1, 1]
    return item


def _text(number: int, count: int, view: ViewUse, source: Source, score: StudyScore) -> DataSet:
    """Say what came of the study, and which view of it this is, above the image (PS3.3 C.10.5)."""
    low, high = score.fat_fraction_interval
    weight = "" if view.weight is None else f", weight {view.weight:.2f}"
    lines = (
        BANNER,
        f"Study: {score.grade} ({GRADE_WORDS[score.grade]}), fat fraction {score.fat_fraction_percent:.1f} % "
        f"({low:.1f} to {high:.1f}), estimate",
        f"View {number} of {count}: {view_name(view.view)}{weight}. {RESEARCH_SUFFIX}",
    )
    text = DataSet()
    text.BoundingBoxAnnotationUnits = "DISPLAY"
    text.UnformattedTextValue = "\r\n".join(plain(line) for line in lines)[:_ST]
    text.BoundingBoxTopLeftHandCorner, text.BoundingBoxBottomRightHandCorner = list(_TOP_LEFT), list(_BOTTOM_RIGHT)
    text.BoundingBoxTextHorizontalJustification = "LEFT"
    item = DataSet()
    item.ReferencedImageSequence = [_image(source)]
    item.GraphicLayer, item.TextObjectSequence = LAYER, [text]
    return item


def _layer() -> DataSet:
    item = DataSet()
    item.GraphicLayer, item.GraphicLayerOrder = LAYER, 1
    item.GraphicLayerRecommendedDisplayCIELabValue = list(_AMBER_LAB)
    item.GraphicLayerDescription = plain(RESEARCH_STATEMENT, 64)
    return item


@lru_cache(maxsize=1)
def _srgb() -> bytes:
    """Return sRGB as an input profile, which PS3.3 C.11.15 asks for; its date is fixed, so that the bytes are."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[12:16] = b"scnr"
    profile[24:36] = bytes.fromhex("07ea00010001000000000000")  # 2026-01-01 00:00:00 (ICC.1 7.2.8)
    profile[84:100] = bytes(16)  # profile id: not computed
    return bytes(profile) + b"\0" * (len(profile) % 2)
