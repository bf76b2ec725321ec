"""A finished bundle calibrated for a cohort of patients: what it says is judged out of fold, members and gate stay."""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from inference.bundle import Bundle, read_calibration
from inference.contract import GRADES
from training.bundle.card import write_card
from training.bundle.cohort_fit import FOLDS, Labelled, fit, why_no_fat, why_not
from training.bundle.export import WRITTEN, write_description
from training.bundle.on_cohort import fat_of, grade_of, left_out_of, prediction_of, system_of
from training.cohort.answers import Answered, answered, scored
from training.cohort.manifest import read_manifest
from training.cohort.splits import folds
from training.evaluation.figures import BINS, FIGURES, answers_of, as_plain, figures
from training.evaluation.left_out import LeftOut, counted, named
from training.evaluation.predictions import Prediction
from training.metrics import Interval, chance_error

TOLD: Final = (
    "auroc", "auroc_s2", "auroc_s3", "sensitivity", "specificity", "ece", "brier", "kappa", "mae", "bias",
    "coverage_interval", "coverage_set", "set_size",
)  # fmt: skip
MOST_NAMES: Final = 8
"""Of sites and scanners in a description."""


@dataclass(frozen=True, kw_only=True)
class Recalibrated:
    """What came of it."""

    folder: Path
    before: dict[str, Interval]
    """Figures of the bundle as it came, on all scored studies."""
    after: dict[str, Interval]
    """The same out of fold."""
    by_chance: float
    """Calibration error that perfect probabilities would show on so many."""
    predictions: list[Prediction]
    """Out of fold."""
    left_out: list[LeftOut]
    record: dict[str, Any]
    """What the description says of the cohort."""


def recalibrate_on(
    folder: Path, manifest: Path, version: str, keep: Path, *, out: Path | None = None, about: str = ""
) -> Recalibrated:
    """Calibrate a bundle for a cohort, and write its description and card; members, golden vectors and gate stay.

    Parameters
    ----------
    folder
        Of the bundle; changed in place unless `out` is given.
    manifest
        Of the cohort.
    version
        Of the changed bundle; another than it has.
    keep
        Folder that keeps the members' answers.
    out
        Folder that is made, and holds the changed bundle.
    about
        The cohort in a few words, for the card.

    Raises
    ------
    BundleError
        The folder is no bundle, or is not whole.
    ValueError
        The manifest is wrong, the version is the bundle's own, `out` exists, or there are too few patients, or of one
        kind only. Nothing is changed then.
    """
    bundle = _to_change(folder, version, out)
    found = answered(folder, read_manifest(manifest), keep)
    answers = list(scored(found))
    cohort = _labelled(answers, bundle)
    patients = cohort.first_of_each() if answers else cohort
    left_out = list(left_out_of(found, bundle))
    if reason := why_not(patients):
        raise ValueError(f"{manifest} cannot be calibrated on: {reason}.{_refused(found, answers, left_out)}")
    no_fat = why_no_fat(patients)
    base = bundle.description["calibration"]
    before = [prediction_of(one, bundle, bundle.calibration, system_of(bundle)) for one in answers]
    predictions = list(_out_of_fold(answers, cohort, patients, bundle, f"{bundle.name} {version}", fat=not no_fat))
    after = answers_of(predictions)
    record = _record(found, answers, bundle, about, no_fat)
    done = Recalibrated(
        folder=out or folder,
        before=figures(answers_of(before, operating_point=bundle.steatosis_operating_point)),
        after=figures(after),
        by_chance=chance_error(after.steatosis, BINS),
        predictions=predictions,
        left_out=left_out,
        record=record,
    )
    if out is not None:
        shutil.copytree(folder, out)
    _write(done, fit(patients, base, fat=not no_fat), version)
    return done


def _to_change(folder: Path, version: str, out: Path | None) -> Bundle:
    bundle = Bundle.load(folder)
    if version == bundle.version:
        raise ValueError(f"{folder} is version {version} already; give what is calibrated anew a version of its own.")
    if out is not None and out.exists():
        raise ValueError(f"{out} exists; name a folder that does not.")
    return bundle


def _refused(found: Sequence[Answered], answers: Sequence[Answered], left_out: Sequence[LeftOut]) -> str:
    refusals = counted(left_out)
    return f" {len(found) - len(answers)} of {len(found)} studies were refused ({refusals})." if refusals else ""


def _labelled(answers: Sequence[Answered], bundle: Bundle) -> Labelled:
    fat = [fat_of(one.row) for one in answers]
    return Labelled(
        outputs=[one.answer.outputs for one in answers],
        views=np.array([one.answer.views for one in answers], int),
        grades=np.array([grade_of(one.row, bundle) for one in answers], int),
        fat=np.array([math.nan if value is None else value for value in fat], float),
        patients=np.array([one.row.patient for one in answers], str),
    )


