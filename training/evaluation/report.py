"""One HTML page, whole in itself, that a clinician can read: figures, plots, parts of the patients, explanations."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
from jinja2 import Environment, FileSystemLoader, select_autoescape

from training.evaluation import plots
from training.evaluation.figures import (
    BINS,
    FIGURES,
    Answers,
    answers_of,
    chosen_on,
    delong,
    figures,
    limits_of_agreement,
)
from training.evaluation.groups import SHOWN, Group, Reader, readers, subgroups
from training.evaluation.left_out import LeftOut, counted, named, refused
from training.evaluation.predictions import EXTERNAL, Prediction
from training.metrics import Interval, chance_error

TEMPLATE: Final = "report.html.j2"
FLATTERS: Final = "on these very patients, which flatters"
COMPARED: Final = ("auroc", "accuracy", "sensitivity", "specificity", "f1", "ece", "kappa", "mae")


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A picture and what it shows."""

    svg: str
    caption: str


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Views of one study with what the bundle saw in them."""

    title: str
    picture: str
    """Data URI."""
    caption: str
    contributions: str | None = None
    """SVG."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """One system on one set of patients."""

    system: str
    part: str
    answers: Answers = field(repr=False)
    figures: dict[str, Interval]
    operating_point: str
    plots: tuple[Plot, ...] = field(repr=False)
    groups: tuple[Group, ...]
    readers: tuple[Reader, ...]
    limited: int
    """Studies whose answer is marked limited."""

    @property
    def studies(self) -> int:
        """Number of studies."""
        return len(self.answers)

    @property
    def patients(self) -> int:
        """Number of patients."""
        return len(set(self.answers.patients))

    @property
    def ill(self) -> int:
        """Studies of grade S1 or more."""
        return int((self.answers.grades >= 1).sum())

    @property
    def floor(self) -> float:
        """Calibration error by chance alone."""
        return chance_error(self.answers.steatosis, BINS)

    @property
    def agreement(self) -> str:
        """Limits of agreement as text."""
        _, low, high = limits_of_agreement(self.answers)
        return "–" if math.isnan(low) else f"{low:+.1f} to {high:+.1f}"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Two systems' AUROC on the same patients."""

    first: str
    second: str
    part: str
    difference: float
    p: str


def sections(predictions: Sequence[Prediction], *, operating_point: float | None = None) -> list[Section]:
    """Return a section for each system, on patients left out of folds and on external ones.

    Parameters
    ----------
    operating_point
        Probability of S1 or more from which steatosis is told; None chooses it on other folds.
    """
    found = []
    for system in dict.fromkeys(prediction.system for prediction in predictions):
        own = [prediction for prediction in predictions if prediction.system == system]
        left_out = [prediction for prediction in own if prediction.fold != EXTERNAL]
        external = [prediction for prediction in own if prediction.fold == EXTERNAL]
        if operating_point is not None:
            told = f"beforehand: P(≥ S1) ≥ {operating_point:.2f}"
            parts = [
                ("patients left out", left_out, operating_point, told),
                ("external site", external, operating_point, told),
            ]
        else:
            several = len({prediction.fold for prediction in left_out}) > 1
            point = chosen_on(left_out)
            parts = [
                ("patients left out", left_out, None, "on the other folds" if several else FLATTERS),
                ("external site", external, point, FLATTERS if point is None else "on the patients left out of folds"),
            ]
        found += [_section(system, *part) for part in parts if part[1]]
    return found


def _section(system: str, part: str, chosen: Sequence[Prediction], operating_point: float | None, told: str) -> Section:
    answers = answers_of(chosen, operating_point=operating_point)
    return Section(
        system=system,
        part=part,
        answers=answers,
        figures=figures(answers),
        operating_point=told,
        plots=tuple(_plots(answers)),
        groups=tuple(subgroups(chosen, operating_point)),
        readers=tuple(readers(chosen)),
        limited=sum(bool(prediction.limits) for prediction in chosen),
    )


def _plots(answers: Answers) -> list[Plot]:
    made = [
        (plots.roc(answers), "ROC for each threshold of grade."),
        (plots.reliability(answers), "Reliability: on the line, probabilities mean what they say."),
        (plots.confusion(answers), "True grade and the likeliest one."),
        (plots.bland_altman(answers), "Bland–Altman: bias and 95 % limits of agreement of the fat fraction."),
        (plots.abstained(answers), "If the least sure studies went unanswered."),
    ]
    return [Plot(svg=svg, caption=caption) for svg, caption in made if svg is not None]


def differences(found: Sequence[Section]) -> list[Difference]:
    """Compare each system with the one before it, where both scored the same studies."""
    made = []
    for part in dict.fromkeys(section.part for section in found):
        own = [section for section in found if section.part == part]
        for second, first in pairwise(own):
            a, b = first.answers, second.answers
            same = np.array_equal(a.patients, b.patients) and np.array_equal(a.grades, b.grades)
            if not same or not 0 < (a.grades >= 1).sum() < len(a):
                continue
            difference, p = delong(a.steatosis, b.steatosis, a.grades >= 1)
            told = "< 0.001" if p < 0.001 else f"{p:.3f}"
            made.append(Difference(first=first.system, second=second.system, part=part, difference=difference, p=told))
    return made


def write_report(
    path: Path,
    found: Sequence[Section],
    *,
    title: str,
    about: str,
    limits: str,
    panels: Sequence[Panel] = (),
    clinical: Sequence[Plot] = (),
    fitted: Sequence[Plot] = (),
    left_out: Sequence[tuple[str, Sequence[LeftOut]]] = (),
) -> None:
    """Write the page.

    Parameters
    ----------
    about
        What was tested on whom, in a sentence.
    limits
        What the figures do not say.
    panels, clinical
        Explanations, if there are any.
    fitted
        How losses fell, if it is known.
    left_out
        Name of each file of predictions that says what has none, and what that is.
    """
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=select_autoescape(["j2"]))
    environment.filters["interval"] = _interval
    environment.filters["number"] = _number
    text = environment.get_template(TEMPLATE).render(
        title=title,
        about=about,
        limits=limits,
        made=dt.datetime.now(dt.UTC).date().isoformat(),
        sections=found,
        differences=differences(found),
        titles={name: words for name, (words, _) in FIGURES.items()},
        compared=COMPARED,
        grouped=SHOWN,
        panels=panels,
        clinical=clinical,
        fitted=fitted,
        left_out=[
            {"of": name, "refused": len(refused(own)), "counted": counted(own), "named": named(own)}
            for name, own in left_out
        ],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"


def _interval(value: Interval) -> str:
    middle, low, high = value
    if math.isnan(middle):
        return "–"
    digits = 3 if abs(middle) <= 1 else 2
    return f"{middle:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"
