"""Contributions of clinical variables beside the pictures, against a background of reference patients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from training.explain.shapley import MOST_PLAYERS, Shares, share_out

MOST_VARIABLES: Final = 10

ClinicalModel = Callable[[Any, np.ndarray, np.ndarray], float]
"""`(views, clinical, mask)`: the views as the model takes them, float [variables], and bool [variables], false where a
variable is missing; gives one number, a log-odds or a fat fraction."""


def clinical_contributions(
    model: ClinicalModel,
    views: Any,
    clinical: np.ndarray,
    mask: np.ndarray,
    names: Sequence[str],
    references: tuple[np.ndarray, np.ndarray],
) -> Shares:
    """Share a model's answer out among the clinical variables that are known, the pictures staying as they are.

    A coalition's worth is the model's mean answer when its variables are the patient's and the others are those of
    reference patients, one after the other ("interventional" SHAP, Janzing et al. 2020). What a reference patient lacks
    is missing then. What the patient lacks stays missing in every coalition and so contributes nothing.

    Parameters
    ----------
    model
        See `ClinicalModel`.
    views
        Of the patient; handed on to the model.
    clinical, mask
        The patient's variables, float [variables], and which are known, bool [variables].
    names
        Of the variables.
    references
        Variables float [patients, variables] and which are known, bool [patients, variables].

    Returns
    -------
    Shares
        One for each variable in the order of `names`, 0 for those missing.

    Raises
    ------
    ValueError
        Shapes do not agree, there is no reference patient, or more than `MOST_VARIABLES` are known.
    """
    clinical, mask = np.asarray(clinical, dtype=np.float64), np.asarray(mask, dtype=bool)
    others, others_mask = np.asarray(references[0], dtype=np.float64), np.asarray(references[1], dtype=bool)
    _check(clinical, mask, names, others, others_mask)
    known = np.flatnonzero(mask)

    def worth(coalition: np.ndarray) -> float:
        own = np.zeros(len(names), dtype=bool)
        own[known[coalition]] = True
        answers = [
            # A value that is missing is 0, whoever lacks it, so that nothing leaks past the mask.
            model(views, np.where(own, clinical, np.where(known_to, other, 0.0)), own | known_to)
            for other, known_to in zip(others, others_mask & mask, strict=True)
        ]
        return float(np.mean(answers))

    found = share_out(worth, [names[index] for index in known])
    shares = dict(zip(found.names, found.shares, strict=True))
    return Shares(
        names=tuple(names), shares=tuple(shares.get(name, 0.0) for name in names), base=found.base, total=found.total
    )


def _check(
    clinical: np.ndarray, mask: np.ndarray, names: Sequence[str], others: np.ndarray, others_mask: np.ndarray
) -> None:
    count = len(names)
    if len(set(names)) != count:
        raise ValueError("Two clinical variables have the same name.")
    if clinical.shape != (count,) or mask.shape != (count,):
        raise ValueError(f"The patient has variables {clinical.shape} and mask {mask.shape}; there are {count} names.")
    if others.ndim != 2 or others.shape[1] != count or others.shape != others_mask.shape or not len(others):
        raise ValueError(f"References must be [patients, {count}], variables and mask alike, and at least one patient.")
    if mask.sum() > min(MOST_VARIABLES, MOST_PLAYERS):
        raise ValueError(f"{mask.sum()} variables are known; exact Shapley values go up to {MOST_VARIABLES}.")
