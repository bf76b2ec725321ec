"""From a finished run of a system to a bundle that serves: members, calibration, gate, golden vectors, figures, card.

Members are networks of the folds, one of each, five at most: so every patient taught most of them, nothing is fitted
again, and the calibration is by answers to patients left out (`training.systems.left_out`). The gate and the naming of
views are a finished bundle's. No picture of the cohort is in the bundle: golden vectors are of phantoms.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import torch

from inference.bundle import Bundle
from inference.contract import VIEWS
from inference.description import BundleError
from inference.predictor import Predictor
from inference.verify import verify
from training.bundle.card import write_card
from training.bundle.export import rounded, write_description, write_shipped
from training.bundle.fresh import Draw
from training.bundle.reexport import shipped_member
from training.bundle.reference import CUT_OFF_SOURCE
from training.cohort.examples import Examples, read_examples
from training.cohort.manifest import BIOPSY_CUT_OFFS, read_manifest
from training.evaluation.predictions import EXTERNAL, read_predictions
from training.frames.data import MEAN, STD
from training.keeping import reading
from training.members.trunks import name_of
from training.phantom.patient import PDFF_CUT_OFFS
from training.systems.configuration import SETTINGS, Experiment, Fit, System
from training.systems.fit import fitted_network
from training.systems.learnt import Learnt, read_front, read_learnt
from training.systems.left_out import AGAIN, LeftOut, NotExportableError, calibrated, read_left_out, refuse_too_few
from training.systems.own_frames import gate_figures, write_usual
from training.systems.served import Gate, Served, whole_backbone
from training.systems.table import labels_of

MOST_MEMBERS: Final = 5
"""What serving is sized for; more networks of one cohort hardly differ from these."""
GOLDEN_SEED: Final = 20261202
"""Of phantoms that are nobody's data."""
ROUNDING: Final = 0.01
"""How far a probability may move when weights are rounded to float16."""
BIOPSY_SOURCE: Final = "share of hepatocytes with fat in biopsy: Kleiner et al., Hepatology 2005;41:1313-1321"


@dataclass(frozen=True, kw_only=True)
class Run:
    """A finished run, as far as an export needs it."""

    folder: Path
    experiment: Experiment
    learnt: Learnt
    figures: dict[str, Any]
    labels: dict[str, str]
    folds: int


def read_run(folder: Path) -> Run:
    """Read what a run folder says of itself.

    Raises
    ------
    NotExportableError
        It is no run of a system, not finished, of a version that kept less, or of a system that cannot be served.
    """
    if not (folder / SETTINGS).is_file():
        raise NotExportableError(
            f"{folder} is no run of a system: it has no {SETTINGS}. Give the folder named by the system, as in "
            "RUNS/multiview, that `python -m training system` left."
        )
    with reading(folder / SETTINGS):
        kept = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        system = System(**{**kept["system"], "views": tuple(kept["system"]["views"])})
        experiment = Experiment(system=system, fit=Fit(**kept["fit"]), setting=kept["setting"])
    if system.clinical:
        raise NotExportableError(
            f"{system.name} takes clinical variables, and serving has none: a graph of a bundle takes views alone "
            "(inference/contract.py). Without them it would not be what was compared; fit and export a system of "
            "pictures alone, such as multiview, which is the same otherwise."
        )
    for name in ("figures.json", "learnt.json"):
        if not (folder / name).is_file():
            raise NotExportableError(
                f"{folder} has no {name}: it is not finished, or was run before it was kept. {AGAIN}"
            )
    with reading(folder / "figures.json"):
        figures = json.loads((folder / "figures.json").read_text(encoding="utf-8"))
    return Run(
        folder=folder,
        experiment=experiment,
        learnt=read_learnt(folder),
        figures=figures,
        labels=labels_of(folder),
        folds=len(list(folder.glob("fold-*/member-0"))),
    )


