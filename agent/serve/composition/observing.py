"""Keeping what the model is watched by: figures of scored studies, and readers' grades in received reports."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Final

import structlog

from agent.serve.composition.context import layout_of
from agent.settings import Settings
from agent.store.secret import installation_secret
from agent.worklist import leases
from agent.worklist.ledger import Ledger

if TYPE_CHECKING:  # it loads what only the score process needs
    from agent.watch.observing import Observer

READER_REPORTS_SECONDS: Final = 5.0
_LEASE: Final = "reader-reports"


def observer_of(settings: Settings, ledger: Ledger) -> Observer:
    """Who keeps the figures of scored studies."""
    from agent.watch.observing import Observer

    return Observer(ledger=ledger, site_by=settings.watch.site, secret=_secret_of(settings))


def look_for_grades(settings: Settings, ledger: Ledger, owner: str) -> int:
    """Look for readers' grades in received reports, one process at a time; raises LedgerError."""
    from agent.tasks.readers import ReaderReports

    if not leases.hold(ledger, _LEASE, owner, now=time.time(), seconds=READER_REPORTS_SECONDS * 6):
        return 0
    log = structlog.get_logger("readers")
    reports = ReaderReports(ledger=ledger, layout=layout_of(settings), secret=_secret_of(settings), log=log)
    return reports.look(time.time())


def _secret_of(settings: Settings) -> Callable[[], bytes]:
    return cache(lambda: installation_secret(layout_of(settings)))
