"""How far two exams of one patient lie apart in fat fraction when nothing has changed: what a trend is judged by."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any, Final

import numpy as np

from inference.bundle import Bundle
from inference.contract import VIEWS
from inference.ensemble import combine
from training.bundle.halves import Halves
from training.frames.data import prepared_view
from training.metrics import bootstrap
from training.phantom import Scanner, draw_patient

PATIENTS: Final = 100
SEED: Final = 737373
"""Of no experiment's data."""
KNOBS: Final = ("gain_db", "tgc_sliders_db", "operator_gain", "operator_tgc", "operator_wall", "depth_cm", "focus_cm")
"""What an examiner sets anew for every exam; `training.phantom.scanner` has what they are."""


def measured(bundle: Bundle, halves: Halves, *, patients: int = PATIENTS, workers: int = 2) -> dict[str, Any]:
    """Return the part of `bundle.json`: coefficients in percent points, each with its 95 % bootstrap interval.

    Each phantom patient is examined three times, with other poses, speckle, knobs and augmentation: twice on one
    scanner, once on another. 95 % of two scores of an unchanged patient differ by less than the coefficient, 2.77
    within-subject standard deviations (Bland & Altman 1999). Serving does not know whether an earlier exam was made on
    the same scanner, so what it judges by is the one across scanners.
    """
    with ProcessPoolExecutor(workers, initializer=os.nice, initargs=(5,)) as pool:
        exams = list(pool.map(partial(_exams, bundle.geometry.height), range(patients), chunksize=4))
    seen = halves.look(np.concatenate(exams).reshape(-1, *exams[0].shape[2:]))
    rng = np.random.default_rng(SEED)
    scores = np.empty((patients, 3))
    for patient, exam in np.ndindex(scores.shape):
        first = len(VIEWS) * (3 * patient + exam)
        chosen = first + rng.choice(len(VIEWS), bundle.expected_views, replace=False)
        scores[patient, exam] = combine(halves.study(seen, chosen), bundle.calibration).fat_fraction_percent
    across = bootstrap(coefficient, scores[:, 1] - scores[:, 2])
    same = bootstrap(coefficient, scores[:, 0] - scores[:, 1])
    return {
        "fat_fraction_percent": across[0],
        "fat_fraction_percent_interval": list(across[1:]),
        "same_scanner_percent": list(same),
        "patients": patients,
        "views": bundle.expected_views,
        "conditions": "phantom patients examined again: other poses, speckle and knobs, and another scanner",
    }


def coefficient(differences: np.ndarray) -> float:
    """Return the repeatability coefficient of differences [N] between two exams of each patient."""
    return float(1.96 * np.sqrt(np.mean(differences**2)))


def _exams(size: int, index: int) -> np.ndarray:
    """Return three exams of one patient, float16 [3, 4, 3, size, size]."""
    rng = np.random.default_rng([SEED, index])
    patient, scanner, other = draw_patient(rng), Scanner.random(rng), Scanner.random(rng)
    again = Scanner.random(rng)
    turned = replace(scanner, **{name: getattr(again, name) for name in KNOBS})
    return np.stack(
        [
            np.stack([prepared_view(patient, view, device, rng, size, frame=100 * exam) for view in VIEWS])
            for exam, device in enumerate((scanner, turned, other))
        ]
    )
