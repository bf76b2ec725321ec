"""`agent score`: DICOM files in, one result a study out, with nothing else running."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from agent.domain.eligibility import OWN_RESULT
from agent.domain.errors import AgentError
from agent.domain.study import Instance
from agent.score.files import instance_of
from agent.score.score_study import ScoreLimits, score_study
from agent.serve.composition.bundles import predictors_of
from agent.settings import Settings
from agent.store.layout import files_under

Source = tuple[Instance, Path]


def score_paths(
    settings: Settings, paths: tuple[Path, ...], progress: Callable[[str], None]
) -> Iterator[dict[str, Any]]:
    """Score what lies under the paths, study by study.

    Yields
    ------
    dict
        The score part of the contract's JSON, one a study.
    """
    studies: dict[str, list[Source]] = {}
    for path in files_under(paths):
        try:
            instance = instance_of(path)
        except AgentError as error:
            progress(f"{path}: not read: {error.cause}")
            continue
        studies.setdefault(instance.study_instance_uid, []).append((instance, path))
    predictor = predictors_of(settings)(None) if studies else None
    limits = ScoreLimits(min_views=settings.study.min_views, max_views=settings.study.max_views)
    for number, (study, sources) in enumerate(sorted(studies.items()), 1):
        progress(f"{number} of {len(studies)}: {study}, {len(sources)} instances")
        if predictor is None:
            continue
        foreign = [source for source in sources if source[0].not_scored_reason != OWN_RESULT]
        outcome, _ = score_study(tuple(foreign), predictor, limits)
        told = outcome.as_dict()
        yield {
            "study_instance_uid": study,
            "state": "COMPLETED" if outcome.score else "CANCELED",
            "reason": outcome.refusal,
            "work_items": [],
            "score": told["score"],
            "views": told["views"],
            "model": told["model"],
            "results": [],
        }
