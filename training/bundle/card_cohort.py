"""What a bundle's card says where it was calibrated on a cohort, and in its place where it was not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

NOTHING_KNOWN: Final = "nothing here is known about\npatients."
ON_PHANTOMS: Final = (
    "A straight line on the fat fraction, split-conformal intervals and adaptive grade sets; all on the calibration "
    "patients,\nintervals, sets and scaling for each number of views by itself. Coverage is promised for patients and "
    "scanners like those\ncalibrated on."
)
_ROWS: Final = {
    "auroc": "AUROC ≥ S1",
    "auroc_s2": "AUROC ≥ S2",
    "auroc_s3": "AUROC S3",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "ece": "Calibration error of P(≥ S1)",
    "mae": "Fat fraction, mean absolute error (points)",
    "bias": "Fat fraction, bias (points)",
    "coverage_interval": "Interval: coverage",
    "coverage_set": "Grade set: coverage",
}


def known(description: Mapping[str, Any]) -> str:
    """Say behind the phantoms' labels what is known about patients."""
    record = description.get("calibrated_on")
    if record is None or set(record["label_sources"]) == {"phantom"}:
        return NOTHING_KNOWN
    return (
        f"of patients it is known\nonly how it was calibrated on {record['patients']} of one cohort (see Calibration)."
    )


def figures_note(description: Mapping[str, Any]) -> str:
    """Say of the phantoms' figures that they were made with another calibration; empty where they were not."""
    record = description.get("calibrated_on")
    if record is None:
        return ""
    return (
        f"**They are those of version {record['phantom_figures_of']}, before it was calibrated on a cohort; what holds "
        "for that stands under Calibration.**\n"
    )


def calibrated(description: Mapping[str, Any]) -> str:
    """Say how and on whom it was calibrated."""
    record = description.get("calibrated_on")
    if record is None:
        return ON_PHANTOMS
    figures = description["metrics"]["cohort"]
    by_chance = figures["calibration_error_by_chance"]
    rows = [
        f"| {title} | {_figure(figures['before'][name])} | {_figure(figures['out_of_fold'][name])} |"
        for name, title in _ROWS.items()
    ]
    return "\n".join(
        [
            _whom(record),
            "",
            "- Grades: one temperature and an offset a grade on top of what it came with, the sets' threshold and the "
            "operating point, on the cohort.",
            f"- Fat fraction: {_fat(record)}",
            *_absent(record),
            "",
            f"Figures out of fold ({record['folds']} folds by patient; nobody is judged by what was fitted to them), "
            "with 95 % bootstrap intervals over patients:",
            "",
            f"| | version {record['members_of']}, as it came | calibrated, out of fold |",
            "|---|---|---|",
            *rows,
            "",
            f"By chance perfect probabilities would show a calibration error of {by_chance:.3f} on so many. They hold",
            "where steatosis is as frequent as in this cohort; coverage for patients and scanners like these, over its "
            "mix of numbers of views.",
        ]
    )


def youden_on(description: Mapping[str, Any]) -> str:
    """Say on whom the operating point was chosen."""
    return "the calibration patients" if "calibrated_on" not in description else "the cohort, out of fold"


def _whom(record: Mapping[str, Any]) -> str:
    grades = ", ".join(f"{grade} {count}" for grade, count in record["grades"].items())
    told = "; ".join(
        f"{what} {', '.join(f'{name} ({count})' for name, count in record[key].items())}"
        for what, key in (("labels", "label_sources"), ("sites", "sites"), ("scanners", "scanners"), ("views", "views"))
    )
    about = f": {record['about']}" if record["about"] else ""
    return (
        f"**Calibrated on a cohort{about}.** {record['studies']} studies of {record['patients']} patients ({grades}); "
        f"{told}.\nRefused, as serving would, and in no figure: {record['refused']} studies. Each patient's first "
        "study was fitted to. Members and gate are as they came."
    )


def _fat(record: Mapping[str, Any]) -> str:
    if record["fat_fraction_kept_since"]:
        return (
            f"line and interval stay as they came, fitted to {record['fat_fraction_from']}: "
            f"{record['fat_fraction_kept_since']}."
        )
    return (
        "a straight line, and a factor on each end of the interval, on the patients with a measured fat fraction "
        f"({record['fat_fraction_measured']} studies)."
    )


def _absent(record: Mapping[str, Any]) -> list[str]:
    absent = [name for name, count in record["grades"].items() if not count]
    return [f"- Nobody had {', '.join(absent)}: what it says of such patients is not calibrated."] if absent else []


def _figure(value: list[float | None]) -> str:
    middle, low, high = value
    if middle is None or low is None or high is None:
        return "–"
    digits = 3 if abs(middle) <= 1 else 2
    return f"{middle:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"
