"""Calibration carried over to a cohort: few parameters on top of what a bundle came with, fitted out of fold.

A cohort is small and has the numbers of views that its site takes, so nothing is fitted for each number of views anew.
What the bundle came with for one, two, three or four views is kept as it relates to each other, and moved as a whole:

- logits by one temperature and an offset a grade, for all numbers of views alike (vector scaling, Guo et al. 2017);
- the fat fraction by a straight line;
- interval ends by a factor a side, so that fewer views keep the wider interval (locally weighted conformal prediction,
  Lei et al. 2018);
- grade sets by one threshold.

What is compared with the truth to set thresholds, factors and operating point are answers out of fold. Every patient
counts once, with the first study: studies of one patient are not exchangeable with those of others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from inference.backends.interface import MemberOutputs
from inference.contract import OUTPUT_FAT_FRACTION, OUTPUT_GRADE_LOGITS
from training.bundle.calibrate import conformal_rank, fit_scaling, grade_threshold, probabilities, youden
from training.cohort.splits import folds

FOLDS: Final = 5
LEAST_PATIENTS: Final = 40
"""To fit to. The ends of a 90 % interval are the 19th of 19 values at best, and each fold is judged without its own."""
LEAST_OF_A_KIND: Final = 10
"""Patients with steatosis, and without."""
FLAT: Final = (0.0, 0.0, 0.0, 0.0)
_LEAST_END: Final = 0.1
"""Percent points; an interval's end that lies nearer to the estimate is not scaled from there."""


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """Raw outputs of the members for N studies, with the truth."""

    outputs: Sequence[Sequence[MemberOutputs]]
    views: np.ndarray
    """int [N]."""
    grades: np.ndarray
    """int [N]."""
    fat: np.ndarray
    """float [N], percent, not a number where it was not measured."""
    patients: np.ndarray
    """str [N]."""

    def __len__(self) -> int:
        return len(self.grades)

    def some(self, chosen: np.ndarray) -> Labelled:
        """Return the studies of an index or a mask."""
        places = np.arange(len(self))[chosen]
        return Labelled(
            outputs=[self.outputs[place] for place in places],
            **{name: getattr(self, name)[places] for name in ("views", "grades", "fat", "patients")},
        )

    def first_of_each(self) -> Labelled:
        """Return each patient's first study."""
        return self.some(np.sort(np.unique(self.patients, return_index=True)[1]))

    @property
    def logits(self) -> np.ndarray:
        """[N, members, 4]."""
        return np.array([[member[OUTPUT_GRADE_LOGITS] for member in study] for study in self.outputs], float)

    @property
    def raw_fat(self) -> np.ndarray:
        """The members' mean, percent, before any line, [N]."""
        return np.array([np.mean([member[OUTPUT_FAT_FRACTION][0] for member in study]) for study in self.outputs])


def why_not(cohort: Labelled) -> str:
    """Say why a cohort cannot be calibrated on; empty where it can. Each patient counts once."""
    ill = int((cohort.grades >= 1).sum())
    well = len(cohort) - ill
    if len(cohort) < LEAST_PATIENTS:
        return (
            f"{len(cohort)} patients could be scored, and calibrating needs {LEAST_PATIENTS} at least (some hundred, "
            "for figures that mean much)"
        )
    if min(ill, well) < LEAST_OF_A_KIND:
        return (
            f"{well} patients have no steatosis (S0) and {ill} have some (S1 or more); both kinds are needed, "
            f"{LEAST_OF_A_KIND} patients each at least"
        )
    return ""


def why_no_fat(cohort: Labelled) -> str:
    """Say why the fat fraction cannot be calibrated on a cohort; empty where it can. Each patient counts once."""
    own = cohort.some(np.isfinite(cohort.fat))
    if len(own) < LEAST_PATIENTS:
        return f"a fat fraction was measured in {len(own)} patients, {LEAST_PATIENTS} are needed"
    ill = int((own.grades >= 1).sum())
    if min(ill, len(own) - ill) < LEAST_OF_A_KIND:
        return (
            f"of the patients with a measured fat fraction {len(own) - ill} have no steatosis and {ill} have some; "
            f"{LEAST_OF_A_KIND} each are needed for a line"
        )
    if np.polyfit(own.raw_fat, own.fat, 1)[0] <= 0:
        return "the bundle's estimate does not rise with the measured fat fraction, and no line mends that"
    return ""


