"""Looking at one instance: its frames are decoded, judged and prepared, or given the reason why not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from agent.domain.score import ViewUse
from agent.domain.study import Instance
from agent.score.frames import LEAST_SIDE, UNDER_LEAST, FramePlan, plan_frames
from agent.score.pixels import Decoded, each_frame, grey_if_grey
from agent.score.reading import read_image
from agent.score.reasons import DECODING_ERRORS, NotScorableError
from agent.score.views import view_of
from inference.figures import view_figures
from inference.geometry import Box, InputGeometry
from inference.preprocess import PreparedView, prepare_view
from inference.quality import MOST_OF_A_CINE, colour_fraction, frame_quality, representative_frames

BETTER_OF_CINE: Final = "better frames of this cine were chosen"
_COLOURED: Final = 0.01
"""Share of coloured pixels in the sector from which a frame counts as colour flow."""
_LEAST_QUALITY: Final = 0.05


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A frame that may be scored."""

    sop_instance_uid: str
    frame: int
    """1-based."""
    prepared: PreparedView
    crop: NDArray[np.uint8]
    """The pixels that were prepared, as decoded: [h, w] or [h, w, 3]."""
    quality: float
    figures: Mapping[str, float] = field(default_factory=dict)
    """`view_figures`; of those that may be chosen only."""
    view: str | None = None
    """By the header; None where the model has to tell."""
    rank: int = 0
    """Its place among the chosen frames of its cine; 0 is the best, and the only one of a single image."""

    @property
    def key(self) -> tuple[str, int]:
        """What names it within the study."""
        return self.sop_instance_uid, self.frame


@dataclass(frozen=True, kw_only=True)
class Looked:
    """What was found in one instance."""

    views: tuple[ViewUse, ...]
    """One a frame looked at, or one for the whole instance; those of candidates have no reason yet."""
    candidates: tuple[Candidate, ...] = ()
    may_be_scored: bool = True
    undecodable: bool = False
    """Nothing of it could be decoded."""
    synthetic: bool = False

    @property
    def reasons(self) -> list[str]:
        """Reasons of everything that was not scored."""
        return [view.reason for view in self.views if view.reason]


def look_at(instance: Instance, path: Path, geometry: InputGeometry, frames: Sequence[int] | None = None) -> Looked:
    """Look at one instance; whatever is wrong with it becomes a reason, never an exception.

    Parameters
    ----------
    instance
        Whose file it is.
    path
        Of the file.
    geometry
        Of the bundle.
    frames
        0-based: those that a person has chosen, each of which then counts like an image of its own. None looks at some
        of a cine and takes the few that represent it, as serving does.
    """
    if not instance.may_be_scored:
        return not_looked_at(instance, instance.not_scored_reason or "may not be scored")
    try:
        image = read_image(path)
        plan = plan_frames(image.header)
        wanted = plan.candidates if frames is None else _existing(frames, plan)
    except NotScorableError as error:
        return replace(not_looked_at(instance, str(error)), may_be_scored=True, undecodable=error.undecodable)
    except DECODING_ERRORS as error:
        reason = f"the header cannot be understood: {type(error).__name__}"
        return replace(not_looked_at(instance, reason), may_be_scored=True, undecodable=True)
    found: list[Candidate] = []
    views: list[ViewUse] = []
    undecodable = True

    def judge(index: int, frame: Decoded) -> tuple[int, bool, Candidate | str]:
        if isinstance(frame, str):
            return index, False, frame
        return index, True, _judged(instance.sop_instance_uid, plan.regions, index, frame, geometry)

    for index, decoded, outcome in each_frame(image, wanted, judge):
        undecodable = undecodable and not decoded
        if isinstance(outcome, Candidate):
            found.append(replace(outcome, view=view_of(image.header)))
        views.append(_view(instance.sop_instance_uid, index, outcome))
    kept = _representative(found) if frames is None else found
    return Looked(
        views=tuple(_with_better(views, found, kept)),
        candidates=tuple(replace(one, figures=view_figures(one.prepared.tensor, geometry)) for one in kept),
        undecodable=undecodable,
        synthetic=plan.synthetic,
    )


