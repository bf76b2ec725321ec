"""Answers to patients left out with fewer of their views than they have: serving meets such studies, too."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from training.cohort.examples import Examples
from training.systems.fit import answers
from training.systems.grader import Grader
from training.systems.runtime import Runtime


def names(views: int) -> dict[int, tuple[str, str]]:
    """Return what answers with 1, 2, ... of so many views are kept as: names of their logits and fat fractions."""
    return {count: (f"views_{count}_logits", f"views_{count}_fat_fraction") for count in range(1, views)}


def with_fewer(examples: Examples, count: int, *, seed: int) -> tuple[np.ndarray, Examples]:
    """Return the places of the studies with more than `count` views, and these with so many, drawn by chance."""
    chosen = np.flatnonzero(examples.present.sum(axis=1) > count)
    part, rng = examples.some(chosen), np.random.default_rng([seed, count])
    present = np.zeros_like(part.present)
    for study, here in enumerate(part.present):
        present[study, rng.choice(np.flatnonzero(here), count, replace=False)] = True
    return chosen, replace(part, present=present)


def fewer_views(network: Grader, examples: Examples, where: Runtime, *, seed: int) -> dict[str, np.ndarray]:
    """Return grade logits [N, 4] and fat fractions [N] for each smaller number of views, by `names`.

    Studies that do not have more views than that are not a number. All members of a fold are shown the same views if
    they are given the same seed.
    """
    found = {}
    for count, (logits, fat_fraction) in names(examples.present.shape[1]).items():
        found[logits] = np.full((len(examples), 4), np.nan, np.float32)
        found[fat_fraction] = np.full(len(examples), np.nan, np.float32)
        chosen, part = with_fewer(examples, count, seed=seed)
        if len(chosen):
            found[logits][chosen], found[fat_fraction][chosen], _ = answers(network, part, where)
    return found
