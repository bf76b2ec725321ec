"""Drift: the latest days of each scanner and site against the bundle's reference, and against their own first studies.

The two answer different questions. Against the bundle: are these pictures such as the model was made with? Where the
bundle learnt from phantoms they never are, which is worth knowing and no alarm. Against the own beginning: has
something changed here, a preset, a transducer, a protocol, the population? That is what alarms.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from statistics import median
from typing import Any, Final, Literal

import numpy as np

from agent.watch import observations
from agent.watch.observations import UNIT_KINDS, Observation, UnitKind
from agent.watch.observing import FIGURES
from agent.watch.statistics import Stability, discoveries, psi, stability
from agent.worklist.ledger import Ledger
from inference.reference import MOST_BINS, Histogram, Reference, Value

DAY: Final = 86400.0
LEAST_STUDIES: Final = 20
"""In the window: the test holds for fewer, too, but would miss almost everything."""
SHOWN_DAYS: Final = 60
"""Days that are drawn, so that people see since when something has moved."""
MOST_UNITS: Final = 50
"""Scanners, and sites, that are told apart: those with most studies. Labels of metrics stay bounded."""
WORTH_A_WORD: Final = 0.1
DRIFTED: Final = 0.25
"""Population stability index from which a significant change is called moved, and drifted."""
FALSE_DISCOVERIES: Final = 0.05
OWN: Final = "own"
BUNDLE: Final = "bundle"
Verdict = Literal["gathering", "few", "steady", "moved", "drifted"]


@dataclass(frozen=True, kw_only=True)
class Window:
    """What is compared with what.

    Parameters
    ----------
    days
        Latest days that are judged.
    reference_studies
        First accepted studies of a scanner or site that are its own reference.
    """

    days: float
    reference_studies: int


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One figure of one scanner or site against one reference."""

    kind: UnitKind
    unit: str
    figure: str
    reference: str
    """`OWN` or `BUNDLE`."""
    studies: int
    """In the window, that have the figure."""
    reference_studies: int
    verdict: Verdict
    psi: float | None = None
    chance: float | None = None
    """The index would stay below it in 95 of 100 looks if nothing had moved; None where it is too small to matter."""
    p: float | None = None
    then: tuple[float, ...] = ()
    now: tuple[float, ...] = ()
    """Shares by bin."""
    bins: tuple[str, ...] = ()
    band: tuple[float, float] | None = None
    """Between its 10th and 90th percentile lie four of five of the reference's values; None for words."""

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class UnitDrift:
    """A scanner or site: how many studies, what has moved, and the days behind it."""

    kind: UnitKind
    unit: str
    studies: int
    """In the window."""
    gathered: int
    """Accepted studies of its own reference so far."""
    comparisons: tuple[Comparison, ...]
    days: Mapping[str, Sequence[tuple[float, float]]]
    """Median of each numeric figure by day (its beginning), over `SHOWN_DAYS` at least."""

    def worst(self, reference: str = OWN) -> Verdict:
        """Return the gravest verdict of its comparisons with a reference."""
        order: tuple[Verdict, ...] = ("gathering", "few", "steady", "moved", "drifted")
        found = [one.verdict for one in self.comparisons if one.reference == reference]
        return max(found, key=order.index, default="gathering")


@dataclass(frozen=True, kw_only=True)
class DriftReport:
    """Everything of one look."""

    bundle_digest: str
    bundle_reference: str
    """What the bundle's reference was made from, or why there is none."""
    window: Window
    units: tuple[UnitDrift, ...]

    @property
    def drifted(self) -> list[Comparison]:
        """What has drifted from its own beginning."""
        return [c for unit in self.units for c in unit.comparisons if c.verdict == "drifted" and c.reference == OWN]


def look(
    ledger: Ledger, bundle_digest: str, bundle: Reference | None, told: str, window: Window, now: float
) -> DriftReport:
    """Compare every scanner and site.

    Parameters
    ----------
    bundle, told
        The bundle's reference if it has one, and what is to be said of it.
    """
    start = now - window.days * DAY
    shown = observations.since(ledger, bundle_digest, min(start, now - SHOWN_DAYS * DAY))
    units: list[UnitDrift] = []
    for kind in UNIT_KINDS:
        first = observations.first_of_each(ledger, bundle_digest, kind, window.reference_studies)
        by_unit: dict[str, list[Observation]] = defaultdict(list)
        for one in shown:
            by_unit[one.unit(kind)].append(one)
        names = sorted(first, key=lambda name: (-len(by_unit[name]), -len(first[name]), name))[:MOST_UNITS]
        units += [_unit(kind, name, first[name], by_unit[name], start, bundle, window) for name in names]
    verdicts = iter(judged([c for unit in units for c in unit.comparisons]))
    told_units = tuple(replace(unit, comparisons=tuple(next(verdicts) for _ in unit.comparisons)) for unit in units)
    return DriftReport(bundle_digest=bundle_digest, bundle_reference=told, window=window, units=told_units)