def export_system(
    run: Run,
    gate: Path,
    folder: Path,
    *,
    name: str,
    version: str,
    members: int | None = None,
    manifest: Path | None = None,
) -> dict[str, float]:
    """Write a run as a bundle folder.

    Parameters
    ----------
    gate
        A finished bundle by `python -m training reference`, whose liver gate and names of views are taken.
    folder
        Of the bundle; must not exist.
    members
        How many networks, one of each fold first; None takes one of each fold, five at most.
    manifest
        Of the run's cohort, to say what the gate makes of its frames, and to write what is usual there; None leaves
        both out.

    Returns
    -------
    dict
        By output, how far onnxruntime lies from torch on the golden vectors at most.

    Raises
    ------
    NotExportableError
        The run, the gate or the number of members does not do; nothing is left in `folder`.
    """
    if folder.exists():
        raise NotExportableError(f"{folder} is there already; choose another folder with --out, or remove it.")
    left_out = read_left_out(run.folder, run.experiment)
    refuse_too_few(left_out)
    taken = chosen_networks(run, members)
    given = _gate_bundle(gate)
    size = max(run.learnt.size, given.geometry.height)
    ready, moved = _ready(run, taken, given, size)
    own = None if manifest is None else _own_frames(manifest, run, size)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as aside:
        made = Path(aside) / folder.name
        written = write_shipped(ready, size, golden_cases(size), made)
        parts = {
            **_about(run, given, name, version, size, left_out),
            **written,
            **calibrated(left_out),
            "liver_logit_minimum": given.liver_logit_minimum,
        }
        parts["training_data"] |= {"networks": [list(pair) for pair in taken], "rounding_moves": moved}
        deviations = _finished(made, parts, own)
        made.rename(folder)
    return deviations


def _finished(made: Path, parts: dict[str, Any], own: Examples | None) -> dict[str, float]:
    """Write description and card of a folder that has graphs; return how far onnxruntime lies from torch."""
    write_description(made, parts)
    if own is not None:
        parts["metrics"]["liver_gate"] |= {"cohort": gate_figures(Bundle.load(made), own)}
        write_description(made, parts)
        write_usual(made, own)
    write_card(made)
    found = verify(Predictor.open(made, backend="onnxruntime"))
    if not found.ok:
        raise NotExportableError(f"onnxruntime does not compute what torch does: {found.worst}.")
    return dict(found.deviations)


def _own_frames(manifest: Path, run: Run, size: int) -> Examples:
    """Read the run's cohort at the size of the bundle's input."""
    examples, _ = read_examples(read_manifest(manifest), size)
    of_run = {one.study for one in read_predictions(run.folder / "predictions.csv") if one.fold != EXTERNAL}
    if set(examples.studies.tolist()) != of_run:
        raise NotExportableError(f"{manifest} is not the cohort of {run.folder}: it has other studies.")
    return examples


