"""Splits by patient, and only by patient: frames of one patient on both sides make a model look better than it is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class LeakError(ValueError):
    """A patient is on both sides of a split."""


def folds(patients: Sequence[str], grades: Sequence[int], count: int, *, seed: int = 0) -> np.ndarray:
    """Return the fold of each study, int [N]; all studies of a patient share one, and grades are spread evenly.

    Parameters
    ----------
    patients
        Of each study.
    grades
        Of each study; a patient counts with the highest.
    count
        Number of folds; as many as there are patients leaves one patient out at a time.

    Raises
    ------
    ValueError
        There are fewer patients than folds, or fewer than two folds.
    """
    highest: dict[str, int] = {}
    for patient, grade in zip(patients, grades, strict=True):
        highest[patient] = max(highest.get(patient, 0), int(grade))
    if len(highest) < 2:
        raise ValueError(f"There is but {len(highest)} patient; a split needs two at least.")
    if not 2 <= count <= len(highest):
        raise ValueError(f"{count} folds of {len(highest)} patients; give 2 to {len(highest)} folds.")
    rng = np.random.default_rng(seed)
    # Dealt out grade by grade, going on where the last grade ended: folds differ by one patient at most.
    dealt = [
        patient
        for grade in sorted(set(highest.values()))
        for patient in rng.permutation(sorted(name for name, own in highest.items() if own == grade))
    ]
    place = {str(patient): index % count for index, patient in enumerate(dealt)}
    return np.array([place[patient] for patient in patients])


def held_back(patients: Sequence[str], share: float, *, seed: int = 0) -> np.ndarray:
    """Return which studies are held back for early stopping, bool [N]: that share of patients, one at least."""
    names = sorted(set(patients))
    chosen = np.random.default_rng(seed).permutation(names)[: max(1, round(share * len(names)))]
    return np.isin(np.asarray(patients), chosen)


def refuse_leaks(**sides: Sequence[str]) -> None:
    """Raise LeakError where a patient is in more than one of the named sides."""
    names = list(sides)
    for index, first in enumerate(names):
        for second in names[index + 1 :]:
            if both := set(sides[first]) & set(sides[second]):
                one = sorted(both)[0]
                raise LeakError(
                    f"{len(both)} patients are in {first} and in {second}, as is {one!r}; split by patient."
                )
