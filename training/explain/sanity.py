"""Sanity checks for saliency maps (Adebayo et al. 2018): a map that survives random weights shows no model.

Weights are replaced from the heads down through the trunk, cascading, by draws of the same mean and spread. The map of
the evidence for steatosis must then change. Similarity is Spearman's rank correlation and SSIM (Wang et al. 2004), on
the map's own grid and inside the sector only: around it all maps are alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
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
    cascade, alone = {}, {}
    between = _row("members as fitted, with each other", studies)
    first: list[list[np.ndarray]] = []
    insides: list[np.ndarray] = []
    for subject in subjects:
        steps = stages(subject.weights)
        fitted = [subject.maps(subject.weights, study.tensor) for study in studies]
        insides = insides or [
            cells_inside(study, *size, maps.shape[1:]) for study, maps in zip(studies, fitted, strict=True)
        ]
        for earlier in first:
            _compare(between, earlier, fitted, insides)
        first.append(fitted)
        for _ in range(draws):
            changed: Weights = subject.weights
            for label, chosen in steps:
                changed = randomised(changed, chosen, rng)
                single = randomised(subject.weights, chosen, rng)
                for rows, weights in ((cascade, changed), (alone, single)):
                    row = rows.setdefault(label, _row(label, studies))
                    _compare(row, fitted, [subject.maps(weights, study.tensor) for study in studies], insides)
    if not any(np.ptp(maps) > 0 for fitted in first for maps in fitted):
        raise SanityError("The members' own maps are blank; there is nothing to check.")
    down = tuple(row.similarity() for row in cascade.values())
    return SanityReport(
        cascade=down,
        alone=tuple(row.similarity() for row in alone.values()),
        members=between.similarity() if len(subjects) > 1 else None,
        limit=limit,
        failures=tuple(_failures(down, limit)),
    )


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
