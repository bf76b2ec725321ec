"""Calibration and held-out figures of exported graphs, on patients that no member saw; their weights stay.

A phantom patient costs a quarter of a second, so both are made on thousands: with one thousand the calibration error of
perfect probabilities alone is over 0.02.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from inference.bundle import Bundle
from training.bundle.calibrate import Scored, calibrate
from training.bundle.card import write_card
from training.bundle.configuration import Experiment
from training.bundle.evaluate import VIEW_COUNTS, evaluate, score_studies
from training.bundle.export import WRITTEN, write_description
from training.bundle.fresh import Draw, looked_at
from training.bundle.halves import Halves
from training.bundle.repeatability import measured
from training.evaluation.predictions import Prediction


def held_out(
    members: Sequence[bytes], experiment: Experiment, split: str, patients: int, keep: Path, *, foreign: bool = False
) -> Scored:
    """Return what members say of an experiment's patients of a split, each with one to four views.

    `keep` is a folder where an interrupted run finds what it had looked at. `foreign` takes scanners of another site.
    """
    draw = replace(Draw.held_out(experiment.data, split), foreign=foreign)
    seen, fat = looked_at(members, experiment.data.size, patients, draw, keep, workers=experiment.fit.threads)
    return score_studies(Halves(members), seen, fat, VIEW_COUNTS, seed=0)


def calibrated(members: Sequence[bytes], experiment: Experiment, keep: Path) -> dict[str, Any]:
    """Return the parts of `bundle.json` that calibration decides."""
    scored = held_out(members, experiment, "calibration", experiment.data.calibration_patients, keep)
    return calibrate(scored, experiment.bundle.interval_coverage, experiment.bundle.expected_views)


def evaluated(bundle: Bundle, experiment: Experiment, keep: Path) -> tuple[dict[str, Any], list[Prediction]]:
    """Return a bundle's figures on the experiment's test patients, and its predictions for a report."""
    data = experiment.data
    draw = Draw.held_out(data, "test")
    seen, fat = looked_at(bundle.members, data.size, data.test_patients, draw, keep, workers=experiment.fit.threads)
    return evaluate(bundle, Halves(bundle.members), seen, fat)


def recalibrate(folder: Path, experiment: Experiment, version: str, keep: Path) -> dict[str, Any]:
    """Calibrate a finished bundle anew and write its description, figures and card; graphs and gate stay.

    Returns
    -------
    dict
        Its figures.

    Raises
    ------
    BundleError
        The folder is no bundle, or a file of it was changed; said before anything is looked at.
    """
    Bundle.load(folder)
    described = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    members = [(folder / entry["file"]).read_bytes() for entry in described["members"]]
    no_more = ("calibrated_on",)  # of a cohort, if it was
    parts = {name: value for name, value in described.items() if name not in (*WRITTEN, *no_more)}
    fitted = calibrated(members, experiment, keep)
    parts |= {name: fitted[name] for name in ("calibration", "operating_points")}
    if parts["version"] != version:
        parts["training_data"]["notes"].append(
            f"Members are those of {parts['version']}; calibration, operating point and figures were made anew."
        )
    data = experiment.data
    parts["version"] = version
    parts["training_data"]["patients"] |= {"calibration": data.calibration_patients, "test": data.test_patients}
    return describe(folder, parts, experiment, keep, described["metrics"]["liver_gate"])[0]


def describe(
    folder: Path, parts: dict[str, Any], experiment: Experiment, keep: Path, gate: dict[str, Any]
) -> tuple[dict[str, Any], list[Prediction]]:
    """Measure a calibrated bundle; write its description with the figures, and its card.

    `gate` is what its liver gate lets pass.
    """
    write_description(folder, {**parts, "metrics": {}})
    bundle = Bundle.load(folder)
    parts["repeatability"] = measured(bundle, Halves(bundle.members), workers=experiment.fit.threads)
    write_description(folder, {**parts, "metrics": {}})
    metrics, predictions = evaluated(Bundle.load(folder), experiment, keep)
    metrics["liver_gate"] = gate
    write_description(folder, {**parts, "metrics": metrics})
    write_card(folder)
    return metrics, predictions