def _out_of_fold(
    answers: Sequence[Answered], cohort: Labelled, patients: Labelled, bundle: Bundle, system: str, *, fat: bool
) -> Iterator[Prediction]:
    """Yield every study's prediction by what was fitted to other patients' first studies, in the manifest's order."""
    base = bundle.description["calibration"]
    fold = folds(patients.patients.tolist(), patients.grades.tolist(), FOLDS)
    fitted = [
        read_calibration(fit(patients.some(fold != number), base, fat=fat)["calibration"]) for number in range(FOLDS)
    ]
    of_patient = dict(zip(patients.patients.tolist(), fold.tolist(), strict=True))
    for one, patient in zip(answers, cohort.patients.tolist(), strict=True):
        number = int(of_patient[patient])
        yield prediction_of(one, bundle, fitted[number], system, number)


def _record(
    found: Sequence[Answered], answers: Sequence[Answered], bundle: Bundle, about: str, no_fat: str
) -> dict[str, Any]:
    """Return what `bundle.json` says of the cohort: counts, and words of sites and scanners; nobody's name."""
    earlier = bundle.description.get("calibrated_on", {})
    grades = Counter(grade_of(one.row, bundle) for one in answers)
    fat_from = earlier.get("fat_fraction_from", "phantoms")
    return {
        "about": about,
        "patients": len({one.row.patient for one in answers}),
        "studies": len(answers),
        "refused": len(found) - len(answers),
        "grades": {name: grades[grade] for grade, name in enumerate(GRADES)},
        "fat_fraction_measured": sum(fat_of(one.row) is not None for one in answers),
        "label_sources": _names(one.row.label_source for one in answers),
        "sites": _names(one.row.site or "unknown" for one in answers),
        "scanners": _names(one.row.scanner or "unknown" for one in answers),
        "views": _names(str(one.answer.views) for one in answers),
        "folds": FOLDS,
        "grades_from": "the cohort",
        "fat_fraction_from": fat_from if no_fat else "the cohort",
        "fat_fraction_kept_since": no_fat,
        "members_of": bundle.version,
        "phantom_figures_of": earlier.get("phantom_figures_of", bundle.version),
    }


def _names(values: Iterator[str]) -> dict[str, int]:
    counts = Counter(values).most_common()
    shown = dict(sorted(counts[:MOST_NAMES]))
    rest = sum(count for _, count in counts[MOST_NAMES:])
    return {**shown, f"{len(counts) - MOST_NAMES} others": rest} if rest else shown


def _write(done: Recalibrated, fitted: dict[str, Any], version: str) -> None:
    described = json.loads((done.folder / "bundle.json").read_text(encoding="utf-8"))
    parts = {name: value for name, value in described.items() if name not in WRITTEN}
    slope = parts["calibration"]["fat_fraction"]["slope"]
    parts |= fitted | {"version": version, "calibrated_on": done.record}
    if not done.record["fat_fraction_kept_since"] and "repeatability" in parts:
        ratio = fitted["calibration"]["fat_fraction"]["slope"] / slope
        parts["repeatability"] = _stretched(parts["repeatability"], ratio)
    parts["metrics"]["cohort"] = {
        "before": as_plain(done.before),
        "out_of_fold": as_plain(done.after),
        "calibration_error_by_chance": done.by_chance,
    }
    write_description(done.folder, parts)
    write_card(done.folder)


def _stretched(repeatability: dict[str, Any], ratio: float) -> dict[str, Any]:
    """Return repeatability under another line: differences of two exams grow as its slope does."""
    note = "carried over by the line fitted to a cohort"
    conditions = str(repeatability["conditions"])
    return repeatability | {
        "fat_fraction_percent": ratio * repeatability["fat_fraction_percent"],
        **{
            name: [ratio * value for value in repeatability[name]]
            for name in ("fat_fraction_percent_interval", "same_scanner_percent")
        },
        "conditions": conditions if conditions.endswith(note) else f"{conditions}; {note}",
    }


def lines(done: Recalibrated) -> Iterator[str]:
    """Say what came of it: figures before and out of fold, and what stayed as it was."""
    record = done.record
    yield f"{record['studies']} studies of {record['patients']} patients, {record['refused']} refused"
    yield from named(done.left_out)
    yield f"{'':46} {'as it came':>24} {'out of fold':>24}"
    for name in TOLD:
        yield f"{FIGURES[name][0]:46} {_interval(done.before[name]):>24} {_interval(done.after[name]):>24}"
    yield f"{'Calibration error of perfect probabilities':46} {'':>24} {done.by_chance:>24.3f}"
    if record["fat_fraction_kept_since"]:
        yield (
            f"fat fraction: line and interval stay as they came, fitted to {record['fat_fraction_from']}, since "
            f"{record['fat_fraction_kept_since']}"
        )
    if absent := [name for name, count in record["grades"].items() if not count]:
        yield f"nobody had {', '.join(absent)}: what is said of such patients is not calibrated"
    if done.after["auroc"][1] <= 0.5:
        yield "steatosis is told no better than by chance on these patients; calibration does not mend that"
    yield f"{done.folder} is written; members and gate are as they came"
    yield f"reference.json is now to be made anew: python -m training drift-reference --bundle {done.folder}"


def _interval(value: Interval) -> str:
    return "–" if math.isnan(value[0]) else "{:.3f} ({:.3f}–{:.3f})".format(*value)
