"""Reports of storage commitment that archives send on associations of their own: judged by whoever asked for them."""

from __future__ import annotations

from collections.abc import Callable

from agent.receive.status import PROCESSING_FAILURE
from agent.scu.commitment_report import CommitmentReport, report_of

__all__ = ["CommitmentHandler", "CommitmentReport", "nobody_asked", "report_of"]

CommitmentHandler = Callable[[CommitmentReport], int]
"""Takes a report and returns the DIMSE status to answer. It may be called on several threads at once."""


def nobody_asked(_report: CommitmentReport) -> int:
    """Answer 0110 (processing failure): the archive may report again, to somebody who knows the transaction."""
    return PROCESSING_FAILURE
