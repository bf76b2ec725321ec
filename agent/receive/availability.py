"""Instance Availability Notification as SCP (PS3.4 Annex R): an archive says that a study can be fetched."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any, Final

import structlog
from pydicom.dataset import Dataset
from pynetdicom import evt

from agent.domain.availability import AvailabilityNotice, AvailableInstance
from agent.domain.errors import UNREADABLE, AgentError, IdentifierError
from agent.domain.identifiers import checked_uid, is_uid
from agent.receive.services import Services
from agent.receive.status import PROCESSING_FAILURE, SUCCESS

INSTANCE_AVAILABILITY_NOTIFICATION: Final = "1.2.840.10008.5.1.4.33"
_INVALID_ATTRIBUTE_VALUE: Final = 0x0106  # PS3.7 Annex C
_MISSING_ATTRIBUTE: Final = 0x0120
_MOST_INSTANCES: Final = 100_000


def availability_service(take: Callable[[AvailabilityNotice], None]) -> Services:
    """Offer the notification service.

    Parameters
    ----------
    take
        Notes a notice durably before it returns; raises AgentError where it cannot.
    """

    def handle(event: Any) -> tuple[int, Dataset | None]:
        log = structlog.get_logger("receive")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # pydicom's quote values; ours name what is wrong
                notice = notice_of(event)
        except IdentifierError as error:
            log.warning("availability notification refused", cause=error.cause)
            return _INVALID_ATTRIBUTE_VALUE, None
        except UNREADABLE as error:
            log.warning("availability notification cannot be read", cause=type(error).__name__)
            return _MISSING_ATTRIBUTE, None
        try:
            take(notice)
        except AgentError as error:
            log.warning("availability notification not noted", cause=error.cause)
            return PROCESSING_FAILURE, None
        log.info("availability notified", study=notice.study_instance_uid, images=len(notice.images))
        return SUCCESS, None  # the response carries no attribute list (PS3.4 R.3.2.1.2)

    return Services(sop_classes=(INSTANCE_AVAILABILITY_NOTIFICATION,), handlers=((evt.EVT_N_CREATE, handle),))


def notice_of(event: Any) -> AvailabilityNotice:
    """Read an N-CREATE; raises IdentifierError over a Study Instance UID that must not name anything."""
    told, requestor = event.attribute_list, event.assoc.requestor
    return AvailabilityNotice(
        study_instance_uid=checked_uid(str(told.StudyInstanceUID), "Study Instance UID"),
        calling_ae_title=str(requestor.primitive.calling_ae_title).strip(),
        host=requestor.address or "",
        instances=tuple(_instances(told)),
    )


def _instances(told: Dataset) -> Iterator[AvailableInstance]:
    """Read every instance that is named as PS3.5 allows; the others could not be fetched."""
    for series in told.ReferencedSeriesSequence:
        for item in list(series.ReferencedSOPSequence)[:_MOST_INSTANCES]:
            if is_uid(str(item.ReferencedSOPInstanceUID)):
                yield AvailableInstance(
                    sop_class_uid=str(item.ReferencedSOPClassUID),
                    sop_instance_uid=str(item.ReferencedSOPInstanceUID),
                    availability=str(item.InstanceAvailability).strip(),
                )
