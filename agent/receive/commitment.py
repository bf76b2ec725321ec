"""Reports of storage commitment that an archive sends (PS3.4 Annex J): read here, judged by whoever asked for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from agent.receive.status import PROCESSING_FAILURE


@dataclass(frozen=True, kw_only=True)
class CommitmentReport:
    """An N-EVENT-REPORT of the Storage Commitment Push Model (PS3.4 Table J.3-4)."""

    transaction_uid: str
    calling_ae_title: str
    host: str
    committed: tuple[str, ...]
    """SOP Instance UIDs for which the archive took responsibility."""
    failed: tuple[tuple[str, int], ...]
    """SOP Instance UIDs for which it did not, each with its Failure Reason (0008,1197)."""


CommitmentHandler = Callable[[CommitmentReport], int]
"""Takes a report and returns the DIMSE status to answer. It may be called on several threads at once."""


def nobody_asked(_report: CommitmentReport) -> int:
    """Answer 0110 (processing failure): the archive may report again, to somebody who knows the transaction."""
    return PROCESSING_FAILURE


def report_of(event: Any) -> CommitmentReport:
    """Read the event's information; raises what pydicom raises over a data set that it cannot read."""
    information, requestor = event.event_information, event.assoc.requestor
    return CommitmentReport(
        transaction_uid=str(information.TransactionUID),
        calling_ae_title=str(requestor.primitive.calling_ae_title).strip(),
        host=requestor.address,
        committed=tuple(uid for uid, _ in _references(information.get("ReferencedSOPSequence"))),
        failed=tuple(_references(information.get("FailedSOPSequence"))),
    )


def _references(sequence: Any) -> Iterator[tuple[str, int]]:
    for item in sequence or ():
        yield str(item.ReferencedSOPInstanceUID), int(item.get("FailureReason") or 0)
