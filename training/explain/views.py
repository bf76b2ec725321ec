"""What each view of a study contributes to its grade and fat fraction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from inference.ensemble import StudyPrediction
from training.explain.shapley import Shares, share_out

MOST_VIEWS: Final = 8
_LEAST: Final = 1e-6
"""Probabilities are cut here before their log-odds are taken."""


class Predicts(Protocol):
    """What is needed of `inference.predictor.Predictor`."""

    def predict(self, views: np.ndarray) -> StudyPrediction:
        """Score views [V, C, H, W]."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The two numbers that are shared out."""

    log_odds: float
    """Of S1 or more, natural logarithm, calibrated."""
    fat_fraction: float
    """Percent, calibrated."""

    @staticmethod
    def of(prediction: StudyPrediction) -> Answer:
        """Take them from a prediction."""
        probability = float(np.clip(prediction.steatosis_probability, _LEAST, 1.0 - _LEAST))
        return Answer(
            log_odds=float(np.log(probability / (1.0 - probability))),
            fat_fraction=prediction.fat_fraction_percent,
        )


@dataclass(frozen=True, kw_only=True)
class ViewShares:
    """Contributions of a study's views."""

    log_odds: Shares
    """To the log-odds of S1 or more; 1.0 multiplies the odds by 2.7."""
    fat_fraction: Shares
    """To the fat fraction, percent points."""


def reference_answer(predictor: Predicts, studies: Iterable[np.ndarray]) -> Answer:
    """Return the mean answer over reference studies [V, C, H, W]: what is said of a patient of whom nothing is seen.

    Raises
    ------
    ValueError
        There is no study.
    """
    answers = [Answer.of(predictor.predict(views)) for views in studies]
    if not answers:
        raise ValueError("Contributions are against reference studies; give at least one.")
    return Answer(
        log_odds=float(np.mean([answer.log_odds for answer in answers])),
        fat_fraction=float(np.mean([answer.fat_fraction for answer in answers])),
    )


def view_contributions(predictor: Predicts, views: np.ndarray, names: Sequence[str], reference: Answer) -> ViewShares:
    """Share a study's answer out among its views, by exact Shapley values.

    A coalition's worth is what the bundle answers to a study of these views alone, which it is made for: views are
    left out, not blanked. A study without a view has no answer; in its place stands the mean answer over reference
    studies, so the contributions sum to what sets this study apart from them.

    Parameters
    ----------
    predictor
        An opened bundle.
    views
        float32 [V, C, H, W].
    names
        Of the views, in their order.
    reference
        Of `reference_answer`.

    Raises
    ------
    ValueError
        There are no views or more than `MOST_VIEWS`, or names do not match.
    """
    if not 1 <= len(views) <= MOST_VIEWS or len(names) != len(views):
        raise ValueError(f"A study of 1 to {MOST_VIEWS} named views, not {len(views)} with {len(names)} names.")
    answers: dict[bytes, Answer] = {}

    def answer(mask: np.ndarray) -> Answer:
        if not mask.any():
            return reference
        key = mask.tobytes()
        if key not in answers:
            answers[key] = Answer.of(predictor.predict(views[mask]))
        return answers[key]

    return ViewShares(
        log_odds=share_out(lambda mask: answer(mask).log_odds, names),
        fat_fraction=share_out(lambda mask: answer(mask).fat_fraction, names),
    )
