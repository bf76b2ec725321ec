"""Choosing the frames that are scored: liver only, best of each view first, what repeats another frame last."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from agent.score.candidates import Candidate
from inference.ensemble import StudyPrediction
from inference.predictor import Predictor
from inference.quality import thumbnail

NOT_LIVER: Final = "does not look like liver B-mode"
BETTER: Final = "better frames were chosen"
_BATCH: Final = 16
_SAME: Final = 1.0
"""Mean difference in grey values of reduced pictures up to which two frames show the same: the second copy of a frozen
picture, with callipers or without."""

Key = tuple[str, int]


@dataclass(frozen=True, kw_only=True)
class Named:
    """A candidate that looks like liver, and the view it shows."""

    candidate: Candidate
    view: str


class Choice:
    """Frames of a study as they come in, of which only those that may still be chosen are kept.

    Parameters
    ----------
    predictor
        Tells liver from other pictures, and view from view.
    most
        Views used at most.
    """

    def __init__(self, predictor: Predictor, most: int) -> None:
        self._predictor = predictor
        self._most = most
        self._waiting: list[Candidate] = []
        self._kept: list[Named] = []
        self._predictions: dict[tuple[Key, ...], StudyPrediction] = {}
        self.reasons: dict[Key, str] = {}
        """Of frames not chosen."""

    def add(self, candidates: Iterable[Candidate]) -> None:
        """Take the candidates of one instance; the order of instances must be the same every time."""
        self._waiting += candidates
        if len(self._waiting) >= _BATCH:
            self._sift()

    def chosen(self) -> list[Named]:
        """Choose, in the order of the instances and their frames.

        One frame of each image or cine; further frames of a cine, and frames that repeat another, only fill up what
        the model was made for.
        """
        self._sift()
        best = _over_views((one for one in self._kept if one.candidate.rank == 0), self._most)
        further = _over_views((one for one in self._kept if one.candidate.rank > 0), self._most)
        wanted = min(self._predictor.bundle.expected_views, self._most)
        chosen = [*best, *further[: max(0, wanted - len(best))]]
        taken = {one.candidate.key for one in chosen}
        self.reasons |= {one.candidate.key: BETTER for one in self._kept if one.candidate.key not in taken}
        return sorted(chosen, key=lambda one: one.candidate.key)

    def predict(self, chosen: Sequence[Named]) -> StudyPrediction:
        """Score the chosen frames; where the model was asked of just these before, it said so then.

        Most studies hold a few views and all of them are used: they are scored once, not twice.
        """
        return self._asked([one.candidate for one in chosen])

    def _asked(self, candidates: Sequence[Candidate]) -> StudyPrediction:
        keys = tuple(one.key for one in candidates)
        if keys not in self._predictions:
            self._predictions = {keys: self._predictor.predict(np.stack([one.prepared.tensor for one in candidates]))}
        return self._predictions[keys]

    def _sift(self) -> None:
        """Ask the model of those waiting, and let go of what can no longer be chosen: a study may have thousands."""
        if not self._waiting:
            return
        named = _repeats_last([*self._kept, *self._livers(self._waiting)])
        self._waiting, self._kept = [], []
        better: Counter[tuple[str, bool]] = Counter()
        for one in sorted(named, key=_by_quality):
            pool = one.view, one.candidate.rank > 0
            better[pool] += 1
            if better[pool] <= self._most:
                self._kept.append(one)
            else:
                self.reasons[one.candidate.key] = BETTER

    def _livers(self, candidates: Sequence[Candidate]) -> list[Named]:
        found = []
        ordered = sorted(candidates, key=lambda one: one.key)
        for start in range(0, len(ordered), _BATCH):
            batch = ordered[start : start + _BATCH]
            prediction = self._asked(batch)
            for candidate, logit, view in zip(batch, prediction.liver_logits, prediction.view_names, strict=True):
                if logit >= self._predictor.bundle.liver_logit_minimum:
                    found.append(Named(candidate=candidate, view=candidate.view or view))
                else:
                    self.reasons[candidate.key] = NOT_LIVER
        return found


def _by_quality(one: Named) -> tuple[float, str, int]:
    return -one.candidate.quality, *one.candidate.key


def _over_views(named: Iterable[Named], most: int) -> list[Named]:
    """Take the best frame of each view, then the second best of each, up to `most`."""
    of_view: dict[str, list[Named]] = {}
    for one in sorted(named, key=_by_quality):
        of_view.setdefault(one.view, []).append(one)
    picked: list[Named] = []
    for rank in range(max(map(len, of_view.values()), default=0)):
        picked += sorted((some[rank] for some in of_view.values() if rank < len(some)), key=_by_quality)
    return picked[:most]


def _repeats_last(named: list[Named]) -> list[Named]:
    """Rank a frame that shows the same as a better one behind those that do not."""
    result: list[Named] = []
    seen: list[NDArray[np.float32]] = []
    for one in sorted(named, key=lambda one: (one.candidate.rank, _by_quality(one))):
        small = thumbnail(one.candidate.crop)
        repeats = any(float(np.abs(small - other).mean()) <= _SAME for other in seen)
        seen.append(small)
        demoted = repeats and one.candidate.rank == 0
        result.append(replace(one, candidate=replace(one.candidate, rank=1)) if demoted else one)
    return result
