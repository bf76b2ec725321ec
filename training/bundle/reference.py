"""The whole way from an experiment's file to a bundle folder, step by step, each step kept in the run folder."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from training.bundle.configuration import DRIFT_PATIENTS, DRIFT_SEED, Experiment
from training.bundle.drift_reference import fresh_drift_reference
from training.bundle.export import WRITTEN, write_description, write_members
from training.bundle.fresh import Draw
from training.bundle.recalibrate import calibrated, describe
from training.bundle.regate import regate
from training.evaluation.predictions import write_predictions
from training.frames.data import AUL_HELD_OUT, MEAN, STD, Split, make_split
from training.keeping import reading
from training.members.batches import Features
from training.members.device import device_of
from training.members.features import fitted_trunk, flat, front_features, profiles
from training.members.fit import fit_member, fitted_on, read_member
from training.members.trunk import Trunk
from training.members.trunks import described, new_trunk, trunk_with
from training.phantom.patient import PDFF_CUT_OFFS

ADAPTED_TO = 1200
"""Phantom views beside all real ones to whose grey statistics the trunk's frozen front is fitted."""
RENDERED: Final = (
    "seed", "size", "train_patients", "negatives", "real_frames", "edits", "trimmed", "phased", "heavy",
)  # fmt: skip
"""Of an experiment's data: what decides the pictures that members learn from."""
STARTED: Final = ("trunk", "weights", "frozen_blocks")
"""Of its fit: what decides the trunk that they share."""
CUT_OFF_SOURCE = "MRI-PDFF against histology: Tang et al., Radiology 2013;267:422-431"


def learnt(experiment: Experiment, run: Path) -> Split:
    """Return what members learn from, rendered where the run does not have it yet."""
    return make_split("train", experiment.data, run / "data", workers=experiment.fit.threads)


def fit_members(experiment: Experiment, run: Path) -> None:
    """Fit every member, or go on where an interrupted run stopped.

    Raises
    ------
    ValueError
        The folder holds a run on other data, or the weights or the device cannot be had.
    """
    run.mkdir(parents=True, exist_ok=True)
    _refuse_other(experiment, run)
    (run / "experiment.json").write_text(json.dumps(experiment.as_dict(), indent=1) + "\n")
    fit, device = experiment.fit, device_of(experiment.fit.device)
    start = _start(experiment, run)  # first, since its weights may not be had
    split = learnt(experiment, run)
    shown = flat(split.views)
    trunk = _adapted(start, experiment, shown, split.positives, run)
    kept = {
        name: front_features(trunk, fit.frozen_blocks, pictures, run / "data" / f"features-{name}.npy", device=device)
        for name, pictures in (
            ("views", shown),
            ("negatives", split.negatives),
            ("positives", split.positives),
            ("edits", flat(split.edits)),
            ("ordered", split.ordered),
        )
    }
    features = Features(
        views=_by(kept["views"], split.views),
        profiles=_by(profiles(shown), split.views),
        fat_fraction=np.asarray(split.fat_fraction),
        negatives=kept["negatives"],
        positives=kept["positives"],
        edits=_by(kept["edits"], split.edits),
        edit_profiles=_by(profiles(flat(split.edits)), split.edits),
        edit_points=np.asarray(split.edit_points),
        ordered=kept["ordered"],
        order_profiles=profiles(split.ordered),
        order=_standard(np.asarray(split.order)),
    )
    for index in range(fit.members):
        fit_member(index, fit, trunk, features, run / f"member-{index}.pt")


def _refuse_other(experiment: Experiment, run: Path) -> None:
    """Raise ValueError where what a run has rendered is of other data: its card would tell of these."""
    path = run / "experiment.json"
    if not path.exists():
        return
    wanted: dict[str, Any] = json.loads(json.dumps(experiment.as_dict()))
    found = json.loads(path.read_text(encoding="utf-8"))
    for table, decisive in (("data", RENDERED), ("fit", STARTED)):
        for name in decisive:
            before, now = found[table].get(name, wanted[table][name]), wanted[table][name]
            if before != now:
                raise ValueError(
                    f"{run} was begun with {name} {before!r}, not {now!r}; choose another folder with --run, or "
                    "remove it."
                )


def _start(experiment: Experiment, run: Path) -> Trunk:
    """Return the trunk as it starts, or as an interrupted run had fitted it."""
    fit, kept = experiment.fit, run / "trunk.pt"
    if not kept.exists():
        return trunk_with(fit.trunk, fit.weights, seed=fit.seed)
    trunk = new_trunk(fit.trunk)
    with reading(kept):
        trunk.load_state_dict(torch.load(kept, weights_only=True))
    return trunk.eval()


