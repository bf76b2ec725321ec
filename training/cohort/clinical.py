"""Clinical variables beside the pictures: what they are called, how they are scaled, and that any may be missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Variable:
    """One variable: its name in manifests, and the range it is brought to about -1 to 1 from."""

    name: str
    centre: float
    spread: float
    unit: str = ""


VARIABLES: Final = (
    Variable(name="age_years", centre=50.0, spread=15.0, unit="years"),
    Variable(name="sex_female", centre=0.5, spread=0.5),
    Variable(name="size_m", centre=1.70, spread=0.10, unit="m"),
    Variable(name="weight_kg", centre=80.0, spread=18.0, unit="kg"),
    Variable(name="body_mass_index", centre=27.0, spread=5.0, unit="kg/m²"),
    Variable(name="diabetes", centre=0.5, spread=0.5),
    Variable(name="hypertension", centre=0.5, spread=0.5),
    Variable(name="dyslipidaemia", centre=0.5, spread=0.5),
)
NAMES: Final = tuple(variable.name for variable in VARIABLES)


def encode(values: Mapping[str, float | None]) -> tuple[np.ndarray, np.ndarray]:
    """Return scaled variables, float32 [K], and which are known, bool [K]; missing ones are 0.

    A value of exactly 0 for age, size, weight or body mass index means missing, as it does in DICOM headers that were
    filled without asking. The body mass index follows from size and weight where those are known.
    """
    found = dict(values)
    size, weight = found.get("size_m"), found.get("weight_kg")
    if not found.get("body_mass_index") and size and weight:
        found["body_mass_index"] = weight / size**2
    scaled, known = np.zeros(len(VARIABLES), np.float32), np.zeros(len(VARIABLES), bool)
    for place, variable in enumerate(VARIABLES):
        value = found.get(variable.name)
        if value is None or (variable.unit and not value):
            continue
        known[place] = True
        scaled[place] = (value - variable.centre) / variable.spread
    return scaled, known


def decode(scaled: np.ndarray, known: np.ndarray) -> dict[str, float]:
    """Return the known variables in their own units."""
    return {
        variable.name: float(scaled[place]) * variable.spread + variable.centre
        for place, variable in enumerate(VARIABLES)
        if known[place]
    }
