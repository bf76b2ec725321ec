"""Studies of a manifest scored as serving would: its own decoding, choice of frames, gate, refusals and limits.

The one module of training that knows the agent (`docs/decisions/0011-one-way-to-score.md`): what a bundle is worth on a
cohort has to be what a report would have said.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from agent.domain.errors import RequestorError
from agent.domain.score import REFUSAL_MEANINGS, Refusal, ScoreOutcome
from agent.domain.study import Instance
from agent.score.candidates import BETTER_OF_CINE, Candidate, Looked, look_at, look_at_picture, not_looked_at
from agent.score.choice import BETTER
from agent.score.files import instance_of
from agent.score.score_study import ScoreLimits, score_study
from inference.backends.interface import MemberOutputs
from inference.bundle import Bundle
from inference.contract import GRADES, OUTPUT_LIVER_LOGIT, OUTPUT_SALIENCY
from inference.ensemble import StudyPrediction, combine
from inference.geometry import InputGeometry
from inference.predictor import Identity, Predictor
from training.cohort.frames import is_dicom, read_frame
from training.cohort.manifest import Frame

LIMITS: Final = ScoreLimits(min_views=1, max_views=8)
"""As `study.min_views` and `study.max_views` are where a site sets nothing."""
PASSED_OVER: Final = frozenset({BETTER, BETTER_OF_CINE})
"""Reasons of frames that are as good as any, but not needed."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What serving makes of one study, before calibration."""

    outputs: tuple[MemberOutputs, ...]
    """Of each member, maps left out ([V, 4, 1, 1] of zeros); none where the study is refused."""
    limits: tuple[str, ...] = ()
    """Why the answer is limited, one phrase each."""
    refusal: str = ""
    """Coded reason of a study that has no score."""
    detail: str = ""
    left_out: tuple[tuple[str, str], ...] = ()
    """Name of each file of which nothing was used, and why."""

    @property
    def views(self) -> int:
        """Number of views used."""
        return len(self.outputs[0][OUTPUT_LIVER_LOGIT]) if self.outputs else 0


class _Asked:
    """A bundle on its engine that keeps what members said last; what `score_study` asks."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self.outputs: Sequence[MemberOutputs] = ()

    @property
    def bundle(self) -> Bundle:
        return self._predictor.bundle

    @property
    def identity(self) -> Identity:
        return self._predictor.identity

    def predict(self, views: np.ndarray) -> StudyPrediction:
        self.outputs = self._predictor.engine.run(views)
        return combine(self.outputs, self.bundle.calibration)


class Scorer:
    """Scores studies of a manifest with an opened bundle."""

    def __init__(self, predictor: Predictor) -> None:
        self._asked = _Asked(predictor)
        self.bundle = self._asked.bundle

    def answer(self, rows: Sequence[Frame]) -> Answer:
        """Score the study that these rows of a manifest are.

        A file named without a frame is left to serving's own choice, a cine as a whole; named frames are taken as
        images. What `view` says is not told: serving would have to find out, too.
        """
        files = [_read(file, frames) for file, frames in _by_file(rows).items()]
        outcome = self._outcome(files)
        return Answer(
            outputs=() if outcome.refusal else tuple(_without_map(member) for member in self._asked.outputs),
            limits=outcome.score.limits if outcome.score else (),
            refusal=str(outcome.refusal or ""),
            detail="" if outcome.refusal is None else _told(outcome.refusal, outcome.detail),
            left_out=tuple(_left_out(outcome, {one.instance.sop_instance_uid: one.file.name for one in files})),
        )

    def used(self, rows: Sequence[Frame]) -> list[tuple[str, Candidate]]:
        """Return the frames of a study that are scored, each with the view it is taken for; none of a refused study."""
        found: dict[tuple[str, int | None], Candidate] = {}
        outcome = self._outcome([_read(file, frames) for file, frames in _by_file(rows).items()], found)
        return [(str(view.view), found[view.sop_instance_uid, view.frame]) for view in outcome.views if view.used]

    def _outcome(
        self, files: Sequence[_File], found: dict[tuple[str, int | None], Candidate] | None = None
    ) -> ScoreOutcome:
        """Return what serving says; candidates are put into `found` where it is given."""
        looks = {one.instance.sha256: one.look for one in files}

        def seen(instance: Instance, geometry: InputGeometry) -> Looked:
            looked = looks[instance.sha256](geometry)
            if found is not None:
                found.update({one.key: one for one in looked.candidates})
            return looked

        outcome, _pictures = score_study([(one.instance, one.file) for one in files], self._asked, LIMITS, seen)
        return outcome


@dataclass(frozen=True, kw_only=True)
class _File:
    """A file as serving's instance, and how it is looked at."""

    file: Path
    instance: Instance
    look: Callable[[InputGeometry], Looked]


