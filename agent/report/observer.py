"""Who observed what a report says: the device, under the same name as the contributing equipment (IHE AIR)."""

from __future__ import annotations

from highdicom import sr

from agent.domain.eligibility import MANUFACTURER
from agent.report import codes
from agent.report.content_items import concept
from agent.report.envelope import ReportedStudy, algorithm_name, device_uid
from agent.report.words import plain


def device_observer(study: ReportedStudy) -> sr.ObserverContext:
    """Make the items of TID 1002 and 1004 (PS3.16)."""
    model = study.outcome.model
    return sr.ObserverContext(
        concept(codes.DEVICE),
        sr.DeviceObserverIdentifyingAttributes(
            uid=device_uid(model),
            name=plain(study.station_name),
            manufacturer_name=MANUFACTURER,
            model_name=algorithm_name(model),
        ),
    )
