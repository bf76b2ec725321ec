"""How well calibrated a bundle is on patients that nothing was fitted to: as it ships, and fitted anew out of fold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from inference.bundle import Calibration, read_calibration
from inference.contract import GRADES
from inference.ensemble import StudyPrediction, combine
from training.bundle.calibrate import Scored, calibrate
from training.bundle.evaluate import VIEW_COUNTS
from training.metrics import Interval, bootstrap, calibration_error, chance_error, mean

FOLDS: Final = 5


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """What one calibration is worth on one site's patients, shown with so many of their views."""

    fitted: str
    site: str
    views: int
    patients: int
    error: Interval
    """Expected calibration error of P(S1 or more), with its bootstrap interval over patients."""
    by_chance: float
    """What perfect probabilities would show."""
    brier: float
    interval_coverage: Interval
    set_coverage: Interval


def tried(
    sites: dict[str, Scored], shipped: dict[str, Calibration], mixtures: Sequence[Sequence[str]], expected_views: int
) -> Iterator[Calibrated]:
    """Try calibrations on patients of each site.

    Parameters
    ----------
    sites
        Patients by site, each with one to four views, one study after the other.
    shipped
        By name: calibrations that were fitted to other patients.
    mixtures
        Sites on whose patients together calibrations are fitted anew, out of fold: `FOLDS` parts of each site's
        patients, each judged by what was fitted to the others.
    expected_views
        At which the operating point is chosen.
    """
    for name, calibration in shipped.items():
        for site, scored in sites.items():
            told = [combine(study, calibration) for study in scored.outputs]
            yield from _judged(name, site, scored, told)
    for mixture in mixtures:
        coverage = next(iter(shipped.values())).grade_coverage
        folds = [_fitted([sites[one] for one in mixture], fold, coverage, expected_views) for fold in range(FOLDS)]
        for site, scored in sites.items():
            by_fold = _folds(scored)
            told = [combine(study, folds[fold]) for study, fold in zip(scored.outputs, by_fold, strict=True)]
            yield from _judged(f"out of fold, {' and '.join(mixture)}", site, scored, told)


def _folds(scored: Scored) -> np.ndarray:
    """Return the fold of each study [N]: a patient's studies lie together and share it."""
    return np.arange(len(scored.outputs)) // len(VIEW_COUNTS) % FOLDS


def _fitted(parts: Sequence[Scored], fold: int, coverage: float, expected_views: int) -> Calibration:
    """Return a calibration fitted to all but a fold."""
    learnt = [part.some(np.flatnonzero(_folds(part) != fold)) for part in parts]
    together = Scored(
        outputs=[study for part in learnt for study in part.outputs],
        fat_fraction=np.concatenate([part.fat_fraction for part in learnt]),
        views=np.concatenate([part.views for part in learnt]),
    )
    return read_calibration(calibrate(together, coverage, expected_views)["calibration"])


def _judged(fitted: str, site: str, scored: Scored, told: Sequence[StudyPrediction]) -> Iterator[Calibrated]:
    steatosis = np.array([one.steatosis_probability for one in told])
    ill = (scored.grades >= 1).astype(float)
    intervals = np.array([one.fat_fraction_interval for one in told])
    inside = (intervals[:, 0] <= scored.fat_fraction) & (scored.fat_fraction <= intervals[:, 1])
    in_set = np.array([GRADES[grade] in one.grade_set for one, grade in zip(told, scored.grades, strict=True)])
    for count in VIEW_COUNTS:
        own = scored.views == count
        yield Calibrated(
            fitted=fitted,
            site=site,
            views=count,
            patients=int(own.sum()),
            error=bootstrap(calibration_error, steatosis[own], ill[own]),
            by_chance=chance_error(steatosis[own]),
            brier=float(((steatosis - ill)[own] ** 2).mean()),
            interval_coverage=bootstrap(mean, inside[own].astype(float)),
            set_coverage=bootstrap(mean, in_set[own].astype(float)),
        )


def as_row(found: Calibrated) -> dict[str, Any]:
    """Return it as plain values, for a file."""
    return vars(found) | {name: list(value) for name, value in vars(found).items() if isinstance(value, tuple)}


def as_line(found: Calibrated) -> str:
    """Return it as a line of a table of Markdown."""
    covered = (f"{part[0]:.3f} ({part[1]:.3f}–{part[2]:.3f})" for part in (found.interval_coverage, found.set_coverage))
    error = "{:.3f} ({:.3f}–{:.3f})".format(*found.error)
    cells = (found.fitted, found.site, found.views, error, f"{found.by_chance:.3f}", f"{found.brier:.4f}", *covered)
    return "| " + " | ".join(map(str, cells)) + " |"


HEAD: Final = (
    "| fitted | patients | views | ECE ≥ S1 | by chance | Brier | interval coverage | grade-set coverage |\n"
    "|---|---|---|---|---|---|---|---|"
)
