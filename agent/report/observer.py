"""Who observed what a report says: the device, under the same name as the contributing equipment (IHE AIR)."""

from __future__ import annotations

from functools import lru_cache

from highdicom import sr

from agent.domain.eligibility import MANUFACTURER
from agent.report import codes
from agent.report.content_items import concept, said_again
from agent.report.envelope import ReportedStudy, algorithm_name, device_uid
from agent.report.words import plain


def device_observer(study: ReportedStudy) -> sr.ObserverContext:
    """Make the items of TID 1002 and 1004 (PS3.16), once for as long as the model stays."""
    model = study.outcome.model
    return _observed_by(device_uid(model), plain(study.station_name), algorithm_name(model))


@lru_cache(maxsize=8)
def _observed_by(uid: str, name: str, model_name: str) -> sr.ObserverContext:
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=uid, name=name, manufacturer_name=MANUFACTURER, model_name=model_name
    )
    return said_again(sr.ObserverContext(concept(codes.DEVICE), device))
