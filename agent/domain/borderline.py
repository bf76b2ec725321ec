"""Whether another grade would have been nearly as good, in words that the report, the page and `show` share."""

from __future__ import annotations

from typing import Final

from agent.domain.score import GRADES, StudyScore

BORDERLINE_POINTS: Final = 1.5
"""Percent points of fat fraction: the bias of ultrasound against MRI (AJR 2024), until our own is measured."""
BORDERLINE_PROBABILITY: Final = 0.15
"""Two grades whose probabilities differ by less are about equally likely."""


def borderline(score: StudyScore) -> tuple[str, ...]:
    """Say in phrases why another grade would have been nearly as good; empty if none would."""
    return tuple(phrase for phrase in (_near_cut_off(score), _disagreeing(score), _equally_likely(score)) if phrase)


def grade_by_cut_offs(score: StudyScore) -> str:
    """Grade that the fat fraction alone would give."""
    return GRADES[sum(score.fat_fraction_percent >= cut_off for cut_off in score.cut_offs)]


def has_cut_offs(score: StudyScore) -> bool:
    """Whether the bundle names its cut-offs."""
    return score.cut_offs[-1] > 0


def _near_cut_off(score: StudyScore) -> str | None:
    if not has_cut_offs(score):
        return None
    index, distance = min(
        ((i, abs(score.fat_fraction_percent - cut_off)) for i, cut_off in enumerate(score.cut_offs)),
        key=lambda pair: pair[1],
    )
    if distance > BORDERLINE_POINTS:
        return None
    return f"{distance:.1f} points from the {GRADES[index]}/{GRADES[index + 1]} cut-off {score.cut_offs[index]:.1f} %"


def _disagreeing(score: StudyScore) -> str | None:
    by_fat = grade_by_cut_offs(score)
    if not has_cut_offs(score) or by_fat == score.grade:
        return None
    return f"the fat fraction alone would give {by_fat}"


def _equally_likely(score: StudyScore) -> str | None:
    first, second = sorted(score.probabilities.items(), key=lambda pair: -pair[1])[:2]
    if first[1] - second[1] > BORDERLINE_PROBABILITY:
        return None
    low, high = sorted((first[0], second[0]))
    return f"{low} and {high} about equally likely"