def _adapted(trunk: Trunk, experiment: Experiment, shown: np.ndarray, positives: np.ndarray, run: Path) -> Trunk:
    """Fit the trunk's front to the grey statistics of our pictures, unless an interrupted run has."""
    fit, kept = experiment.fit, run / "trunk.pt"
    if kept.exists():
        return trunk
    both = np.concatenate([shown[:: max(1, len(shown) // ADAPTED_TO)][:ADAPTED_TO], positives])
    return fitted_trunk(trunk, fit.frozen_blocks, both, kept, seed=fit.seed, device=device_of(fit.device))


def _standard(scores: np.ndarray) -> np.ndarray:
    return (scores - scores.mean()) / scores.std() if len(scores) else scores


def _by(flattened: np.ndarray, pictures: np.ndarray) -> np.ndarray:
    """Return what was made of flattened pictures by patient or frame again, [A, B, ...]."""
    return flattened.reshape(*pictures.shape[:2], *flattened.shape[1:])


def export_bundle(experiment: Experiment, run: Path, folder: Path) -> None:
    """Write graphs, golden vectors, calibration, figures and card into a bundle folder."""
    size, wanted = experiment.data.size, experiment.bundle
    members = [read_member(run / f"member-{index}.pt") for index in range(experiment.fit.members)]
    views = Draw.held_out(experiment.data, "test").study(size)
    cases = [views(0)[0][:3].astype(np.float32), views(1)[0][3:].astype(np.float32)]
    parts = {
        "name": wanted.name,
        "version": wanted.version,
        "license": "Apache-2.0",
        "created": dt.datetime.now(dt.UTC).date().isoformat(),
        "research_use_only": True,
        "input": {"channels": len(MEAN), "height": size, "width": size, "mean": list(MEAN), "std": list(STD)},
        **write_members(members, size, cases, folder),
        "expected_views": wanted.expected_views,
        "cut_offs": {"percent": list(PDFF_CUT_OFFS), "source": CUT_OFF_SOURCE},
        "training_data": training_data(experiment, learnt(experiment, run), fitted_on(run / "member-0.pt")),
    }
    (run / "parts.json").write_text(json.dumps(parts, indent=1) + "\n")


def calibrate_bundle(experiment: Experiment, run: Path, folder: Path) -> None:
    """Calibrate the exported graphs and write `bundle.json`, as yet without figures."""
    parts = json.loads((run / "parts.json").read_text())
    members = [(folder / entry["file"]).read_bytes() for entry in parts["members"]]
    parts |= calibrated(members, experiment, run / "looked")
    write_description(folder, {**parts, "metrics": {}})
    (run / "parts.json").write_text(json.dumps(parts, indent=1) + "\n")


def gate_bundle(experiment: Experiment, run: Path, folder: Path) -> dict[str, Any]:
    """Fit the liver gate of the exported graphs on more frames than members see, and choose its threshold."""
    run.mkdir(parents=True, exist_ok=True)
    passed = regate(folder, experiment.data, experiment.bundle.version, frames_in=run, workers=experiment.fit.threads)
    kept = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    parts = {name: value for name, value in kept.items() if name not in (*WRITTEN, "metrics")}
    (run / "parts.json").write_text(json.dumps(parts, indent=1) + "\n")
    (run / "gate.json").write_text(json.dumps(passed, indent=1) + "\n")
    return passed


def evaluate_bundle(experiment: Experiment, run: Path, folder: Path) -> dict[str, Any]:
    """Evaluate the bundle on the test split; write the figures into `bundle.json` and the model card."""
    parts = json.loads((run / "parts.json").read_text())
    gate = json.loads((run / "gate.json").read_text())
    metrics, predictions = describe(folder, parts, experiment, run / "looked", gate)
    write_predictions(run / "predictions.csv", predictions)
    fresh_drift_reference(folder, DRIFT_PATIENTS, DRIFT_SEED, workers=experiment.fit.threads)
    return metrics


def training_data(experiment: Experiment, train: Split, device: str) -> dict[str, Any]:
    """Return the training data card; `device` says what members were fitted on."""
    data, fit = experiment.data, experiment.fit
    return {
        "kind": "synthetic phantoms (training.phantom); no patient with a known fat fraction",
        "patients": {
            "train": data.train_patients,
            "calibration": data.calibration_patients,
            "test": data.test_patients,
        },
        "views_per_patient": 4,
        "trimmed": data.trimmed,
        "trimmed_held_out": data.trimmed_held_out,
        "phased": data.phased,
        "heavy": data.heavy,
        "seeds": {"data": data.seed, "fit": fit.seed},
        "folds": fit.folds,
        "fat_fraction_percent": "grades drawn evenly, uniform within a grade, 0.5 to 42",
        "negatives": len(train.negatives),
        "real_frames": {
            "set": "Annotated Ultrasound Liver images (Xu et al. 2023, doi 10.1093/bib/bbac569, CC BY 4.0)",
            "used_for": "both sides of the liver-likeness output (as they are; with hearts carved in or parts changed "
            "about), grey statistics, differences between edits of one frame, and the order of frames by brightness, "
            "fall over depth, contrast and spread of the outlined liver; they have no steatosis labels and none was "
            "used",
            "edits_of_each": data.edits,
            "order_weight": fit.order_weight,
            "train": len(train.positives),
            "held_out": f"every {AUL_HELD_OUT}th frame, and as many to choose the gate's threshold",
        },
        "backbone": {**described(fit.trunk, fit.weights), "frozen_blocks": fit.frozen_blocks},
        "epochs": fit.epochs,
        "fitted_on": device,
        "notes": list(experiment.bundle.notes),
    }
