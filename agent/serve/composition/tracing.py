"""Traces of the running configuration; without `tracing.otlp` nothing of OpenTelemetry is imported."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from agent import __version__
from agent.domain.errors import SettingsError
from agent.serve.composition.context import layout_of
from agent.settings import Settings
from agent.store.secret import installation_secret
from agent.worklist import leases
from agent.worklist.ledger import Ledger

if TYPE_CHECKING:
    from agent.observe.traces import Tracer

TRACING_SECONDS: Final = 5.0
_EXTRA: Final = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http")
_AFTER_FAULT_SECONDS: Final = 30.0
"""A collector that is away is asked, and told of in the log, twice a minute."""
_LEASE: Final = "tracing"
_LEASE_SECONDS: Final = 90.0


def check_tracing(settings: Settings) -> None:
    """Refuse to start where traces are wanted and cannot be made.

    Raises
    ------
    SettingsError
        The extra `tracing` is not installed.
    """
    if settings.tracing.otlp is not None and not is_installed():
        raise _missing("opentelemetry")


def is_installed() -> bool:
    """Whether the extra `tracing` is here, without loading it."""
    try:
        return all(find_spec(name) is not None for name in _EXTRA)
    except ModuleNotFoundError:  # a package above them
        return False


def tracer_of(settings: Settings, ledger: Ledger) -> Tracer | None:
    """Make what tells the traces of finished work items; None where none are wanted.

    Raises
    ------
    SettingsError
        They are wanted, and the extra `tracing` is not installed.
    """
    if settings.tracing.otlp is None:
        return None
    try:
        from agent.observe.traces import Tracer
    except ImportError as error:
        raise _missing(error.name) from error
    return Tracer(
        ledger=ledger,
        endpoint=settings.tracing.otlp,
        secret=installation_secret(layout_of(settings)),
        version=__version__,
    )


def tracing_of(settings: Settings, ledger: Ledger, owner: str) -> Callable[[], None] | None:
    """Make what a worker does every `TRACING_SECONDS`, one process at a time; None where no traces are wanted."""
    tracer = tracer_of(settings, ledger)
    if tracer is None:
        return None

    patient_until = 0.0

    def look() -> None:
        nonlocal patient_until
        now = time.time()
        if now < patient_until or not leases.hold(ledger, _LEASE, owner, now=now, seconds=_LEASE_SECONDS):
            return
        patient_until = now + _AFTER_FAULT_SECONDS
        tracer.look(now)
        patient_until = 0.0

    return look


def _missing(name: str | None) -> SettingsError:
    remedy = "install the extra: pip install '.[tracing]'"
    return SettingsError(f"tracing.otlp is set and {name} is missing", remedy=remedy)