def look_at_picture(name: str, pixels: NDArray[np.uint8], geometry: InputGeometry) -> Looked:
    """Look at a picture that no header describes, as at an instance whose header names no region.

    Parameters
    ----------
    name
        Stands where an instance has its SOP Instance UID.
    pixels
        uint8 [rows, columns] or [rows, columns, 3].
    geometry
        Of the bundle.
    """
    rows, columns = pixels.shape[:2]
    outcome: Candidate | str = f"image under {LEAST_SIDE} pixels on its short side"
    if min(rows, columns) >= LEAST_SIDE:
        grey = grey_if_grey(pixels) if pixels.ndim == 3 else pixels
        outcome = _judged(name, ((0, 0, columns, rows),), 0, grey, geometry)
    views = (_view(name, 0, outcome),)
    if isinstance(outcome, str):
        return Looked(views=views)
    return Looked(views=views, candidates=(replace(outcome, figures=view_figures(outcome.prepared.tensor, geometry)),))


def _existing(frames: Sequence[int], plan: FramePlan) -> list[int]:
    """Return the frames in their order; raises NotScorableError where an instance has no such frame."""
    if beyond := [frame for frame in frames if not 0 <= frame < plan.frames]:
        raise NotScorableError(f"there is no frame {beyond[0]} of {plan.frames}, counted from 0", undecodable=True)
    return sorted(frames)


def not_looked_at(instance: Instance, reason: str) -> Looked:
    """Say of an instance as a whole why it was not scored."""
    view = ViewUse(sop_instance_uid=instance.sop_instance_uid, frame=None, view=None, used=False, reason=reason)
    return Looked(views=(view,), may_be_scored=False)


def _judged(
    name: str, regions: Sequence[Box], index: int, pixels: NDArray[np.uint8], geometry: InputGeometry
) -> Candidate | str:
    """Prepare the best tissue region of a frame, a split screen has several; or say why none will do."""
    best: Candidate | None = None
    reasons: list[str] = []
    for region in regions:
        prepared = prepare_view(pixels, region, geometry=geometry)
        if prepared is None:
            reasons.append("no ultrasound sector found")
            continue
        x0, y0, x1, y1 = prepared.crop
        crop = pixels[y0:y1, x0:x1]
        quality = frame_quality(crop, prepared.sector)
        reason = _unusable(crop, prepared, quality)
        if reason:
            reasons.append(reason)
        elif best is None or quality > best.quality:
            best = Candidate(
                sop_instance_uid=name,
                frame=index + 1,
                prepared=prepared,
                crop=crop.copy(),
                quality=round(quality, 4),
            )
    return best or reasons[0]


def _unusable(crop: NDArray[np.uint8], prepared: PreparedView, quality: float) -> str | None:
    if min(prepared.sector.shape) < LEAST_SIDE:
        return UNDER_LEAST
    if colour_fraction(crop, prepared.sector) > _COLOURED:
        return "colour flow or overlay in the picture"
    if quality < _LEAST_QUALITY:
        return "hardly any echoes, or no contrast"
    return None


def _representative(candidates: list[Candidate]) -> list[Candidate]:
    if len(candidates) <= 1:
        return candidates
    sectors = [candidate.prepared.sector for candidate in candidates]
    chosen = representative_frames([candidate.crop for candidate in candidates], sectors, MOST_OF_A_CINE)
    return [replace(candidates[index], rank=rank) for rank, index in enumerate(chosen)]


def _view(name: str, index: int, outcome: Candidate | str) -> ViewUse:
    return ViewUse(
        sop_instance_uid=name,
        frame=index + 1,
        view=None,
        used=False,
        reason=outcome if isinstance(outcome, str) else None,
        quality=outcome.quality if isinstance(outcome, Candidate) else None,
    )


def _with_better(views: list[ViewUse], found: list[Candidate], kept: list[Candidate]) -> list[ViewUse]:
    passed_over = {one.frame for one in found} - {one.frame for one in kept}
    return [replace(view, reason=BETTER_OF_CINE) if view.frame in passed_over else view for view in views]
