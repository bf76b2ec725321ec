"""A system from start to figures: every fold's members fitted, patients left out scored, answers calibrated."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from inference.ensemble import grade_set
from training.bundle.calibrate import fat_line, fit_scaling, grade_threshold, interval_quantiles, probabilities
from training.cohort.examples import Examples
from training.cohort.splits import folds, held_back, refuse_leaks
from training.evaluation.predictions import EXTERNAL, Prediction, write_predictions
from training.keeping import reading, whole
from training.systems.configuration import SETTINGS, Experiment, System
from training.systems.fewer import fewer_views, names
from training.systems.fit import answers, fit_network, fitted_network
from training.systems.runtime import Runtime

COVERAGE: Final = 0.9
LEAST_TO_CALIBRATE: Final = 20
"""Patients; with fewer, conformal ranks say nothing."""
LEAST_TO_LEARN: Final = 2
"""Patients of the learning side of a fold."""
_WORDS: Final = {
    "folds": "number of folds",
    "fit": "way of fitting",
    "home": "cohort",
    "external": "external site",
}
"""What messages call the parts of a run's settings."""


@dataclass(frozen=True, kw_only=True)
class Raw:
    """Answers of a system's members before calibration, to patients that none of them was fitted on."""

    logits: np.ndarray
    """[N, members, 4]."""
    fat_fraction: np.ndarray
    """[N, members]."""


def cross_validate(
    experiment: Experiment,
    home: Examples,
    external: Examples | None,
    count: int,
    run: Path,
    where: Runtime,
    *,
    labels: Mapping[str, str] | None = None,
) -> Path:
    """Fit and score every fold, or go on where an interrupted run stopped; returns the path of the predictions.

    External patients are scored by the first fold's members, one model as it would be handed over, and calibrated on
    all home patients.

    Parameters
    ----------
    home, external
        Patients for the folds, and of another site.
    count
        Number of folds; 0 leaves one patient out at a time.
    run
        Run folder: settings, a folder a fold and member with its best weights and answers, and `predictions.csv`.
    labels
        What the table calls the folds and the external site; None for the phantom benchmark.

    Raises
    ------
    ValueError
        The folder holds a run of other settings or patients, there are more folds than patients, or a patient is at
        both sites.
    """
    fold = split(experiment, home, external, count)
    _claim(run, experiment, home, external, count, where, labels or {})
    shown = home.with_views(experiment.system.views)
    stranger = None if external is None else external.with_views(experiment.system.views)
    parts, outside = [], []
    for number in range(fold.max() + 1):
        own, left_out = shown.some(fold != number), shown.some(fold == number)
        refuse_leaks(fitted=[*own.patients], left_out=[*left_out.patients])
        scored = [
            _member(experiment, own, left_out, stranger if number == 0 else None, run, where, number, member)
            for member in range(experiment.system.members)
        ]
        parts.append(Raw(**{name: np.stack([s[name] for s in scored], axis=1) for name in ("logits", "fat_fraction")}))
        if number == 0 and stranger is not None:
            outside = [np.stack([s[f"external_{name}"] for s in scored], axis=1) for name in ("logits", "fat_fraction")]
    raw = Raw(
        logits=_by_fold([p.logits for p in parts], fold), fat_fraction=_by_fold([p.fat_fraction for p in parts], fold)
    )
    found = predictions(experiment.system, shown, raw, fold)
    if stranger is not None:
        away = Raw(logits=outside[0], fat_fraction=outside[1])
        found += external_predictions(experiment.system, shown, raw, stranger, away)
    path = run / "predictions.csv"
    if where.leads:
        write_predictions(path, found)
    return path


