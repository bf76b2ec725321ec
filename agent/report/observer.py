"""Who observed what a report says: the device, under the same name as the contributing equipment (IHE AIR)."""

from __future__ import annotations

from agent.domain.eligibility import MANUFACTURER
from agent.report import codes
from agent.report.content_items import CONTEXT, code, text, uid_reference
from agent.report.data_set import DataSet
from agent.report.envelope import ReportedStudy, algorithm_name, device_uid
from agent.report.words import plain


def device_observer(study: ReportedStudy) -> list[DataSet]:
    """Make the items of TID 1002 and 1004 (PS3.16)."""
    model = study.outcome.model
    return [
        code(codes.OBSERVER_TYPE, codes.DEVICE, CONTEXT),
        uid_reference(codes.OBSERVER_UID, device_uid(model)),
        text(codes.OBSERVER_NAME, plain(study.station_name), CONTEXT),
        text(codes.OBSERVER_MANUFACTURER, MANUFACTURER, CONTEXT),
        text(codes.OBSERVER_MODEL, algorithm_name(model), CONTEXT),
    ]
