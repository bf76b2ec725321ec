"""Pairs of answers about the same studies, and how well they agree: shadow against live, reader against result."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from agent.domain.score import GRADES
from agent.watch.statistics import BlandAltman, Kappa, bland_altman, weighted_kappa

MOST_DISAGREEMENTS: Final = 100


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What one of the two said: a grade, a fat fraction where it gives one, or a refusal."""

    grade: str | None
    fat_fraction_percent: float | None = None
    refusal: str | None = None


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two answers about one study."""

    study_instance_uid: str
    at: float
    first: Answer
    second: Answer

    @property
    def differs(self) -> bool:
        """Whether they give different grades, or only one gives any."""
        return self.first.grade != self.second.grade

    @property
    def difference(self) -> float | None:
        """Fat fraction of the second minus the first, percent points."""
        one, other = self.first.fat_fraction_percent, self.second.fat_fraction_percent
        return None if one is None or other is None else other - one


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How well two agree."""

    pairs: tuple[Pair, ...]
    kappa: Kappa | None
    """None where no study has a grade from both."""
    fat_fraction: BlandAltman | None
    only_first: int
    """Graded by the first and refused by the second."""
    only_second: int
    both_refused: int

    @property
    def disagreements(self) -> list[Pair]:
        """Studies with different answers, the furthest apart first."""
        found = sorted((pair for pair in self.pairs if pair.differs), key=_distance, reverse=True)
        return found[:MOST_DISAGREEMENTS]

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values, with the disagreements and without the rest of the pairs."""
        return {
            "studies": len(self.pairs),
            "grades": None if self.kappa is None else asdict(self.kappa),
            "fat_fraction": None if self.fat_fraction is None else asdict(self.fat_fraction),
            "only_first": self.only_first,
            "only_second": self.only_second,
            "both_refused": self.both_refused,
            "disagreements": [asdict(pair) | {"difference": pair.difference} for pair in self.disagreements],
        }


def agreement(pairs: Iterable[Pair]) -> Agreement:
    """Compare the answers of all pairs."""
    found = tuple(pairs)
    graded = [pair for pair in found if pair.first.grade and pair.second.grade]
    measured = [pair for pair in graded if pair.difference is not None]
    return Agreement(
        pairs=found,
        kappa=weighted_kappa(_places(pair.first for pair in graded), _places(p.second for p in graded), len(GRADES)),
        fat_fraction=bland_altman(_fat(pair.first for pair in measured), _fat(pair.second for pair in measured)),
        only_first=sum(1 for pair in found if pair.first.grade and not pair.second.grade),
        only_second=sum(1 for pair in found if pair.second.grade and not pair.first.grade),
        both_refused=sum(1 for pair in found if not pair.first.grade and not pair.second.grade),
    )


def _places(answers: Iterable[Answer]) -> Sequence[int]:
    return [GRADES.index(answer.grade) for answer in answers if answer.grade]


def _fat(answers: Iterable[Answer]) -> Sequence[float]:
    return [answer.fat_fraction_percent for answer in answers if answer.fat_fraction_percent is not None]


def _distance(pair: Pair) -> tuple[int, float, float]:
    one, other = pair.first.grade, pair.second.grade
    apart = abs(GRADES.index(one) - GRADES.index(other)) if one and other else len(GRADES)
    return apart, abs(pair.difference or 0.0), pair.at
