"""Senders of messages: the kept report and the score go in, what the receiver answered comes out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from agent.domain.errors import ArchiveRefusedError
from agent.domain.results import Delivery, Proof
from agent.domain.work_item import Cause, WorkItem
from agent.messaging.result import ResultMessage, UnreadableReportError, identity_in
from agent.store.layout import Layout
from agent.store.result_files import object_path
from agent.worklist import outbox, results
from agent.worklist.ledger import Ledger


@dataclass(frozen=True, kw_only=True)
class MessageSender:
    """Tells one destination.

    Parameters
    ----------
    tell
        Sends a message and returns what was answered.
    proof
        What that answer proves.
    """

    ledger: Ledger
    layout: Layout
    tell: Callable[[ResultMessage], str]
    proof: Proof

    def __call__(self, item: WorkItem, row: Delivery) -> tuple[Proof, str]:
        """Tell of the report that the row names.

        HL7 v2 has nothing to ask a receiver by: what it acknowledged is not told again because somebody retries what
        another destination refused. A replay tells it again, since that is how to send what a receiver lost.
        """
        if item.cause is Cause.RETRY and self.proof is Proof.HL7_ACK and self._was_told(row):
            return self.proof, "acknowledged before"
        return self.proof, self.tell(self._message(item, row))

    def _was_told(self, row: Delivery) -> bool:
        return outbox.was_proved(self.ledger, row.sop_instance_uid, row.destination or "", self.proof)

    def _message(self, item: WorkItem, row: Delivery) -> ResultMessage:
        kept = results.score_of(self.ledger, item.result_key)
        if kept is None:
            raise ArchiveRefusedError(
                f"the score of work item {item.id} is not in the ledger", remedy="replay the study"
            )
        replaced = results.predecessor_of(self.ledger, kept.replaces_key)
        try:
            identity = identity_in(object_path(self.layout, item.result_key, row.sop_instance_uid))
        except UnreadableReportError as error:
            raise ArchiveRefusedError(error.cause, remedy=error.remedy) from error
        return ResultMessage(
            result_key=item.result_key,
            identity=identity,
            outcome=kept.outcome,
            content_at=datetime.fromtimestamp(kept.content_at, UTC),
            replaced_report_uid=None if replaced is None else replaced.sop_instance_uid,
        )
