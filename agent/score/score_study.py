"""Scoring one study: look at every instance, choose the frames, ask the ensemble, say why of each frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from agent.domain.score import ModelIdentity, Quality, Refusal, ScoreOutcome, StudyScore, ViewUse
from agent.domain.study import Instance
from agent.score.candidates import Looked, look_at, not_looked_at
from agent.score.choice import BETTER, NOT_LIVER, Choice, Key, Named
from agent.score.parallel import INSTANCES, in_order
from agent.store.result_files import ViewPicture
from inference.contract import GRADES
from inference.ensemble import StudyPrediction
from inference.geometry import InputGeometry
from inference.predictor import Predictor
from inference.preprocess import saliency_on_crop

_GOOD_QUALITY: Final = 0.4
"""Mean frame quality from which a study counts as diagnostic."""
_MORE_REQUIRED: Final = "fewer usable views than this site requires"
_OTHER_VERSION: Final = "another version of this instance is scored"
_LONGEST_DETAIL: Final = 300


@dataclass(frozen=True, kw_only=True)
class ScoreLimits:
    """How many views a score takes (`study.min_views`, `study.max_views`)."""

    min_views: int
    max_views: int


def _unseen(_instance: Instance, _geometry: InputGeometry) -> None:
    return None


def score_study(
    sources: Sequence[tuple[Instance, Path]],
    predictor: Predictor,
    limits: ScoreLimits,
    seen: Callable[[Instance, InputGeometry], Looked | None] = _unseen,
) -> tuple[ScoreOutcome, tuple[ViewPicture, ...]]:
    """Score a study, or refuse it with a coded reason.

    The same instances give the same outcome, in whatever order they come.

    Parameters
    ----------
    sources
        Instances with their files.
    predictor
        The bundle, loaded.
    limits
        Fewest and most views.
    seen
        Gives what was found in an instance that was looked at before.

    Returns
    -------
    tuple
        The outcome, with an entry under `views` for every instance at least, and a picture of each used frame.

    Raises
    ------
    BackendError
        The engine fails.
    """
    choice = Choice(predictor, limits.max_views)
    looked = []
    for one in _looked(sources, predictor, seen):
        choice.add(one.candidates)
        looked.append(replace(one, candidates=()))
    chosen = choice.chosen()
    refusal = _refusal(looked, chosen, choice.reasons, limits)
    prediction = choice.predict(chosen) if refusal is None else None
    drawn = [] if prediction is None else _drawing(chosen, prediction, predictor)
    outcome = ScoreOutcome(
        score=None if prediction is None else _score(chosen, prediction, predictor),
        refusal=refusal,
        views=_uses(looked, chosen, prediction, choice.reasons),
        model=_model(predictor),
        expected_views=predictor.bundle.expected_views,
        detail="" if refusal is None else _detail(looked, chosen, limits),
        synthetic=any(one.synthetic for one in looked),
    )
    return outcome, tuple(one.result() for one in drawn)


def _looked(
    sources: Sequence[tuple[Instance, Path]],
    predictor: Predictor,
    seen: Callable[[Instance, InputGeometry], Looked | None],
) -> Iterator[Looked]:
    """Look at each instance, in an order of their own; of several versions of one the first that came."""
    order = sorted(sources, key=lambda source: (source[0].sop_instance_uid, source[0].conflict, source[0].sha256))
    geometry = predictor.bundle.geometry
    first = {source[0].sop_instance_uid: source for source in reversed(order)}

    def look(source: tuple[Instance, Path]) -> Looked:
        instance, path = source
        if first[instance.sop_instance_uid] is not source:
            return not_looked_at(instance, _OTHER_VERSION)
        return seen(instance, geometry) or look_at(instance, path, geometry)

    yield from in_order(INSTANCES, look, order)


def _refusal(
    looked: list[Looked], chosen: list[Named], reasons: Mapping[Key, str], limits: ScoreLimits
) -> Refusal | None:
    """Judge from the outside in: images at all, readable, usable, of the liver, enough of them."""
    images = [one for one in looked if one.may_be_scored]
    if chosen:
        return None if len(chosen) >= limits.min_views else Refusal.TOO_FEW_VIEWS
    if not images:
        return Refusal.NO_ULTRASOUND_IMAGE
    if NOT_LIVER in reasons.values():
        return Refusal.NOT_LIVER
    return Refusal.UNDECODABLE if all(one.undecodable for one in images) else Refusal.NO_USABLE_VIEW


def _detail(looked: list[Looked], chosen: list[Named], limits: ScoreLimits) -> str:
    if chosen:
        return f"{len(chosen)} usable of {limits.min_views} required"
    told = dict.fromkeys(reason for one in looked for reason in one.reasons)
    return "; ".join(told)[:_LONGEST_DETAIL]


def _uses(
    looked: list[Looked],
    chosen: list[Named],
    prediction: StudyPrediction | None,
    reasons: Mapping[Key, str],
) -> tuple[ViewUse, ...]:
    """List every frame looked at: the used ones with weight and view, the others with their reason."""
    places = {one.candidate.key: index for index, one in enumerate(chosen)}
    uses = []
    for view in (view for one in looked for view in one.views):
        key = (view.sop_instance_uid, view.frame or 0)
        if view.reason is None and key in places:
            uses.append(_used(view, chosen[places[key]], prediction, places[key]))
        else:
            uses.append(replace(view, reason=view.reason or reasons.get(key, BETTER)))
    return tuple(uses)


def _used(view: ViewUse, named: Named, prediction: StudyPrediction | None, index: int) -> ViewUse:
    if prediction is None:
        return replace(view, view=named.view, reason=_MORE_REQUIRED)
    alone = prediction.view_probabilities[index]
    by_model = named.candidate.view is None
    return replace(
        view,
        used=True,
        view=named.view,
        view_probability=round(float(prediction.view_name_probabilities[index]), 4) if by_model else None,
        weight=round(float(prediction.view_weights[index]), 6),
        probabilities=_by_grade(alone),
        figures={
            **named.candidate.figures,
            "liver_logit": round(float(prediction.liver_logits[index]), 4),
        },
    )


def _score(chosen: list[Named], prediction: StudyPrediction, predictor: Predictor) -> StudyScore:
    bundle = predictor.bundle
    low, high = prediction.fat_fraction_interval
    limits = []
    if len(chosen) < bundle.expected_views:
        limits.append(f"{len(chosen)} of {bundle.expected_views} views the model was made for")
    if float(np.mean([one.candidate.quality for one in chosen])) < _GOOD_QUALITY:
        limits.append("image quality is low")
    return StudyScore(
        grade=prediction.grade,
        probabilities=_by_grade(prediction.probabilities),
        steatosis_probability=round(prediction.steatosis_probability, 6),
        fat_fraction_percent=round(prediction.fat_fraction_percent, 2),
        fat_fraction_interval=(round(low, 2), round(high, 2)),
        interval_coverage=bundle.calibration.interval_coverage,
        grade_set=prediction.grade_set,
        certainty=round(float(prediction.probabilities.max()), 6),
        member_spread=round(prediction.member_spread, 6),
        fat_fraction_spread=round(prediction.fat_fraction_spread, 4),
        quality=Quality.LIMITED if limits else Quality.DIAGNOSTIC,
        limits=tuple(limits),
        cut_offs=bundle.cut_offs,
        cut_offs_source=bundle.cut_offs_source,
        repeatability=bundle.repeatability,
    )


def _by_grade(probabilities: np.ndarray) -> dict[str, float]:
    return {grade: round(float(p), 6) for grade, p in zip(GRADES, probabilities, strict=True)}


def _model(predictor: Predictor) -> ModelIdentity:
    identity = predictor.identity
    return ModelIdentity(
        name=identity.name,
        version=identity.version,
        digest=identity.digest,
        backend=identity.backend,
        precision=identity.precision,
        expected_views=predictor.bundle.expected_views,
    )


def _drawing(chosen: list[Named], prediction: StudyPrediction, predictor: Predictor) -> list[Future[ViewPicture]]:
    """Begin with the pictures, while the outcome is put together."""
    return [INSTANCES.submit(_picture, one, prediction, index, predictor) for index, one in enumerate(chosen)]


def _picture(named: Named, prediction: StudyPrediction, index: int, predictor: Predictor) -> ViewPicture:
    candidate = named.candidate
    return ViewPicture(
        sop_instance_uid=candidate.sop_instance_uid,
        frame=candidate.frame,
        source=candidate.crop,
        saliency=saliency_on_crop(prediction.saliency[index], candidate.prepared, predictor.bundle.geometry),
        sector=candidate.prepared.sector,
    )
