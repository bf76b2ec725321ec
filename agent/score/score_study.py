"""Scoring one study: look at every instance, choose the frames, ask the ensemble, say why of each frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from agent.domain.score import ModelIdentity, Quality, Refusal, ScoreOutcome, StudyScore, ViewUse
from agent.domain.study import Instance
from agent.score.candidates import Candidate, Looked, look_at
from agent.store.result_files import ViewPicture
from inference.contract import GRADES
from inference.ensemble import StudyPrediction
from inference.predictor import Predictor
from inference.preprocess import saliency_on_crop

_MOST_CANDIDATES: Final = 24
"""Frames given to the ensemble at most before it is decided which are used."""
_GOOD_QUALITY: Final = 0.4
"""Mean frame quality from which a study counts as diagnostic."""
_NOT_LIVER: Final = "does not look like liver B-mode"
_BETTER: Final = "better frames were chosen"


@dataclass(frozen=True, kw_only=True)
class ScoreLimits:
    """How many views a score takes (`study.min_views`, `study.max_views`)."""

    min_views: int
    max_views: int


def score_study(
    sources: Sequence[tuple[Instance, Path]], predictor: Predictor, limits: ScoreLimits
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

    Returns
    -------
    tuple
        The outcome, with an entry under `views` for every instance at least, and a picture of each used frame.
    """
    geometry = predictor.bundle.geometry
    ordered = sorted(sources, key=lambda source: (source[0].sop_instance_uid, source[0].sha256))
    looked = [look_at(instance, path, geometry) for instance, path in ordered]
    candidates = sorted((c for one in looked for c in one.candidates), key=_by_quality)[:_MOST_CANDIDATES]
    chosen, prediction, reasons = _choose(candidates, predictor, limits)
    refusal = _refusal(looked, chosen, reasons, limits)
    uses = _uses(looked, chosen, prediction, reasons, refused=refusal is not None)
    identity = predictor.identity
    outcome = ScoreOutcome(
        score=None if prediction is None or refusal else _score(chosen, prediction, predictor),
        refusal=refusal,
        views=uses,
        model=ModelIdentity(
            name=identity.name,
            version=identity.version,
            digest=identity.digest,
            backend=identity.backend,
            precision=identity.precision,
            expected_views=predictor.bundle.expected_views,
        ),
        expected_views=predictor.bundle.expected_views,
        detail="" if refusal is None else _detail(looked, chosen, limits),
        synthetic=any(one.synthetic for one in looked),
    )
    if prediction is None or refusal:
        return outcome, ()
    return outcome, tuple(_picture(c, prediction, i, predictor) for i, c in enumerate(chosen))


def _by_quality(candidate: Candidate) -> tuple[float, str, int]:
    return -candidate.quality, candidate.sop_instance_uid, candidate.frame


def _by_name(candidate: Candidate) -> tuple[str, int]:
    return candidate.sop_instance_uid, candidate.frame


def _choose(
    candidates: list[Candidate], predictor: Predictor, limits: ScoreLimits
) -> tuple[list[Candidate], StudyPrediction | None, dict[tuple[str, int], str]]:
    """Ask the ensemble twice at most: which frames are liver and which view they show, then for the score."""
    if not candidates:
        return [], None, {}
    candidates = sorted(candidates, key=_by_name)
    first = _predict(candidates, predictor)
    liver = [i for i, logit in enumerate(first.liver_logits) if logit >= predictor.bundle.liver_logit_minimum]
    reasons = {candidate.key: _NOT_LIVER for i, candidate in enumerate(candidates) if i not in set(liver)}
    named = [(candidates[i], first.view_names[i]) for i in liver]
    chosen = sorted(_picked(named, predictor.bundle.expected_views, limits.max_views), key=_by_name)
    taken = {candidate.key for candidate in chosen}
    reasons |= {candidate.key: _BETTER for candidate, _ in named if candidate.key not in taken}
    if not chosen:
        return [], None, reasons
    return chosen, first if len(chosen) == len(candidates) else _predict(chosen, predictor), reasons


def _picked(named: list[tuple[Candidate, str]], expected: int, most: int) -> list[Candidate]:
    """Take one frame of each image or cine; further frames of cines only fill up what the model was made for."""
    best = _spread_over_views([pair for pair in named if pair[0].rank == 0], most)
    further = _spread_over_views([pair for pair in named if pair[0].rank > 0], most)
    return [*best, *further[: max(0, min(expected, most) - len(best))]]


