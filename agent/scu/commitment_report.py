"""Reports of storage commitment (PS3.4 J.3.3), as archives send them; listeners load nothing else of this room."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class CommitmentReport:
    """An N-EVENT-REPORT of the Storage Commitment Push Model (PS3.4 Table J.3-4)."""

    transaction_uid: str
    calling_ae_title: str
    """Of whoever requested the association that it came on."""
    host: str
    committed: tuple[str, ...]
    """SOP Instance UIDs for which the archive took responsibility."""
    failed: tuple[tuple[str, int], ...]
    """SOP Instance UIDs for which it did not, each with its Failure Reason (0008,1197)."""


def report_of(event: Any) -> CommitmentReport:
    """Read the event's information; raises one of `UNREADABLE` over a data set that cannot be read."""
    information, requestor = event.event_information, event.assoc.requestor
    return CommitmentReport(
        transaction_uid=str(information.TransactionUID),
        calling_ae_title=str(requestor.primitive.calling_ae_title).strip(),
        host=requestor.address or "",
        committed=tuple(uid for uid, _ in _references(information.get("ReferencedSOPSequence"))),
        failed=tuple(_references(information.get("FailedSOPSequence"))),
    )


def _references(sequence: Any) -> Iterator[tuple[str, int]]:
    for item in sequence or ():
        yield str(item.ReferencedSOPInstanceUID), int(item.get("FailureReason") or 0)
