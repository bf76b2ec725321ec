"""Tissues: how strongly they scatter, how much they attenuate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Tissue:
    """Backscatter in dB relative to a normal liver; attenuation in dB/cm/MHz, one way."""

    backscatter_db: float
    attenuation: float


TISSUES: Final = {
    "skin": Tissue(8.0, 1.0),
    "subcutaneous": Tissue(-3.0, 0.60),
    "muscle": Tissue(-1.0, 0.90),
    "renal_cortex": Tissue(-2.0, 0.80),
    "renal_pyramid": Tissue(-8.0, 0.70),
    "renal_sinus": Tissue(11.0, 0.90),
    "blood": Tissue(-30.0, 0.18),
    "bile": Tissue(-38.0, 0.05),
    "gut": Tissue(7.0, 2.2),
    "lung": Tissue(-4.0, 1.6),
    "retroperitoneum": Tissue(5.0, 0.9),
}
"""Orders of magnitude after Duck, Physical Properties of Tissue (1990); the contrasts matter, not the last digit."""
FLUIDS: Final = ("blood", "bile")
"""Which scatter next to nothing in everybody."""
