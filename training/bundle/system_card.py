"""The model card of a bundle that was exported from a run of a system; its figures are the run's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from training.evaluation.figures import FIGURES
from training.evaluation.predictions import EXTERNAL

TEMPLATE: Final = Path(__file__).parent / "system_card.md"
LEAST: Final = 20
"""Studies that a number of views must have to be calibrated by itself, as `training.systems.crossval` has it."""
_FUSION: Final = {
    "none": "their mean",
    "attention": "attention pooling",
    "transformer": "a transformer without positions",
}


def system_card(description: Mapping[str, Any], *, gate: str, maps: str) -> str:
    """Return the card's text; `gate` and `maps` are what `training.bundle.card` says of them."""
    data = description["training_data"]
    system, interval = data["system"], description["calibration"]["fat_fraction_interval"]
    coverage = interval["coverage"]
    return TEMPLATE.read_text(encoding="utf-8").format(
        name=description["name"],
        version=description["version"],
        created=description["created"],
        system=system["name"],
        title=system["title"],
        labels_warning=_warning(data),
        members=len(description["members"]),
        backbone=system["backbone"],
        weights="random weights at the start" if not system["weights"] else "ImageNet weights at the start",
        pooling="attention" if system["attention"] else "the mean",
        fusion=_FUSION[system["fusion"]],
        input=description["input"]["height"],
        size=system["size"],
        resampled=_resampled(description["input"]["height"], system["size"]),
        networks=", ".join(f"fold {fold + 1} member {member + 1}" for fold, member in data["networks"]),
        rounding=f"{data['rounding_moves']:.4f}",
        kinds=_kinds(data["views"]),
        gate_name=data["gate"]["name"],
        gate_version=data["gate"]["version"],
        gate_digest=data["gate"]["digest"][:12],
        gate=gate,
        gate_here=_gate_here(description["metrics"]["liver_gate"].get("cohort")),
        liver_minimum=f"{description['liver_logit_minimum']:.2f}",
        cohort=data["cohort"],
        patients=data["patients"],
        studies=data["studies"],
        grades=_counted(data["grades"]),
        measured=data["fat_fraction_known"],
        sources=_counted(data["label_sources"]),
        sites=_sites(data["sites"], data["scanners"]),
        views=_counted({name or "not named": count for name, count in data["views"].items()}),
        notes="".join(f"- {note}\n" for note in data["notes"]),
        cut_offs=" / ".join(str(value) for value in description["cut_offs"]["percent"]),
        cut_off_source=description["cut_offs"]["source"],
        external=_external(description["metrics"], data),
        figures=_figures(description["metrics"], data["labels"]),
        calibrated_on=_calibrated_on(data["calibrated_on"]),
        coverage=f"{100 * coverage:.0f}",
        least_coverage=f"{100 * (2 * coverage - 1):.0f}",
        least=LEAST,
        answers="one network" if system["members"] == 1 else f"{system['members']} networks of one fold together",
        operating_point=f"{description['operating_points']['steatosis']:.2f}",
        maps=maps,
    )


def _warning(data: Mapping[str, Any]) -> str:
    if set(data["label_sources"]) == {"phantom"}:
        return "Every label it learnt from is a phantom's: nothing here is known about patients."
    return "Its figures are those of one cohort, by cross-validation, and of nobody else."


def _resampled(given: int, size: int) -> str:
    return "" if given == size else f", resampled in the graph from {given} × {given}, which the gate or they need"


def _gate_here(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "How that gate does on the cohort's own frames was not measured (`system-export --manifest` does)."
    named = (
        ""
        if found["named_right"] is None
        else f", and names {100 * found['named_right']:.1f} % of {found['named']} as it does"
    )
    return f"Of the cohort's own {found['frames']} frames it takes {100 * found['passed']:.1f} %{named}."


def _kinds(views: Mapping[str, int]) -> str:
    if views.get(""):
        return "The cohort did not name all of its views, so that all views of a study count.\n"
    named = ", ".join(views)
    return (
        f"It learnt from these views: {named}. Others of a study have no weight beside one of these, unless it is\n"
        "doubtful which they are; where a study has none of these, all count, though it never learnt from such.\n"
    )


def _sites(sites: int, scanners: int) -> str:
    told = [
        f"{count} {word}{'s' if count > 1 else ''}" for count, word in ((sites, "site"), (scanners, "scanner")) if count
    ]
    return f"Of {' and '.join(told)}." if told else "Sites and scanners are not named."


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _calibrated_on(counts: Mapping[str, int]) -> str:
    return "; ".join(
        f"{count} studies with {views} view{'s' if views != '1' else ''}" for views, count in counts.items()
    )


def _external(metrics: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    if EXTERNAL not in metrics:
        return "There was no external site."
    return f"Those of the external site are of the first fold's networks alone ({data['labels'][EXTERNAL]})."


def _figures(metrics: Mapping[str, Any], labels: Mapping[str, str]) -> str:
    parts = [name for name in ("folds", EXTERNAL) if name in metrics]
    head = "| | " + " | ".join(labels.get(name, name) for name in parts) + " |"
    rows = [
        f"| {title} | " + " | ".join(_with_interval(metrics[part].get(name)) for part in parts) + " |"
        for name, (title, _) in FIGURES.items()
    ]
    return "\n".join([head, "|---" * (len(parts) + 1) + "|", *rows])


def _with_interval(value: Sequence[float | None] | None) -> str:
    if value is None or value[0] is None:
        return "–"
    middle, *ends = (part or 0.0 for part in value)
    return f"{middle:.3f} ({ends[0]:.3f}–{ends[1]:.3f})"