def split(experiment: Experiment, home: Examples, external: Examples | None, count: int) -> np.ndarray:
    """Return the fold of each home study, int [N]; `count` 0 leaves one patient out at a time.

    Raises
    ------
    ValueError
        There are too few patients, or one is at both sites.
    """
    patients = [str(name) for name in home.patients]
    if external is not None:
        refuse_leaks(home=patients, external=[str(name) for name in external.patients])
    fold = folds(patients, home.grades, count or len(set(patients)), seed=experiment.fit.seed)
    fewest = min(len({name for name, own in zip(patients, fold, strict=True) if own != left}) for left in set(fold))
    if fewest < LEAST_TO_LEARN:
        raise ValueError(
            f"With {fold.max() + 1} folds of {len(set(patients))} patients a fold learns from {fewest}; it needs "
            f"{LEAST_TO_LEARN} at least, as one of them says when to stop. Give more patients, or --folds 0."
        )
    return fold


def _claim(
    run: Path,
    experiment: Experiment,
    home: Examples,
    external: Examples | None,
    count: int,
    where: Runtime,
    labels: Mapping[str, str],
) -> None:
    """Say in the run folder what it is a run of; kept scores of anything else must never be taken for this one's."""
    of = {"folds": count, **experiment.as_dict(), "home": _digest(home), "external": _digest(external)}
    wanted: dict[str, Any] = json.loads(json.dumps(of))
    path = run / SETTINGS
    if path.exists():
        found = json.loads(path.read_text(encoding="utf-8"))
        changed = [name for name, value in wanted.items() if name in found and found[name] != value]
        if changed:
            raise ValueError(
                f"{run} holds a run with another {', another '.join(_WORDS.get(name, name) for name in changed)}; "
                "choose another folder with --runs, or remove it."
            )
    where.wait()
    if where.leads:
        run.mkdir(parents=True, exist_ok=True)
        with whole(path) as partial:
            partial.write_text(json.dumps({**wanted, "labels": dict(labels)}, indent=1) + "\n", encoding="utf-8")


def _digest(examples: Examples | None) -> str | None:
    """Return what tells these studies, their pictures and labels from others."""
    if examples is None:
        return None
    kept = (examples.views, examples.patients, examples.studies, examples.names, examples.present)
    found = 0
    for array in (*kept, examples.grades, examples.fat_fraction, examples.clinical, examples.known):
        found = zlib.crc32(np.ascontiguousarray(array), found)
    return f"{len(examples)} studies, {found:08x}"


def _member(
    experiment: Experiment,
    own: Examples,
    left_out: Examples,
    stranger: Examples | None,
    run: Path,
    where: Runtime,
    number: int,
    member: int,
) -> dict[str, np.ndarray]:
    folder = run / f"fold-{number}" / f"member-{member}"
    kept = folder / "scores.npz"
    if not kept.exists():
        where.say(f"{experiment.system.name}: fold {number + 1}, member {member + 1} of {experiment.system.members}")
        seed = experiment.fit.seed + 100 * number + member
        stop = held_back([str(name) for name in own.patients], experiment.fit.held_back, seed=seed)
        network = fit_network(experiment, own.some(~stop), own.some(stop), folder, where, seed=seed)
        logits, fat, weights = answers(network, left_out, where)
        found = {"logits": logits, "fat_fraction": fat, "view_weights": weights}
        if stranger is not None:
            found["external_logits"], found["external_fat_fraction"], _ = answers(network, stranger, where)
        _keep_scores(kept, found | fewer_views(network, left_out, where, seed=experiment.fit.seed + number), where)
    found = _scores(kept)
    if not all(name in found for pair in names(left_out.present.shape[1]).values() for name in pair):
        # A run from before answers with fewer views were kept: its weights are, so nothing is fitted again.
        network = fitted_network(experiment, folder).to(where.device)
        found |= fewer_views(network, left_out, where, seed=experiment.fit.seed + number)
        _keep_scores(kept, found, where)
    return found


def _keep_scores(kept: Path, found: Mapping[str, np.ndarray], where: Runtime) -> None:
    if where.leads:
        with whole(kept) as partial:
            np.savez(partial, **found)
        (kept.parent / "last.pt").unlink(missing_ok=True)  # the best is kept; optimiser states are three times as large
    where.wait()


def _scores(kept: Path) -> dict[str, np.ndarray]:
    with reading(kept), np.load(kept) as scores:
        return {name: scores[name] for name in scores.files}


