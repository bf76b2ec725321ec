"""Looking at one instance: its frames are decoded, judged and prepared, or given the reason why not."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread

from agent.domain.score import ViewUse
from agent.domain.study import Instance
from agent.score.frames import LEAST_SIDE, FramePlan, NotScorableError, candidate_frames, plan_frames
from agent.score.pixels import DECODING_ERRORS, read_frames
from inference.geometry import InputGeometry
from inference.preprocess import PreparedView, prepare_view
from inference.quality import colour_fraction, frame_quality, representative_frames

_MOST_LOOKED_AT: Final = 16
"""Frames of a cine that are decoded."""
_MOST_OF_A_CINE: Final = 3
"""Frames of a cine that may be scored, by quality and by difference: the rest would only repeat them."""
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
    rank: int = 0
    """Its place among the chosen frames of its cine; 0 is the best, and the only one of a single image."""

    @property
    def key(self) -> tuple[str, int]:
        """What names it within the study."""
        return self.sop_instance_uid, self.frame


@dataclass(frozen=True, kw_only=True)
class Looked:
    """What was found in one instance."""

    instance: Instance
    candidates: tuple[Candidate, ...] = ()
    views: tuple[ViewUse, ...] = field(default=())
    """One a frame looked at, or one for the whole instance; those of candidates have no reason yet."""
    undecodable: bool = False
    synthetic: bool = False

    def reasons(self) -> list[str]:
        """Reasons of everything that was not scored."""
        return [view.reason for view in self.views if view.reason]


def look_at(instance: Instance, path: Path, geometry: InputGeometry) -> Looked:
    """Look at one instance; whatever is wrong with it becomes a reason, never an exception."""
    if not instance.may_be_scored:
        return _none(instance, instance.not_scored_reason or "may not be scored")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd headers warn; plan_frames judges them
            header = dcmread(path, stop_before_pixels=True)
            plan = plan_frames(header)
    except NotScorableError as error:
        return _none(instance, str(error))
    except DECODING_ERRORS as error:
        return _none(instance, f"header cannot be read: {type(error).__name__}", undecodable=True)
    indices = candidate_frames(plan.frames, _MOST_LOOKED_AT)
    frames: list[tuple[int, NDArray[np.uint8]]] = []
    try:
        frames.extend(read_frames(path, header, indices))
    except NotScorableError as error:
        if not frames:
            return _none(instance, str(error), undecodable=True)
    return _judged(instance, plan, frames, geometry)


def _none(instance: Instance, reason: str, *, undecodable: bool = False) -> Looked:
    view = ViewUse(sop_instance_uid=instance.sop_instance_uid, frame=None, view=None, used=False, reason=reason)
    return Looked(instance=instance, views=(view,), undecodable=undecodable)


def _judged(
    instance: Instance, plan: FramePlan, frames: list[tuple[int, NDArray[np.uint8]]], geometry: InputGeometry
) -> Looked:
    found: dict[int, Candidate] = {}
    reasons: dict[int, str] = {}
    for index, pixels in frames:
        try:
            found[index] = _candidate(instance, plan, index, pixels, geometry)
        except NotScorableError as error:
            reasons[index] = str(error)
    kept = _representative(list(found.values()))
    views = [_view(instance, index, found.get(index), reasons.get(index), kept) for index, _ in frames]
    return Looked(instance=instance, candidates=tuple(kept), views=tuple(views), synthetic=plan.synthetic)


def _candidate(
    instance: Instance, plan: FramePlan, index: int, pixels: NDArray[np.uint8], geometry: InputGeometry
) -> Candidate:
    """Prepare the best tissue region of a frame; a split screen has several."""
    best: Candidate | None = None
    reason = "no ultrasound sector found"
    for region in plan.regions:
        prepared = prepare_view(pixels, region, geometry=geometry)
        if prepared is None:
            continue
        x0, y0, x1, y1 = prepared.crop
        crop = pixels[y0:y1, x0:x1]
        quality = frame_quality(crop, prepared.sector)
        reason = _unusable(crop, prepared, quality) or ""
        if not reason and (best is None or quality > best.quality):
            best = Candidate(
                sop_instance_uid=instance.sop_instance_uid,
                frame=index + 1,
                prepared=prepared,
                crop=np.ascontiguousarray(crop),
                quality=round(quality, 4),
            )
    if best is None:
        raise NotScorableError(reason)
    return best


def _unusable(crop: NDArray[np.uint8], prepared: PreparedView, quality: float) -> str | None:
    if min(prepared.sector.shape) < LEAST_SIDE:
        return f"region under {LEAST_SIDE} pixels on its short side"
    if colour_fraction(crop, prepared.sector) > _COLOURED:
        return "colour flow or overlay in the picture"
    if quality < _LEAST_QUALITY:
        return "hardly any echoes: transducer off the skin, or gain too low"
    return None


def _representative(candidates: list[Candidate]) -> list[Candidate]:
    if len(candidates) <= 1:
        return candidates
    sectors = [candidate.prepared.sector for candidate in candidates]
    chosen = representative_frames([candidate.crop for candidate in candidates], sectors, _MOST_OF_A_CINE)
    return [replace(candidates[index], rank=rank) for rank, index in enumerate(chosen)]


def _view(
    instance: Instance, index: int, candidate: Candidate | None, reason: str | None, kept: list[Candidate]
) -> ViewUse:
    chosen = candidate is not None and candidate.key in {one.key for one in kept}
    return ViewUse(
        sop_instance_uid=instance.sop_instance_uid,
        frame=index + 1,
        view=None,
        used=False,
        reason=None if chosen else reason or "better frames of this cine were chosen",
        quality=None if candidate is None else candidate.quality,
    )
