"""`reference.json` of a finished bundle: how figures and answers are distributed over patients it never saw."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from inference.backends.registry import open_engine
from inference.bundle import Bundle
from inference.ensemble import combine
from inference.figures import study_figures, view_figures
from inference.reference import Value, write_reference
from training.frames.data import study_of


def write_drift_reference(folder: Path, shown: Iterable[np.ndarray], made_from: str, *, seed: int = 3) -> Path:
    """Write the reference that serving compares its studies with.

    How many views a study has, and what is refused, is left out: that is a site's own affair.

    Parameters
    ----------
    folder
        Of a finished bundle.
    shown
        Prepared views of each patient, [V, 3, H, W]; as many of them as the bundle expects are drawn by chance.
    made_from
        In words, for people.
    """
    bundle = Bundle.load(folder)
    values: dict[str, list[Value]] = defaultdict(list)
    for figures in _figures(bundle, shown, seed):
        for name, value in figures.items():
            values[name].append(value)
    del values["views"]
    return write_reference(folder, bundle.digest, made_from, values)


def fresh_drift_reference(folder: Path, patients: int, seed: int, *, workers: int = 2) -> Path:
    """Write the reference from phantom patients of a seed of no experiment's data."""
    size = Bundle.load(folder).geometry.height
    with ProcessPoolExecutor(workers) as pool:
        shown = (views for views, _ in pool.map(partial(study_of, "test", seed, size), range(patients), chunksize=4))
        return write_drift_reference(folder, shown, f"{patients} phantom patients (seed {seed})")


def _figures(bundle: Bundle, shown: Iterable[np.ndarray], seed: int) -> Iterator[dict[str, Value]]:
    """Figures of each patient as serving would keep them; a frame that its gate refuses is not used."""
    engine, rng = open_engine("onnxruntime", bundle.members), np.random.default_rng(seed)
    for views in shown:
        count = min(bundle.expected_views, len(views))
        chosen = np.asarray(views[rng.choice(len(views), count, replace=False)], np.float32)
        logits = combine(engine.run(chosen), bundle.calibration).liver_logits
        used = chosen[logits >= bundle.liver_logit_minimum]
        if not len(used):
            continue
        told = combine(engine.run(used), bundle.calibration)
        of_views = [
            {**view_figures(view, bundle.geometry), "liver_logit": float(logit)}
            for view, logit in zip(used, told.liver_logits, strict=True)
        ]
        yield study_figures(of_views) | {
            "grade": told.grade,
            "fat_fraction": round(told.fat_fraction_percent, 2),
            "member_spread": round(told.member_spread, 6),
        }
