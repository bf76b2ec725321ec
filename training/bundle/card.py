"""The model card, written from `bundle.json` so that its figures are the bundle's own."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from training.bundle.card_cohort import calibrated, figures_note, known, youden_on
from training.bundle.export import WRITTEN, write_description
from training.bundle.system_card import system_card
from training.members.trunks import NO_WEIGHTS

TEMPLATE: Final = Path(__file__).parent / "model_card.md"


def write_card(folder: Path) -> None:
    """Write `MODEL_CARD.md` beside a bundle's description."""
    description = json.loads((folder / "bundle.json").read_text())
    (folder / "MODEL_CARD.md").write_text(card(description), encoding="utf-8")


def record_maps(folder: Path, found: Sequence[Mapping[str, Any]]) -> None:
    """Keep where maps lie in a finished bundle's description and card; `reference.json` is then to be made anew.

    Parameters
    ----------
    found
        Fields of `training.explain.overlap.OverlapReport`, one a set of pictures.
    """
    description = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    kept = ("name", "pictures", "studies", "share", "chance", "swapped", "p_chance", "p_swapped", "hits")
    rows = [{key: _plain(one[key]) for key in kept} for one in found]
    parts = {name: value for name, value in description.items() if name not in WRITTEN}
    write_description(folder, parts | {"metrics": description["metrics"] | {"maps": rows}})
    write_card(folder)


def _plain(value: Any) -> Any:
    """Return what JSON can hold: a figure of a single study has no other picture's map."""
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def card(description: dict[str, Any]) -> str:
    """Return the card's text: the template with the bundle's figures."""
    data, metrics = description["training_data"], description["metrics"]
    if "system" in data:
        maps = _maps(metrics.get("maps", ()))
        return system_card(description, gate=_gate(metrics["liver_gate"]), maps=maps)
    calibration = description["calibration"]
    usual = metrics[f"{description['expected_views']}_views"]
    return TEMPLATE.read_text(encoding="utf-8").format(
        name=description["name"],
        version=description["version"],
        created=description["created"],
        members=len(description["members"]),
        size=description["input"]["height"],
        expected_views=description["expected_views"],
        train=data["patients"]["train"],
        calibration=data["patients"]["calibration"],
        test=data["patients"]["test"],
        negatives=data["negatives"],
        backbone=data["backbone"]["name"],
        weights=_weights(data["backbone"]["weights"]),
        epochs=data["epochs"],
        fitted_on=data.get("fitted_on", "two CPU cores"),
        notes="".join(f"- {note}\n" for note in data["notes"]) or "None.\n",
        real_train=data["real_frames"]["train"],
        real_held_out=data["real_frames"]["held_out"],
        edits=data["real_frames"]["edits_of_each"],
        cuts=_cuts(data["real_frames"].get("cuts_of_each", 0)),
        cut_offs=" / ".join(str(value) for value in description["cut_offs"]["percent"]),
        cut_off_source=description["cut_offs"]["source"],
        trimmed=_trimmed(data),
        phased=_phased(data),
        order=_order(data["real_frames"].get("order_weight", 0.0)),
        scaling=_scaling(calibration),
        known=known(description),
        figures_note=figures_note(description),
        calibrated=calibrated(description),
        youden_on=youden_on(description),
        repeatability=_repeatability(description.get("repeatability")),
        operating_point=f"{description['operating_points']['steatosis']:.2f}",
        liver_minimum=f"{description['liver_logit_minimum']:.2f}",
        limits="{:+.1f} to {:+.1f}".format(*usual["fat_fraction_limits_of_agreement"]),
        studies=_studies(metrics),
        alone=_alone(metrics["each_view_alone"]),
        gate=_gate(metrics["liver_gate"]),
        maps=_maps(metrics.get("maps", ())),
        view_accuracy=f"{100 * metrics['each_view_alone']['view_accuracy']:.1f} %",
    )


def _weights(told: str) -> str:
    if told.startswith("ImageNet"):
        return "ImageNet weights"
    return "**random weights, no ImageNet**" if told == NO_WEIGHTS else f"weights of the {told}"


def _studies(metrics: dict[str, Any]) -> str:
    rows = (
        ("AUROC ≥ S1", lambda m: _with_interval(m["auroc_s1_or_more"])),
        ("AUROC ≥ S2", lambda m: _with_interval(m["auroc_s2_or_more"])),
        ("AUROC S3", lambda m: _with_interval(m["auroc_s3_or_more"])),
        ("Accuracy, four grades", lambda m: f"{m['accuracy']:.3f}"),
        ("Quadratic kappa", lambda m: _with_interval(m["quadratic_kappa"])),
        ("Fat fraction, mean absolute error (points)", lambda m: _with_interval(m["fat_fraction_mae"], 2)),
        ("Calibration error of P(≥ S1)", lambda m: _with_interval(m["calibration_error_steatosis"])),
        (
            "Interval: coverage, mean width (points)",
            lambda m: f"{m['interval_coverage']:.3f}, {m['interval_width']:.1f}",
        ),
        ("Grade set: coverage, mean size", lambda m: f"{m['grade_set_coverage']:.3f}, {m['grade_set_size']:.2f}"),
        ("Mean entropy of the grades (nats)", lambda m: f"{m['mean_entropy']:.3f}"),
    )
    counts = [key for key in metrics if key.endswith("_views")]
    head = "| | " + " | ".join(key.replace("_", " ").replace("1 views", "1 view") for key in counts) + " |"
    rule = "|---" * (len(counts) + 1) + "|"
    body = [f"| {title} | " + " | ".join(show(metrics[key]) for key in counts) + " |" for title, show in rows]
    return "\n".join([head, rule, *body])