def _unit(
    kind: UnitKind,
    name: str,
    first: list[Observation],
    shown: list[Observation],
    start: float,
    bundle: Reference | None,
    window: Window,
) -> UnitDrift:
    latest = [one for one in shown if one.at >= start]
    gathered = sum(1 for one in first if one.accepted)
    complete = gathered >= window.reference_studies
    later = [one for one in latest if one.at > first[-1].at] if complete else []
    found = []
    for figure in FIGURES:
        then = _values(first, figure)
        own = Histogram.of(then) if complete and then else None
        one = _compared(kind, name, figure, OWN, own, _values(later, figure), gathered)
        found.append(replace(one, band=_middle(then) if own is not None else None))
        of_bundle = None if bundle is None else bundle.figures.get(figure)
        if of_bundle is not None:
            values = _values(latest, figure)
            one = _compared(kind, name, figure, BUNDLE, of_bundle, values, of_bundle.total)
            found.append(replace(one, band=_band(of_bundle)))
    return UnitDrift(
        kind=kind,
        unit=name,
        studies=len(latest),
        gathered=gathered,
        comparisons=tuple(found),
        days=_by_day(shown),
    )


def _values(observed: Iterable[Observation], figure: str) -> list[Value]:
    return [one.figures[figure] for one in observed if figure in one.figures]


def _compared(
    kind: UnitKind, unit: str, figure: str, to: str, then: Histogram | None, values: list[Value], reference_studies: int
) -> Comparison:
    """Compare one figure; whether its p counts among all of them is judged afterwards."""
    verdict: Verdict = "gathering" if then is None else "few" if len(values) < LEAST_STUDIES else "steady"
    found: Stability | None = None
    shares: dict[str, Any] = {}
    if then is not None and values:
        then = then.coarser(len(values))
        before, now = np.array(then.counts, np.int64), then.count(values)
        shares = {
            "then": tuple(float(share) for share in before / max(1, before.sum())),
            "now": tuple(float(share) for share in now / max(1, now.sum())),
            "bins": _bin_names(then),
        }
        found = _tested(before, now) if verdict == "steady" else None
    return Comparison(
        kind=kind,
        unit=unit,
        figure=figure,
        reference=to,
        studies=len(values),
        reference_studies=reference_studies,
        verdict=verdict,
        psi=None if found is None else round(found.psi, 4),
        chance=None if found is None or found.chance is None else round(found.chance, 4),
        p=None if found is None else found.p,
        **shares,
    )


def _band(then: Histogram) -> tuple[float, float] | None:
    return (then.edges[0], then.edges[-1]) if then.edges and len(then.counts) == MOST_BINS else None


def _middle(values: list[Value]) -> tuple[float, float] | None:
    """Say between what the middle 80 % of numbers lie."""
    numbers = [value for value in values if not isinstance(value, str)]
    if not numbers:
        return None
    low, high = np.quantile(numbers, (0.1, 0.9))
    return float(low), float(high)


def _tested(before: Any, now: Any) -> Stability:
    """Test what would matter; what is small is steady whatever the test says, and a look must not take long."""
    found = float(psi(before, now))
    return stability(before, now) if found >= WORTH_A_WORD else Stability(psi=found, chance=None, p=1.0)


def _bin_names(histogram: Histogram) -> tuple[str, ...]:
    if histogram.edges is None:
        return (*(histogram.names or ()), "other")
    edges = [f"{edge:.4g}" for edge in histogram.edges]
    if not edges:
        return ("all",)
    between = [f"{low} to {high}" for low, high in pairwise(edges)]
    return (f"below {edges[0]}", *between, f"from {edges[-1]}")


def judged(comparisons: list[Comparison]) -> list[Comparison]:
    """Give each its verdict: large enough to matter, and not to be expected among so many looks.

    Each reference is a family of its own: where nothing is like the phantoms of the bundle, that must not make chance
    count as a change of a scanner.
    """
    real: dict[int, bool] = {}
    for reference in (OWN, BUNDLE):
        tested = {i: one.p for i, one in enumerate(comparisons) if one.p is not None and one.reference == reference}
        real |= dict(zip(tested, discoveries(list(tested.values()), FALSE_DISCOVERIES), strict=True))
    return [_with_verdict(one, real=real[i]) if i in real else one for i, one in enumerate(comparisons)]


def _with_verdict(one: Comparison, *, real: bool) -> Comparison:
    verdict: Verdict = "steady"
    if real and one.psi is not None and one.psi >= WORTH_A_WORD:
        verdict = "drifted" if one.psi >= DRIFTED else "moved"
    return replace(one, verdict=verdict)


def _by_day(observed: Sequence[Observation]) -> dict[str, list[tuple[float, float]]]:
    """Median of each numeric figure on each day."""
    by_day: dict[str, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for one in observed:
        for figure, value in one.figures.items():
            if not isinstance(value, str):
                by_day[figure][one.at // DAY * DAY].append(float(value))
    return {figure: [(day, median(values)) for day, values in sorted(days.items())] for figure, days in by_day.items()}
