"""Storage commitment, Push Model (PS3.4 Annex J): asking an archive to take responsibility."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import evt

from agent.domain.errors import UNREADABLE, AgentError
from agent.scu.association import Context, OpenAssociation
from agent.scu.commitment_report import CommitmentReport, report_of
from agent.scu.outcomes import ACTION_RULES, require_passed

STORAGE_COMMITMENT: Final = "1.2.840.10008.1.20.1"
"""Storage Commitment Push Model SOP Class (PS3.4 J.3)."""
COMMITMENT_CONTEXT: Final = Context(STORAGE_COMMITMENT, (ExplicitVRLittleEndian, ImplicitVRLittleEndian))
_INSTANCE: Final = "1.2.840.10008.1.20.1.1"
"""Storage Commitment Push Model SOP Instance (PS3.4 J.3.5)."""
_REQUEST: Final = 1
"""Action Type ID of Request Storage Commitment (PS3.4 Table J.3-1)."""
_SUCCESS, _PROCESSING_FAILURE = 0x0000, 0x0110  # PS3.7 Annex C


def answering(take: Callable[[CommitmentReport], bool]) -> Callable[[evt.Event], tuple[int, None]]:
    """Make the handler of reports that come back on the association that asked.

    Parameters
    ----------
    take
        Notes a report; False where nobody knows its transaction.
    """

    def handle(event: evt.Event) -> tuple[int, None]:
        try:
            known = take(report_of(event))
        except (*UNREADABLE, AgentError):
            return _PROCESSING_FAILURE, None
        return (_SUCCESS if known else _PROCESSING_FAILURE), None

    return handle


def ask(association: OpenAssociation, transaction_uid: str, references: Iterable[tuple[str, str]]) -> None:
    """Request storage commitment; the report comes later, on this association or another.

    Parameters
    ----------
    references
        SOP Class UID and SOP Instance UID of each object.

    Raises
    ------
    ArchiveRefusedError, ArchiveError
        The archive does not take the request: there will be no report. `AssociationGoneError` where it may have.
    """
    association.require(STORAGE_COMMITMENT)
    information = Dataset()
    information.TransactionUID = transaction_uid
    information.ReferencedSOPSequence = [_reference(*reference) for reference in references]
    try:
        status, _ = association.raw.send_n_action(information, _REQUEST, STORAGE_COMMITMENT, _INSTANCE)
    except RuntimeError as error:  # aborted since the last answer
        raise association.no_answer("N-ACTION") from error
    code = status.get("Status")
    if code is None:
        raise association.no_answer("N-ACTION")
    answered = f"{association.archive} answered the request for storage commitment"
    require_passed(ACTION_RULES, int(code), answered)


def _reference(sop_class_uid: str, sop_instance_uid: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class_uid, sop_instance_uid
    return item