def chosen_networks(run: Run, members: int | None = None) -> list[tuple[int, int]]:
    """Return fold and member of each network: of the first fold the first, of the second the second, and so on."""
    own = run.experiment.system.members
    count = members or min(max(run.folds, own), MOST_MEMBERS)
    if not own <= count <= run.folds * own:
        raise NotExportableError(
            f"{count} members: {run.folder} has {run.folds * own} networks, and its answers to patients left out, "
            f"which calibrate, are of {own} together. Give {own} to {run.folds * own} with --members."
        )
    return sorted((place % run.folds, (place % run.folds + place // run.folds) % own) for place in range(count))


def _gate_bundle(folder: Path) -> Bundle:
    try:
        given = Bundle.load(folder)
    except BundleError as error:
        raise NotExportableError(f"{folder} cannot give the gate: {error.cause} ({error.remedy})") from error
    if given.geometry.mean != MEAN or given.geometry.std != STD:
        raise NotExportableError(f"{folder} cannot give the gate: its input is normalised otherwise than the system's.")
    return given


def _ready(run: Run, taken: Sequence[tuple[int, int]], given: Bundle, size: int) -> tuple[list[Served], float]:
    """Return the members as they ship, and how far rounding their weights moves a probability at most."""
    try:
        trunk = name_of(given.description["training_data"]["backbone"]["name"])
        gates = [shipped_member(content, trunk) for content in given.members]
        frozen = run.experiment.fit.frozen_blocks
        front = read_front(run.folder) if frozen else None
        networks = [fitted_network(run.experiment, run.folder / f"fold-{f}" / f"member-{m}") for f, m in taken]
    except FileNotFoundError as error:
        raise NotExportableError(
            f"{error.filename} is missing, without which nothing can be exported. {AGAIN}"
        ) from error
    except (KeyError, ValueError) as error:
        raise NotExportableError(f"{given.folder} cannot give the gate, or {run.folder} no network: {error}") from error
    ready, moved = [], 0.0
    for place, network in enumerate(networks):
        # Serving takes the members' mean: as many members as the gate has share it out, else each carries all of it.
        own = [gates[place]] if len(gates) == len(networks) else gates
        served = Served(
            network,
            whole_backbone(network.backbone, front, frozen),
            Gate(own, size, given.geometry.height),
            kinds_of(run.learnt),
            given=size,
            size=run.learnt.size,
        ).eval()
        moved = max(moved, _rounding(served, golden_cases(size)))
        ready.append(served)
    if not moved <= ROUNDING:
        raise NotExportableError(
            f"Rounded to float16, as bundles keep weights, a network's probabilities move by {moved:.3f}; they may by "
            f"{ROUNDING}. Fit with more weight_decay or a smaller learning_rate."
        )
    return ready, moved


def _rounding(served: Served, cases: Sequence[np.ndarray]) -> float:
    """Round a member in place; return how far a probability of a study or a view of it moved at most."""

    def told() -> torch.Tensor:
        with torch.no_grad():
            said = [served(torch.from_numpy(case)) for case in cases]
        logits = [part for one in said for part in (one.grade_logits[None], one.view_grade_logits)]
        return torch.cat(logits).softmax(dim=-1)

    before = told()
    rounded(served)
    return float((told() - before).abs().max())


def kinds_of(learnt: Learnt) -> tuple[str, ...]:
    """Return the views that a system learnt from; none where its cohort left some unnamed: all may be of them."""
    return () if learnt.views.get("") else tuple(name for name in VIEWS if learnt.views.get(name))


def golden_cases(size: int) -> list[np.ndarray]:
    """Return views [V, 3, S, S] of two phantom patients, three of one and one of another."""
    study = Draw(seed=GOLDEN_SEED).study(size)
    return [study(0)[0][:3].astype(np.float32), study(1)[0][3:].astype(np.float32)]


def _about(run: Run, given: Bundle, name: str, version: str, size: int, left_out: LeftOut) -> dict[str, Any]:
    """Return the parts of `bundle.json` that say what it is and where it comes from."""
    system, learnt = run.experiment.system, run.learnt
    biopsy = learnt.label_sources.get("biopsy", 0) * 2 > sum(learnt.label_sources.values())
    cut_offs, source = (BIOPSY_CUT_OFFS, BIOPSY_SOURCE) if biopsy else (PDFF_CUT_OFFS, CUT_OFF_SOURCE)
    counted = {str(count): int((left_out.views == count).sum()) for count in np.unique(left_out.views)}
    return {
        "name": name,
        "version": version,
        "license": "that of the cohort's owner; the gate's is " + str(given.description.get("license", "unknown")),
        "created": dt.datetime.now(dt.UTC).date().isoformat(),
        "research_use_only": True,
        "input": {"channels": len(MEAN), "height": size, "width": size, "mean": list(MEAN), "std": list(STD)},
        "expected_views": len(system.views),
        "cut_offs": {"percent": list(cut_offs), "source": source},
        "training_data": {
            "kind": "a cohort of the maker's own" if set(learnt.label_sources) != {"phantom"} else "synthetic phantoms",
            "cohort": run.labels.get("folds", ""),
            "patients": learnt.patients,
            "studies": learnt.studies,
            "grades": dict(learnt.grades),
            "fat_fraction_known": learnt.measured,
            "views": dict(learnt.views),
            "label_sources": dict(learnt.label_sources),
            "sites": learnt.sites,
            "scanners": learnt.scanners,
            "folds": run.folds,
            "system": {**run.experiment.as_dict()["system"], "setting": run.experiment.setting, "size": learnt.size},
            "labels": run.labels,
            "calibrated_on": counted,
            "gate": {"name": given.name, "version": given.version, "digest": given.digest},
            "notes": [],
        },
        "metrics": {**run.figures, "liver_gate": dict(given.description["metrics"]["liver_gate"])},
    }
