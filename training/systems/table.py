"""The comparison: each system's figures beside the published ones."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from training.evaluation.figures import answers_of, as_plain, chosen_on, figures
from training.evaluation.predictions import EXTERNAL, Prediction, read_predictions
from training.metrics import Interval
from training.systems.configuration import SETTINGS, System, names, read_system

ROW: Final = ("auroc", "accuracy", "sensitivity", "specificity", "f1", "ece")
HEAD: Final = ("AUROC", "accuracy", "sensitivity", "specificity", "F1", "ECE")
PHANTOMS: Final = {"folds": "phantoms, five-fold", EXTERNAL: "phantoms, external site"}
"""What the parts of a run of the benchmark are called."""
PERCENT: Final = ("accuracy", "sensitivity", "specificity")


def write_figures(run: Path) -> dict[str, dict[str, Interval]]:
    """Make the figures of a run's predictions, by folds and of the external site, and keep them as `figures.json`.

    The external site's operating point is the one that the home patients chose.
    """
    parts = parted(read_predictions(run / "predictions.csv"))
    points = {EXTERNAL: chosen_on(parts.get("folds", []))}
    made = {name: figures(answers_of(part, operating_point=points.get(name))) for name, part in parts.items()}
    kept = {name: as_plain(values) for name, values in made.items()}
    (run / "figures.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    return made


def parted(found: Sequence[Prediction]) -> dict[str, list[Prediction]]:
    """Return predictions of patients left out of folds, and of the external site, where there are any."""
    parts = {
        "folds": [prediction for prediction in found if prediction.fold != EXTERNAL],
        EXTERNAL: [prediction for prediction in found if prediction.fold == EXTERNAL],
    }
    return {name: part for name, part in parts.items() if part}


def table(runs: Path, setting: str) -> str:
    """Return the comparison as Markdown, with a row for each published figure, each run's folds and external site.

    Raises
    ------
    ValueError
        No system has been run in this setting.
    """
    lines = ["| system | on | " + " | ".join(HEAD) + " |", "|---" * (len(HEAD) + 2) + "|"]
    count = 0
    for name in names():
        system = read_system(name, setting).system
        kept = runs / name / "figures.json"
        if not kept.exists():
            continue
        count += 1
        made: Mapping[str, Mapping[str, Sequence[Any]]] = json.loads(kept.read_text(encoding="utf-8"))
        lines += rows(system, made, labels_of(runs / name))
    if not count:
        raise ValueError(f"{runs} holds no figures; run `python -m training system NAME --setting {setting}` first.")
    return "\n".join(lines)


def labels(count: int, manifest: Path | None, external: Path | None) -> dict[str, str]:
    """Return what the parts of a run are called: on whom, and how they were left out.

    `count` is the number of folds, 0 where one patient is left out at a time; without a manifest they are phantoms.
    """
    told = {0: "one patient left out", 5: "five-fold"}.get(count, f"{count} folds")
    home = "phantoms" if manifest is None else manifest.name
    away = PHANTOMS[EXTERNAL] if external is None else f"{external.name}, external site"
    return {"folds": f"{home}, {told}", EXTERNAL: away}


def labels_of(run: Path) -> dict[str, str]:
    """Return what the parts of a kept run are called."""
    kept = run / SETTINGS
    return (json.loads(kept.read_text(encoding="utf-8")).get("labels") if kept.exists() else None) or PHANTOMS


def rows(
    system: System, made: Mapping[str, Mapping[str, Sequence[Any]]], labels: Mapping[str, str] = PHANTOMS
) -> list[str]:
    """Return a system's rows: published, cross-validated, external."""
    lines = []
    if system.published is not None:
        published = [_plain(name, system.published.get(name)) for name in ROW]
        lines.append(f"| {system.title} | published | " + " | ".join(published) + " |")
    title = "" if lines else system.title
    for part, label in labels.items():
        if part in made:
            values = [_with_interval(name, made[part][name]) for name in ROW]
            lines.append(f"| {title} | {label} | " + " | ".join(values) + " |")
            title = ""
    return lines


def _plain(name: str, value: float | None) -> str:
    if value is None:
        return "–"
    return f"{100 * value:.0f} %" if name in PERCENT else f"{value:.2f}"


def _with_interval(name: str, value: Sequence[float | None]) -> str:
    if value[0] is None or math.isnan(value[0]):
        return "–"
    if name in PERCENT:
        middle, *ends = (100 * (part or 0.0) for part in value)
        return f"{middle:.1f} % ({ends[0]:.0f}–{ends[1]:.0f})"
    middle, *ends = (part or 0.0 for part in value)
    return f"{middle:.3f} ({ends[0]:.3f}–{ends[1]:.3f})"
