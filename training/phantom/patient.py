"""Patients with a known liver fat fraction, and what their tissues do to ultrasound."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np

from training.phantom.tissue import FLUIDS, TISSUES

PDFF_CUT_OFFS: Final = (6.4, 17.4, 22.1)
"""MRI-PDFF in percent from which a liver is S1, S2, S3 (Tang et al., Radiology 2013;267:422-431)."""


class Stream(IntEnum):
    """Independent random streams of one patient, so that one part can change without moving the others."""

    TISSUE = 0
    ANATOMY = 1
    FRAME = 2
    HISTORY = 3
    SURROUNDINGS = 4


@dataclass(frozen=True, kw_only=True)
class Patient:
    """A synthetic patient; everything not stated here follows from `seed`."""

    fat_fraction_percent: float
    age_years: int
    sex: str
    size_m: float
    weight_kg: float
    seed: int

    @property
    def grade(self) -> int:
        """Grade 0 to 3 (index into `inference.contract.GRADES`) by `PDFF_CUT_OFFS`."""
        return bisect_right(PDFF_CUT_OFFS, self.fat_fraction_percent)

    @property
    def body_mass_index(self) -> float:
        """Body mass index in kg/m²."""
        return self.weight_kg / self.size_m**2

    @property
    def history(self) -> dict[str, bool]:
        """Diabetes, hypertension and dyslipidaemia, each likelier with fat, age and body mass index.

        The odds are of the order of what population studies find beside steatosis; they are no estimate of anything.
        """
        rng = self.rng(Stream.HISTORY)
        lean = (0.03 * (self.age_years - 52), 0.06 * (self.body_mass_index - 27))
        odds = {
            "diabetes": -2.4 + 0.045 * self.fat_fraction_percent + sum(lean),
            "hypertension": -0.9 + 0.02 * self.fat_fraction_percent + 1.5 * sum(lean),
            "dyslipidaemia": -1.0 + 0.035 * self.fat_fraction_percent + sum(lean),
        }
        return {name: bool(rng.random() < 1.0 / (1.0 + np.exp(-value))) for name, value in odds.items()}

    def rng(self, stream: Stream, *keys: int) -> np.random.Generator:
        """Return the generator of one stream of this patient."""
        return np.random.default_rng([self.seed, int(stream), *keys])


@dataclass(frozen=True, kw_only=True)
class BodyAcoustics:
    """Acoustic properties of one patient's body; backscatter in dB relative to a normal liver."""

    liver_attenuation: float
    """dB/cm/MHz, one way."""
    liver_backscatter_db: float
    kidney_backscatter_db: float
    vessel_contrast: float
    """1 in a lean liver, towards 0 as fat hides walls and lumina."""
    blur: float
    """Factor on the lateral beam width: aberration by the body wall and by fat."""
    coarseness: float
    """Slow unevenness of the parenchyma in dB; fibrosis raises it, and the attenuation, without fat."""
    subcutaneous_cm: float
    muscle_cm: float
    surroundings_db: Mapping[str, float]
    """How much more than in `training.phantom.tissue` each other tissue scatters. Without it, body wall and gut would
    be a reference in every picture against which the liver's backscatter could be read, as no real patient offers."""
    interfaces_db: float
    """How much more than usual walls, capsules and the diaphragm reflect."""


def draw_patient(rng: np.random.Generator, *, fat_fraction_percent: float | None = None) -> Patient:
    """Draw a patient; without a fat fraction, one of the four grades is drawn evenly first."""
    if fat_fraction_percent is None:
        low, high = ((0.5, 6.4), (6.4, 17.4), (17.4, 22.1), (22.1, 42.0))[rng.integers(4)]
        fat_fraction_percent = float(rng.uniform(low, high))
    sex = "F" if rng.random() < 0.5 else "M"
    size = float(np.clip(rng.normal(1.64 if sex == "F" else 1.77, 0.07), 1.45, 2.02))
    # Fat and body mass go together only loosely (lean steatosis exists), or the body wall would be the label.
    index = float(np.clip(rng.normal(25.5 + 0.12 * fat_fraction_percent, 4.2), 17.5, 46.0))
    return Patient(
        fat_fraction_percent=fat_fraction_percent,
        age_years=int(np.clip(rng.normal(52, 15), 18, 90)),
        sex=sex,
        size_m=round(size, 2),
        weight_kg=round(index * size**2, 1),
        seed=int(rng.integers(2**31)),
    )


def body_acoustics(patient: Patient) -> BodyAcoustics:
    """Derive a patient's tissues from the fat fraction, the body mass index and chance.

    Backscatter rises by some 22 dB before it saturates and attenuation from about 0.5 dB/cm/MHz with fat, in the order
    of what quantitative ultrasound reports (e.g. Lin et al., Clin Gastroenterol Hepatol 2015; Han et al., Radiology
    2020), the attenuation at the lower end: harmonics, compounding and automatic depth gain leave less of it on the
    screen than in the tissue. On real exams a fatty liver looks brighter, not only darker in depth; with attenuation at
    the upper end phantoms did not. The scatter between patients of equal fat is a choice of this phantom: as published
    for the sign alone, a liver's brightness and its fall over depth each tell steatosis only in part.
    """
    rng = patient.rng(Stream.TISSUE)
    fat = patient.fat_fraction_percent
    fibrosis = float(rng.random() < 0.12) * rng.uniform(0.3, 1.0)
    chronic_kidney = float(rng.random() < 0.06) * rng.uniform(3.0, 6.0)
    other = patient.rng(Stream.SURROUNDINGS)
    common = float(other.normal(0.0, 3.0))
    subcutaneous = np.clip(0.6 + 0.085 * (patient.body_mass_index - 20.0) + rng.normal(0.0, 0.35), 0.35, 4.0)
    return BodyAcoustics(
        liver_attenuation=float(0.50 + 0.0038 * fat + 0.10 * fibrosis + rng.normal(0.0, 0.035)),
        liver_backscatter_db=float(22.0 * (1.0 - np.exp(-fat / 14.0)) + rng.normal(0.0, 2.5)),
        kidney_backscatter_db=float(rng.normal(-2.0, 3.0) + chronic_kidney),
        vessel_contrast=float(np.clip(np.exp(-fat / 28.0 + rng.normal(0.0, 0.5)), 0.05, 1.2)),
        blur=float(1.0 + 0.18 * subcutaneous + 0.012 * fat + abs(rng.normal(0.0, 0.2))),
        coarseness=float(0.7 + 1.6 * fibrosis + rng.uniform(0.0, 0.4)),
        subcutaneous_cm=float(subcutaneous),
        muscle_cm=float(np.clip(rng.normal(0.9, 0.25), 0.4, 1.8)),
        surroundings_db={tissue: common + float(other.normal(0.0, 2.5)) for tissue in TISSUES if tissue not in FLUIDS},
        interfaces_db=float(other.normal(0.0, 4.0)),
    )
