"""Watching by the settings: what keeps it, what looks at it, and what the commands say."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, Final

import structlog

from agent.domain.errors import NotFoundError, SettingsError
from agent.serve.bundles import bundle_digest_of
from agent.serve.context import layout_of, ledger_of
from agent.settings import Settings
from agent.store.secret import installation_secret
from agent.tasks.readers import ReaderReports
from agent.watch.drift import DriftReport, UnitDrift, Window
from agent.watch.observing import Observer
from agent.watch.readers import ReadersReport
from agent.watch.watching import Live, ShadowReport, Watching
from agent.worklist import leases
from agent.worklist.ledger import Ledger
from inference.bundle import read_name
from inference.reference import read_reference

READER_REPORTS_SECONDS: Final = 5.0
_LEASE: Final = "reader-reports"


def observer_of(settings: Settings, ledger: Ledger) -> Observer:
    """Who keeps the figures of scored studies."""
    return Observer(ledger=ledger, site_by=settings.watch.site, secret=_secret_of(settings))


def look_for_grades(settings: Settings, ledger: Ledger, owner: str) -> int:
    """Look for readers' grades in received reports, one process at a time; raises LedgerError."""
    if not leases.hold(ledger, _LEASE, owner, now=time.time(), seconds=READER_REPORTS_SECONDS * 6):
        return 0
    log = structlog.get_logger("readers")
    reports = ReaderReports(ledger=ledger, layout=layout_of(settings), secret=_secret_of(settings), log=log)
    return reports.look(time.time())


def watching_of(settings: Settings, ledger: Ledger) -> Watching:
    """Who looks at what was kept."""

    def live() -> Live:
        folder = settings.model.bundle
        digest = bundle_digest_of(folder)
        reference, told = read_reference(folder, digest)
        return Live(digest=digest, reference=reference, told=told)

    window = Window(days=settings.watch.window_days, reference_studies=settings.watch.reference_studies)
    return Watching(ledger=ledger, window=window, live=live, shadow=lambda: shadow_of(settings))


def shadow_of(settings: Settings) -> tuple[str, str] | None:
    """Digest and name of the shadow bundle; None where none is set.

    Raises
    ------
    SettingsError
        It cannot be read, or it is the live bundle itself.
    """
    folder = settings.model.shadow_bundle
    if folder is None:
        return None
    digest = bundle_digest_of(folder)
    if digest == bundle_digest_of(settings.model.bundle):
        raise SettingsError(
            f"model.shadow_bundle = {folder} is the live bundle itself", remedy="set another bundle, or none"
        )
    return digest, read_name(folder)


def drift_entries(settings: Settings) -> tuple[DriftReport, list[dict[str, Any]]]:
    """Look at drift: the report, and a line for each comparison."""
    report = watching_of(settings, ledger_of(settings)).drift()
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
    found = watching_of(settings, ledger_of(settings)).shadow_report()
    if found is None:
        raise NotFoundError("no bundle runs as a shadow", remedy="set model.shadow_bundle to a bundle's folder")
    return found


def readers_report_of(settings: Settings) -> ReadersReport:
    """Compare readers with results."""
    return watching_of(settings, ledger_of(settings)).readers()


def _own_told(unit: UnitDrift, report: DriftReport) -> str:
    wanted = report.window.reference_studies
    if unit.gathered < wanted:
        return f"its own reference is gathered, {unit.gathered} of {wanted}"
    return f"{unit.worst()} against its first {wanted}"


def _secret_of(settings: Settings) -> Callable[[], bytes]:
    return cache(lambda: installation_secret(layout_of(settings)))