def _by_file(rows: Sequence[Frame]) -> dict[Path, list[int] | None]:
    """Return the frames that are named of each file; None where the file is meant as a whole."""
    found: dict[Path, list[int] | None] = {}
    for row in rows:
        named = found.setdefault(row.file, [])
        found[row.file] = None if row.frame is None or named is None else [*named, row.frame]
    return found


def _read(file: Path, frames: list[int] | None) -> _File:
    if not is_dicom(file):
        instance = _row_of(file, _digest(file))
        return _File(file=file, instance=instance, look=partial(_look_at_picture, instance, file))
    try:
        instance = instance_of(file)
    except RequestorError as error:
        row, cause = _row_of(file, str(file)), error.cause
        return _File(file=file, instance=row, look=lambda _: _unread(row, cause))
    return _File(file=file, instance=instance, look=lambda geometry: look_at(instance, file, geometry, frames))


def _look_at_picture(instance: Instance, file: Path, geometry: InputGeometry) -> Looked:
    try:
        pixels, _ = read_frame(file)
    except (ValueError, SyntaxError) as error:  # the latter is Pillow's word for a broken PNG
        return _unread(instance, str(error).replace(str(file), file.name))
    return look_at_picture(instance.sop_instance_uid, pixels, geometry)


def _unread(instance: Instance, cause: str) -> Looked:
    return replace(not_looked_at(instance, cause), may_be_scored=True, undecodable=True)


def _told(refusal: Refusal, detail: str) -> str:
    meaning = REFUSAL_MEANINGS[refusal]
    return f"{meaning}: {detail}" if detail else meaning


def _digest(file: Path) -> str:
    """Return what names a picture: given twice in a study it is one, as an instance sent twice is."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _row_of(file: Path, name: str) -> Instance:
    """Return the row of a file without a SOP Instance UID."""
    return Instance(
        id=0,
        sop_instance_uid=name,
        sop_class_uid="",
        study_instance_uid="",
        series_instance_uid="",
        transfer_syntax_uid="",
        sha256=hashlib.sha256(str(file).encode()).hexdigest(),
        bytes=file.stat().st_size,
        may_be_scored=True,
        not_scored_reason=None,
    )


def _without_map(member: MemberOutputs) -> MemberOutputs:
    views = len(member[OUTPUT_LIVER_LOGIT])
    return {**member, OUTPUT_SALIENCY: np.zeros((views, len(GRADES), 1, 1), np.float32)}


def _left_out(outcome: ScoreOutcome, names: dict[str, str]) -> list[tuple[str, str]]:
    """Return the files of which nothing was used and that were not simply passed over, each with its reasons."""
    used = {view.sop_instance_uid for view in outcome.views if view.used}
    reasons: dict[str, dict[str, None]] = {}
    for view in outcome.views:
        if view.sop_instance_uid not in used and view.reason not in PASSED_OVER:
            reasons.setdefault(view.sop_instance_uid, {})[view.reason or "not used"] = None
    return [(names[name], "; ".join(found)) for name, found in reasons.items()]