def _alone(figures: dict[str, Any]) -> str:
    return "\n".join(f"| {view} | {_with_interval(area)} |" for view, area in figures["auroc_s1_or_more"].items())


def _trimmed(data: dict[str, Any]) -> str:
    learnt, held_out = (100 * data.get(name, 0.0) for name in ("trimmed", "trimmed_held_out"))
    return (
        f"Frames of {learnt:.0f} % of the patients that members learnt from, and of {held_out:.0f} % of those to "
        "calibrate and test, are trimmed to\ntheir field or cut out of it, as published sets and screenshots hold them."
    )


def _phased(data: dict[str, Any]) -> str:
    phased, heavy = (100 * data.get(name, 0.0) for name in ("phased", "heavy"))
    if not phased and not heavy:
        return ""
    return (
        f"In every split {phased:.0f} % of the patients are seen through a sector probe (a point on the skin, low "
        f"frequency), and {heavy:.0f} % have the body\nmass index of a clinic for obesity, whatever their fat.\n"
    )


def _order(weight: float) -> str:
    if not weight:
        return ""
    return (
        f"Last, members learn with weight {weight:.1f} to keep real frames **in the order** in which a straight line, "
        "fitted on phantoms, puts them by what\nan eye reads off an outlined liver: its brightness, its fall over "
        "depth, its contrast with the rest, its unevenness. Those signs are\nknown to work on patients; what they say "
        "of the frames at hand is no label.\n"
    )


def _scaling(calibration: dict[str, Any]) -> str:
    by_views = calibration.get("scaling_by_views")
    if not by_views:
        return f"Temperature {calibration['temperature']:.2f} for any number of views."
    told = ", ".join(f"{entry['temperature']:.2f} with {count}" for count, entry in sorted(by_views.items()))
    return f"Vector scaling (one temperature and an offset a grade) for each number of views; temperatures {told}."


def _repeatability(found: dict[str, Any] | None) -> str:
    if not found:
        return ""
    low, high = found["fat_fraction_percent_interval"]
    return (
        f"Two exams of an unchanged phantom patient differ by less than {found['fat_fraction_percent']:.1f} points "
        f"({low:.1f}–{high:.1f}) in 95 % of cases when the scanner is another one, and by less than "
        f"{found['same_scanner_percent'][0]:.1f} on the same with other knobs; reports judge a change by the former. "
    )


def _maps(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return "Not measured."
    head = "| pictures | | on the liver | by chance | another picture's map | p against chance |\n" + "|---" * 6 + "|"
    return "\n".join([head, *(_map_row(row) for row in rows)])


def _map_row(row: Mapping[str, Any]) -> str:
    share, low, high = (f"{100 * value:.0f}" for value in row["share"])
    other = row["swapped"][0]
    cells = (
        row["name"],
        row["pictures"],
        f"{share} % ({low}–{high})",
        f"{100 * row['chance'][0]:.0f} %",
        "–" if other is None else f"{100 * other:.0f} %",
        f"{row['p_chance']:.4f}",
    )
    return "| " + " | ".join(map(str, cells)) + " |"


def _cuts(count: int) -> str:
    if not count:
        return ""
    return (
        f" The gate alone also saw {count} parts\nof each real liver frame, cut out of its sector as published "
        "sets hold them, with hearts and synthetic frames cut the same\nway against them."
    )


def _gate(figures: dict[str, Any]) -> str:
    lines = [f"phantom livers passed {_share(figures['phantom_livers_passed'])}"]
    if figures["real_livers"]:
        lines.append(f"real livers passed {_share(figures['real_livers_passed'])} of {figures['real_livers']} held out")
    if figures.get("cut_livers"):
        cut = f"cut out of their sector {_share(figures['cut_livers_passed'])} of {figures['cut_livers']}"
        lines.append(cut)
    if figures.get("phased_livers"):
        lines.append(f"through a sector probe {_share(figures['phased_livers_passed'])} of {figures['phased_livers']}")
    lines.append(f"other frames passed {_share(figures['others_passed'])} of {figures['others']}")
    return "; ".join(lines)


def _share(value: float | None) -> str:
    return "none" if value is None else f"{100 * value:.1f} %"


def _with_interval(figure: list[float], digits: int = 3) -> str:
    value, low, high = figure
    return f"{value:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"
