"""The same figures for parts of the patients, beside human readers, and with the least sure left unanswered."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from training.evaluation.figures import Answers, answers_of, figures
from training.evaluation.predictions import Prediction
from training.metrics import Interval, auroc, quadratic_kappa

LEAST_PATIENTS: Final = 10
"""Of a group; with fewer its figures say nothing and are left out."""
MOST_SMALL: Final = 3
"""Groups with fewer that are named; more are told together, as scanners that were used but once."""
GROUP_ROUNDS: Final = 300
AGES: Final = ((0, 40, "under 40"), (40, 60, "40 to 59"), (60, 200, "60 and over"))
MASSES: Final = ((0, 25, "under 25"), (25, 30, "25 to 29.9"), (30, 200, "30 and over"))
SHOWN: Final = ("auroc", "sensitivity", "specificity", "ece", "mae", "bias")


@dataclass(frozen=True, kw_only=True)
class Group:
    """Figures of the patients who share something."""

    by: str
    name: str
    studies: int
    figures: dict[str, Interval] | None
    """None where there are too few patients."""


def _within(bands: Sequence[tuple[float, float, str]], value: float | None) -> str:
    if value is None:
        return "unknown"
    return next((name for low, high, name in bands if low <= value < high), "unknown")


GROUPS: Final[dict[str, Callable[[Prediction], str]]] = {
    "site": lambda p: p.site or "unknown",
    "scanner": lambda p: p.scanner or "unknown",
    "sex": lambda p: p.sex or "unknown",
    "age": lambda p: _within(AGES, p.age_years),
    "body mass index": lambda p: _within(MASSES, p.body_mass_index),
    "number of views": lambda p: str(p.views),
}


def subgroups(predictions: Sequence[Prediction], operating_point: float | None = None) -> list[Group]:
    """Return figures by site, scanner, sex, age, body mass index and number of views, where those vary."""
    whole = answers_of(predictions, operating_point=operating_point)
    found = []
    for by, key in GROUPS.items():
        keys = np.array([key(prediction) for prediction in predictions])
        own: list[Group] = []
        for name in sorted(set(keys)) if len(set(keys)) > 1 else ():
            part = whole.some(keys == name)
            enough = len(set(part.patients)) >= LEAST_PATIENTS
            made = figures(part, rounds=GROUP_ROUNDS) if enough else None
            own.append(Group(by=by, name=name, studies=len(part), figures=made))
        found += _small_together(own)
    return found


def _small_together(groups: Sequence[Group]) -> list[Group]:
    """Join groups with too few patients where there are many; their studies are counted still."""
    small = [group for group in groups if group.figures is None]
    if len(small) <= MOST_SMALL:
        return list(groups)
    told = f"{len(small)} with fewer than {LEAST_PATIENTS} patients each"
    together = Group(by=small[0].by, name=told, studies=sum(group.studies for group in small), figures=None)
    return [*(group for group in groups if group.figures is not None), together]


@dataclass(frozen=True, kw_only=True)
class Reader:
    """A human reader beside the system, on the studies that both graded."""

    name: str
    studies: int
    sensitivity: float
    specificity: float
    kappa: float
    """Quadratic, with the reference."""
    system_kappa: float
    system_auroc: float
    system_sensitivity: float
    """At the reader's own specificity."""


def readers(predictions: Sequence[Prediction]) -> list[Reader]:
    """Compare each reader of the predictions with the system."""
    names = sorted({name for prediction in predictions for name in prediction.readers})
    return [_reader(name, [prediction for prediction in predictions if name in prediction.readers]) for name in names]


def _reader(name: str, read: Sequence[Prediction]) -> Reader:
    graded = np.array([prediction.readers[name] for prediction in read])
    truth = np.array([prediction.grade_true for prediction in read])
    probability = np.array([prediction.probabilities for prediction in read])
    steatosis, ill = probability[:, 1:].sum(axis=1), truth >= 1
    specificity = float((graded[~ill] < 1).mean()) if (~ill).any() else math.nan
    at = math.nan
    if (~ill).any() and ill.any():
        cut = np.quantile(steatosis[~ill], specificity, method="higher")
        at = float((steatosis[ill] > cut).mean())
    return Reader(
        name=name,
        studies=len(read),
        sensitivity=float((graded[ill] >= 1).mean()) if ill.any() else math.nan,
        specificity=specificity,
        kappa=quadratic_kappa(graded, truth),
        system_kappa=quadratic_kappa(probability.argmax(axis=1), truth),
        system_auroc=auroc(steatosis, ill),
        system_sensitivity=at,
    )


@dataclass(frozen=True, kw_only=True)
class Abstention:
    """Figures when the studies that the system is least sure of go unanswered."""

    answered: float
    """Share."""
    accuracy: float
    auroc: float
    mae: float


def abstention(answers: Answers, shares: Sequence[float] = (1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5)) -> list[Abstention]:
    """Return figures of the surest studies: those whose odds of steatosis lie farthest from the operating point's."""
    order = np.argsort(-np.abs(_log_odds(answers.steatosis) - _log_odds(answers.points)), kind="stable")
    found = []
    for share in shares:
        part = answers.some(np.sort(order[: max(1, math.ceil(share * len(order)))]))
        error = np.abs(part.fat - part.fat_true)
        error = error[np.isfinite(error)]
        found.append(
            Abstention(
                answered=len(part) / len(answers),
                accuracy=float((part.decided == (part.grades >= 1)).mean()),
                auroc=auroc(part.steatosis, part.grades >= 1),
                mae=float(error.mean()) if len(error) else math.nan,
            )
        )
    return found


def _log_odds(probability: np.ndarray) -> np.ndarray:
    kept = np.clip(probability, 1e-9, 1.0 - 1e-9)
    return np.log(kept / (1.0 - kept))
