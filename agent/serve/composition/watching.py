"""Watching by the settings: who looks at what was kept, and what the commands say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from agent.domain.errors import NotFoundError
from agent.serve.composition.bundles import bundle_digest_of, shadow_of
from agent.serve.composition.context import kept_ledger_of
from agent.settings import Settings
from agent.watch.drift import DriftReport, UnitDrift, Window
from agent.watch.readers import ReadersReport
from agent.watch.watching import Live, ShadowReport, Watching
from agent.worklist.ledger import Ledger
from inference.reference import read_reference


def watching_of(settings: Settings, ledger: Ledger) -> Watching:
    """Who looks at what was kept."""

    def live() -> Live:
        folder = settings.model.bundle
        digest = bundle_digest_of(folder)
        reference, told = read_reference(folder, digest)
        return Live(digest=digest, reference=reference, told=told)

    window = Window(days=settings.watch.window_days, reference_studies=settings.watch.reference_studies)
    return Watching(ledger=ledger, window=window, live=live, shadow=lambda: shadow_of(settings))


def drift_entries(settings: Settings) -> tuple[DriftReport, list[dict[str, Any]]]:
    """Look at drift: the report, and a line for each comparison."""
    report = watching_of(settings, kept_ledger_of(settings)).drift()
    return report, [one.as_dict() for unit in report.units for one in unit.comparisons]


def drift_told(report: DriftReport) -> Iterator[str]:
    """Say for people what a look found."""
    yield f"bundle {report.bundle_digest[:12]}: {report.bundle_reference}"
    for unit in report.units:
        days = f"{unit.studies} studies in {report.window.days:g} days"
        yield f"{unit.kind} {unit.unit}: {days}; {_own_told(unit, report)}"


def shadow_report(settings: Settings) -> ShadowReport:
    """Compare the shadow bundle with the live one.

    Raises
    ------
    NotFoundError
        There is no shadow bundle.
    """
    found = watching_of(settings, kept_ledger_of(settings)).shadow_report()
    if found is None:
        raise NotFoundError("no bundle runs as a shadow", remedy="set model.shadow_bundle to a bundle's folder")
    return found


def readers_report_of(settings: Settings) -> ReadersReport:
    """Compare readers with results."""
    return watching_of(settings, kept_ledger_of(settings)).readers()


def _own_told(unit: UnitDrift, report: DriftReport) -> str:
    wanted = report.window.reference_studies
    if unit.gathered < wanted:
        return f"its own reference is gathered, {unit.gathered} of {wanted}"
    return f"{unit.worst()} against its first {wanted}"
