"""Sanity checks for saliency maps (Adebayo et al. 2018): a map that survives random weights shows no model.

Weights are replaced from the heads down through the trunk, cascading, by draws of the same mean and spread. The map of
the evidence for the grade that the fitted members tell must then change: of that grade still, whatever random weights
tell, so that no map changes for having another subject. Similarity is Spearman's rank correlation and SSIM (Wang et
al. 2004), on the map's own grid and inside the sector only: around it all maps are alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np

from training.explain.pictures import Study
from training.explain.randomised import SanityError, randomised, stages
from training.explain.similarity import Row, Similarity, cells_inside
from training.explain.subjects import Subject, Weights

HIGHEST_SIMILARITY: Final = 0.5
"""Rank correlation, without its sign, that maps of random weights may keep with the fitted member's on average."""


@dataclass(frozen=True, kw_only=True)
class SanityReport:
    """The checks of one set of members."""

    cascade: tuple[Similarity, ...]
    """Each stage with all before it."""
    alone: tuple[Similarity, ...]
    """Each stage by itself, the rest as fitted."""
    members: Similarity | None
    """Between members as fitted, for comparison: what learning twice leaves alike."""
    limit: float
    failures: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether the maps depend on the weights."""
        return not self.failures


def check(
    subjects: Sequence[Subject],
    studies: Sequence[Study],
    size: tuple[int, int],
    *,
    draws: int = 3,
    seed: int = 0,
    limit: float = HIGHEST_SIMILARITY,
) -> SanityReport:
    """Compare the members' maps with those of random weights.

    Parameters
    ----------
    subjects
        Members of one ensemble.
    studies
        Whose maps are compared.
    size
        Height and width of the members' input.
    draws
        Random weights for each member and stage.
    limit
        The check fails where the mean rank correlation, without its sign, is above it once the grade head, or once
        everything, is random; or where no map is left to compare.

    Raises
    ------
    SanityError
        The members make no maps of these studies.
    """
    rng = np.random.default_rng(seed)
    told, fitted = _as_fitted(subjects, studies)
    if not any(np.ptp(maps) > 0 for own in fitted for maps in own):
        raise SanityError("The members' own maps are blank; there is nothing to check.")
    insides = [cells_inside(study, *size, maps.shape[1:]) for study, maps in zip(studies, fitted[0], strict=True)]
    cascade: dict[str, Row] = {}
    alone: dict[str, Row] = {}
    for subject, own in zip(subjects, fitted, strict=True):
        for _ in range(draws):
            for label, rows, weights in _draws(subject, cascade, alone, rng):
                shown = zip(studies, told, strict=True)
                maps = [subject.answer(weights, study.tensor)[1][:, grade] for study, grade in shown]
                _compare(rows.setdefault(label, _row(label, studies)), own, maps, insides)
    down = tuple(row.similarity() for row in cascade.values())
    return SanityReport(
        cascade=down,
        alone=tuple(row.similarity() for row in alone.values()),
        members=_between(fitted, studies, insides),
        limit=limit,
        failures=tuple(_failures(down, limit)),
    )


def _as_fitted(subjects: Sequence[Subject], studies: Sequence[Study]) -> tuple[list[int], list[list[np.ndarray]]]:
    """Give the grade that the members tell together, of each study, and their maps of it, of each member and study."""
    answers = [[subject.answer(subject.weights, study.tensor) for study in studies] for subject in subjects]
    told = [int(sum(logits for logits, _ in of_study).argmax()) for of_study in zip(*answers, strict=True)]
    return told, [[maps[:, grade] for (_, maps), grade in zip(own, told, strict=True)] for own in answers]


def _draws(
    subject: Subject, cascade: dict[str, Row], alone: dict[str, Row], rng: np.random.Generator
) -> Iterator[tuple[str, dict[str, Row], Weights]]:
    """Give each stage's random weights with all stages before it, and by themselves, and the rows they belong to."""
    changed: Weights = subject.weights
    for label, chosen in stages(subject.weights):
        changed = randomised(changed, chosen, rng)
        single = randomised(subject.weights, chosen, rng)
        yield label, cascade, changed
        yield label, alone, single


def _between(
    fitted: Sequence[Sequence[np.ndarray]], studies: Sequence[Study], insides: Sequence[np.ndarray]
) -> Similarity | None:
    """Compare members as fitted with each other; None of one alone."""
    row = _row("members as fitted, with each other", studies)
    for own, other in combinations(fitted, 2):
        _compare(row, own, other, insides)
    return row.similarity() if len(fitted) > 1 else None


def _row(label: str, studies: Sequence[Study]) -> Row:
    return Row(label, [[] for _ in studies], [[] for _ in studies])


def _compare(row: Row, maps: Sequence[np.ndarray], others: Sequence[np.ndarray], insides: Sequence[np.ndarray]) -> None:
    for number, (own, other, inside) in enumerate(zip(maps, others, insides, strict=True)):
        row.add(number, own, other, inside)


def _failures(cascade: Sequence[Similarity], limit: float) -> Iterable[str]:
    for row, what in ((cascade[0], "the grade head is"), (cascade[-1], "all weights are")):
        value = row.rank_size[0]
        if not row.comparisons:
            yield f"No map is left to compare once {what} random."
        elif not value <= limit:
            yield f"Maps stay alike once {what} random: rank correlation {value:.2f}, allowed {limit:.2f}."
