"""Security alerts of a process; what writes them is loaded with the first."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from agent.observe.audit.alerts import Alerts

if TYPE_CHECKING:
    from agent.settings import Settings


def alerts_of(settings: Settings) -> Alerts:
    """Collect one process's security alerts."""

    def append(messages: Sequence[str]) -> None:
        if settings.audit.enabled:
            from agent.serve.composition.auditing import trail_of

            trail_of(settings).append(messages)

    return Alerts(ae_title=settings.dicom.ae_title, site=settings.audit.site, append=append, now=time.time)


def write_alerts(alerts: Alerts) -> None:
    """Write what was collected; a trail that cannot be written stops nothing."""
    try:
        alerts.write()
    except OSError as error:
        from agent.serve.composition.auditing import warn_unwritten

        warn_unwritten(error)