def _by_fold(parts: list[np.ndarray], fold: np.ndarray) -> np.ndarray:
    whole = np.zeros((len(fold), *parts[0].shape[1:]), np.float32)
    for number, part in enumerate(parts):
        whole[fold == number] = part
    return whole


def predictions(system: System, examples: Examples, raw: Raw, fold: np.ndarray) -> list[Prediction]:
    """Return calibrated answers; each fold is calibrated on the answers to the other folds' patients."""
    found: list[Prediction] = []
    for number in range(fold.max() + 1):
        own = fold == number
        found += _calibrated(system, number, examples.some(~own), _some(raw, ~own), examples.some(own), _some(raw, own))
    return found


def external_predictions(
    system: System, home: Examples, raw: Raw, external: Examples, outside: Raw
) -> list[Prediction]:
    """Return answers to another site's patients, calibrated on all home patients."""
    return _calibrated(system, EXTERNAL, home, raw, external, outside)


def _some(raw: Raw, chosen: np.ndarray) -> Raw:
    return Raw(logits=raw.logits[chosen], fat_fraction=raw.fat_fraction[chosen])


def _calibrated(
    system: System, fold: int | str, fitted: Examples, fitted_raw: Raw, shown: Examples, shown_raw: Raw
) -> list[Prediction]:
    grades = np.asarray(fitted.grades, int)
    scaling = fit_scaling(fitted_raw.logits, grades)
    probability = probabilities(shown_raw.logits, *scaling)
    threshold = None
    if len(grades) >= LEAST_TO_CALIBRATE:
        threshold = grade_threshold(probabilities(fitted_raw.logits, *scaling), grades, COVERAGE)
    estimate, ends = _fat(fitted, fitted_raw, shown_raw)
    known = shown.plain_clinical
    return [
        Prediction(
            system=system.title,
            patient=str(shown.patients[index]),
            study=str(shown.studies[index]),
            fold=fold,
            site=str(shown.sites[index]),
            scanner=str(shown.scanners[index]),
            sex={1.0: "F", 0.0: "M"}.get(known[index].get("sex_female", math.nan), ""),
            age_years=known[index].get("age_years"),
            body_mass_index=known[index].get("body_mass_index"),
            views=int(shown.present[index].sum()),
            grade_true=int(shown.grades[index]),
            fat_true=float(shown.fat_fraction[index]) if np.isfinite(shown.fat_fraction[index]) else None,
            probabilities=tuple(float(value) for value in probability[index] / probability[index].sum()),
            fat_estimate=None if estimate is None else float(estimate[index]),
            fat_low=None if ends is None else float(ends[0][index]),
            fat_high=None if ends is None else float(ends[1][index]),
            grade_set=None if threshold is None else grade_set(probability[index], threshold),
            limits=tuple(limits(system, shown, index)),
            readers=dict(shown.readers[index]),
        )
        for index in range(len(shown))
    ]


def limits(system: System, shown: Examples, index: int) -> Iterator[str]:
    """Say why the answer to a study is limited."""
    views = int(shown.present[index].sum())
    if views < len(system.views):
        yield f"{views} of {len(system.views)} views"
    if system.clinical and not shown.known[index].any():
        yield "no clinical data"


def _fat(
    fitted: Examples, fitted_raw: Raw, shown_raw: Raw
) -> tuple[np.ndarray | None, tuple[np.ndarray, np.ndarray] | None]:
    """Return estimates by a straight line through the fitted patients', and their interval's ends."""
    measured = np.isfinite(fitted.fat_fraction)
    if measured.sum() < LEAST_TO_CALIBRATE:
        return None, None
    raw, truth = fitted_raw.fat_fraction.mean(axis=1)[measured], fitted.fat_fraction[measured]
    slope, intercept = fat_line(raw, truth)
    estimate = np.clip(slope * shown_raw.fat_fraction.mean(axis=1) + intercept, 0.0, 100.0)
    low, high = interval_quantiles(truth - np.clip(slope * raw + intercept, 0.0, 100.0), COVERAGE)
    return estimate, (np.clip(estimate + low, 0.0, 100.0), np.clip(estimate + high, 0.0, 100.0))
