"""Which weights of a member are replaced by random ones, and in what order: from the heads down to the stem."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np

from training.explain.subjects import Weights

HEADS: Final = (("grade",), ("fusion",), ("embed", "profile", "clinical"), ("spatial",))
"""Between the features and the evidence, from its end: modules that are replaced together."""
TRUNK: Final = "trunk"
TRUNK_STEPS: Final = 4
_STATISTICS: Final = ("running_mean", "running_var", "num_batches_tracked")
"""Of batch normalisation: nothing that was learnt, and a variance drawn at random may be negative."""


class SanityError(Exception):
    """Maps do not depend on the weights as they must, or there are no maps to compare."""


def stages(names: Iterable[str]) -> list[tuple[str, tuple[str, ...]]]:
    """Return (label, weights) of each stage of the cascade, heads first, then the trunk from its end.

    Raises
    ------
    SanityError
        There is no grade head or no trunk among the weights.
    """
    names = [name for name in names if not name.endswith(_STATISTICS)]
    found = [("+".join(modules), _of(names, modules)) for modules in HEADS]
    found = [("+".join(_present(label, weights)), weights) for label, weights in found if weights]
    units = _trunk_units(names)
    if not found or "grade" not in found[0][0] or not units:
        raise SanityError("There is no grade head or no trunk among the weights; this check does not know the model.")
    steps = [list(part) for part in np.array_split(np.arange(len(units)), min(TRUNK_STEPS, len(units)))]
    for number, part in enumerate(steps):
        weights = tuple(name for index in part for name in units[index])
        found.append((f"trunk, part {len(steps) - number} of {len(steps)}", weights))
    return found


def _of(names: Sequence[str], modules: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in names if name.split(".")[0] in modules)


def _present(label: str, weights: Sequence[str]) -> list[str]:
    return [module for module in label.split("+") if any(name.split(".")[0] == module for name in weights)]


def _trunk_units(names: Sequence[str]) -> list[list[str]]:
    """Group the trunk's weights by block, the one nearest the heads first; what has no number comes at the stem."""
    units: dict[tuple[int, ...], list[str]] = {}
    for name in names:
        if name.split(".")[0] == TRUNK:
            numbers = tuple(int(part) for part in name.split(".") if part.isdigit())
            units.setdefault(numbers, []).append(name)
    return [units[key] for key in sorted(units, reverse=True)]


def randomised(weights: Weights, chosen: Iterable[str], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Replace the chosen weights by normal draws of the same mean and spread; others stay."""
    result = dict(weights)
    for name in chosen:
        own = np.asarray(weights[name], dtype=np.float64)
        drawn = rng.normal(own.mean(), own.std() or 1.0, own.shape)
        result[name] = drawn.astype(np.float32)
    return result