def fit(cohort: Labelled, base: Mapping[str, Any], *, fat: bool, seed: int = 0) -> dict[str, Any]:
    """Return `calibration` and `operating_points` of `bundle.json`, carried over to a cohort.

    Parameters
    ----------
    cohort
        One study a patient.
    base
        What `bundle.json` has under `calibration`.
    fat
        Whether the fat fraction is fitted; else its line and interval stay.
    seed
        Of the folds.
    """
    fold = folds(cohort.patients.tolist(), cohort.grades.tolist(), FOLDS, seed=seed)
    entries = _entries(base)
    scaled = _scaled(cohort, entries)
    coverage = float(base["conformal_grade"]["coverage"])
    temperature, offsets = fit_scaling(scaled, cohort.grades)
    out_of_fold = np.zeros((len(cohort), 4))
    for number in range(FOLDS):
        own = fold == number
        out_of_fold[own] = probabilities(scaled[own], *fit_scaling(scaled[~own], cohort.grades[~own]))
    threshold = grade_threshold(out_of_fold, cohort.grades, coverage)
    steatosis = out_of_fold[:, 1:].sum(axis=1)
    fitted = {
        **base,
        "temperature": float(base["temperature"]) * temperature,
        "conformal_grade": {"coverage": coverage, "threshold": threshold},
        "scaling_by_views": {
            count: {
                "temperature": entry["temperature"] * temperature,
                "offsets": [float(old / temperature + new) for old, new in zip(entry["offsets"], offsets, strict=True)],
                "threshold": threshold,
            }
            for count, entry in entries.items()
        },
    }
    if fat:
        fitted |= _fat(cohort, fold, base)
    return {"calibration": fitted, "operating_points": {"steatosis": youden(steatosis, cohort.grades >= 1)}}


def _entries(base: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return scaling by number of views; a bundle with one for all has that for one view or more."""
    flat = {"1": {"temperature": float(base["temperature"]), "offsets": list(FLAT)}}
    return dict(base.get("scaling_by_views") or flat)


def _scaled(cohort: Labelled, entries: Mapping[str, Mapping[str, Any]]) -> np.ndarray:
    """Return logits [N, members, 4] as the bundle scales them, each study by its number of views."""
    counts = sorted(map(int, entries))
    scaled = cohort.logits
    for place, views in enumerate(cohort.views):
        entry = entries[str(max((count for count in counts if count <= views), default=counts[0]))]
        scaled[place] = scaled[place] / entry["temperature"] + np.array(entry["offsets"])
    return scaled


def _fat(cohort: Labelled, fold: np.ndarray, base: Mapping[str, Any]) -> dict[str, Any]:
    """Return line and interval, on the patients whose fat fraction was measured."""
    known = np.isfinite(cohort.fat)
    own, fold = cohort.some(known), fold[known]
    raw, truth = own.raw_fat, own.fat
    residual = np.zeros(len(own))
    for number in np.unique(fold):
        left = fold == number
        line = np.polyfit(raw[~left], truth[~left], 1)
        residual[left] = truth[left] - np.clip(np.polyval(line, raw[left]), 0.0, 100.0)
    slope, intercept = (float(value) for value in np.polyfit(raw, truth, 1))
    interval = base["fat_fraction_interval"]
    by_views = interval.get("quantiles_by_views", {})
    ends = np.array([by_views.get(str(views), interval["quantiles"]) for views in own.views], float)
    side = 1.0 - (1.0 - float(interval["coverage"])) / 2.0
    factors = [
        # An interval holds its estimate: neither end crosses it.
        max(0.0, conformal_rank(sign * residual / np.maximum(sign * ends[:, place], _LEAST_END), side))
        for place, sign in enumerate((-1.0, 1.0))
    ]

    def moved(pair: Sequence[float]) -> list[float]:
        low, high = float(pair[0]), float(pair[1])
        return [-max(-low, _LEAST_END) * factors[0], max(high, _LEAST_END) * factors[1]]

    return {
        "fat_fraction": {"slope": slope, "intercept": intercept},
        "fat_fraction_interval": {
            **interval,
            "quantiles": moved(interval["quantiles"]),
            "quantiles_by_views": {count: moved(pair) for count, pair in by_views.items()},
        },
    }