def _spread_over_views(named: list[tuple[Candidate, str]], most: int) -> list[Candidate]:
    """Take the best frame of each view, then the second best of each, up to `most`."""
    of_view: dict[str, list[Candidate]] = {}
    for candidate, name in sorted(named, key=lambda pair: _by_quality(pair[0])):
        of_view.setdefault(name, []).append(candidate)
    picked: list[Candidate] = []
    for rank in range(max(map(len, of_view.values()), default=0)):
        picked += sorted((some[rank] for some in of_view.values() if rank < len(some)), key=_by_quality)
    return picked[:most]


def _predict(candidates: list[Candidate], predictor: Predictor) -> StudyPrediction:
    return predictor.predict(np.stack([candidate.prepared.tensor for candidate in candidates]))


def _refusal(
    looked: list[Looked], chosen: list[Candidate], reasons: dict[tuple[str, int], str], limits: ScoreLimits
) -> Refusal | None:
    if len(chosen) >= limits.min_views and chosen:
        return None
    if chosen:
        return Refusal.TOO_FEW_VIEWS
    if not any(one.instance.may_be_scored for one in looked):
        return Refusal.NO_ULTRASOUND_IMAGE
    if _NOT_LIVER in reasons.values():
        return Refusal.NOT_LIVER
    if all(one.undecodable for one in looked if one.instance.may_be_scored):
        return Refusal.UNDECODABLE
    return Refusal.NO_USABLE_VIEW


def _detail(looked: list[Looked], chosen: list[Candidate], limits: ScoreLimits) -> str:
    if chosen:
        return f"{len(chosen)} usable of {limits.min_views} required"
    told = dict.fromkeys(reason for one in looked for reason in one.reasons())
    return "; ".join(told)[:300]


def _uses(
    looked: list[Looked],
    chosen: list[Candidate],
    prediction: StudyPrediction | None,
    reasons: dict[tuple[str, int], str],
    *,
    refused: bool,
) -> tuple[ViewUse, ...]:
    """List every frame looked at: used ones first come with weight and view, the others with their reason."""
    used = {candidate.key: index for index, candidate in enumerate(chosen)}
    uses = []
    for one in looked:
        for view in one.views:
            key = (view.sop_instance_uid, view.frame or 0)
            index = used.get(key)
            if index is not None and prediction is not None:
                uses.append(_named(view, prediction, index, refused=refused))
            else:
                uses.append(replace(view, reason=view.reason or reasons.get(key, _BETTER)))
    return tuple(uses)


def _named(view: ViewUse, prediction: StudyPrediction, index: int, *, refused: bool) -> ViewUse:
    if refused:
        return replace(view, view=prediction.view_names[index], reason="fewer usable views than this site requires")
    alone = prediction.view_probabilities[index]
    return replace(
        view,
        used=True,
        reason=None,
        view=prediction.view_names[index],
        view_probability=round(float(prediction.view_name_probabilities[index]), 4),
        weight=round(float(prediction.view_weights[index]), 6),
        probabilities={grade: round(float(p), 6) for grade, p in zip(GRADES, alone, strict=True)},
    )


def _score(chosen: list[Candidate], prediction: StudyPrediction, predictor: Predictor) -> StudyScore:
    bundle = predictor.bundle
    good = float(np.mean([candidate.quality for candidate in chosen])) >= _GOOD_QUALITY
    limits = []
    if len(chosen) < bundle.expected_views:
        limits.append(f"{len(chosen)} of {bundle.expected_views} views the model was made for")
    if not good:
        limits.append("image quality is low")
    return StudyScore(
        grade=prediction.grade,
        probabilities={g: round(float(p), 6) for g, p in zip(GRADES, prediction.probabilities, strict=True)},
        steatosis_probability=round(prediction.steatosis_probability, 6),
        fat_fraction_percent=round(prediction.fat_fraction_percent, 2),
        fat_fraction_interval=(
            round(prediction.fat_fraction_interval[0], 2),
            round(prediction.fat_fraction_interval[1], 2),
        ),
        interval_coverage=bundle.calibration.interval_coverage,
        grade_set=prediction.grade_set,
        certainty=round(float(prediction.probabilities.max()), 6),
        member_spread=round(prediction.member_spread, 6),
        fat_fraction_spread=round(prediction.fat_fraction_spread, 4),
        quality=Quality.LIMITED if limits else Quality.DIAGNOSTIC,
        limits=tuple(limits),
        cut_offs=bundle.cut_offs,
        cut_offs_source=bundle.cut_offs_source,
    )


def _picture(candidate: Candidate, prediction: StudyPrediction, index: int, predictor: Predictor) -> ViewPicture:
    return ViewPicture(
        sop_instance_uid=candidate.sop_instance_uid,
        frame=candidate.frame,
        source=candidate.crop,
        saliency=saliency_on_crop(prediction.saliency[index], candidate.prepared, predictor.bundle.geometry),
        sector=candidate.prepared.sector,
    )
