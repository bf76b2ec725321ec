"""Asking the Modality Worklist before a result leaves. Only another patient's order stops it; silence never does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from agent.domain.errors import AgentError, RequestorError
from agent.domain.identifiers import Archive
from agent.domain.orders import OrderCheck, OrderedStudy, OrderResult, compare_with_orders
from agent.domain.work_item import Cause, WorkItem
from agent.scu.association import associate
from agent.scu.config import ScuConfig
from agent.scu.worklist import WORKLIST_CONTEXT, orders_of
from agent.store.header import read_header
from agent.store.layout import Layout
from agent.worklist import order_checks, results
from agent.worklist.ledger import Ledger


@dataclass(frozen=True, kw_only=True)
class OrderChecker:
    """Compares each work item once.

    Parameters
    ----------
    worklist
        Whom to ask.
    """

    ledger: Ledger
    layout: Layout
    owner: str
    worklist: Archive
    scu: ScuConfig
    now: Callable[[], float]

    def may_leave(self, item: WorkItem, log: Any) -> bool:
        """Whether the work item's results may be delivered; one that may not is held for an operator.

        Raises
        ------
        LostLeaseError, LedgerError
            It is no longer ours, or the ledger is away.
        """
        if order_checks.checked(self.ledger, item.id):
            return True
        check = self._checked(item)
        log.info("order compared", result=check.result, worklist=str(self.worklist), detail=check.detail)
        held = check.result is OrderResult.MISMATCH
        order_checks.record(
            self.ledger, item, self.owner, check, worklist=str(self.worklist), now=self.now(), held=held
        )
        return not held

    def _checked(self, item: WorkItem) -> OrderCheck:
        """Ask, unless an operator accepted the mismatch of this group, or it was found to match before.

        Entries leave a worklist once their examination is done: a replay must not turn a match into no order.
        """
        before = order_checks.newest_of_group(self.ledger, item.group_id)
        if before is OrderResult.MATCH:
            return OrderCheck(result=before, detail="as compared before")
        overruled = before is OrderResult.MISMATCH and item.cause is Cause.RETRY
        if overruled or before is OrderResult.ACCEPTED:
            return OrderCheck(result=OrderResult.ACCEPTED, detail="an operator retried it")
        study = order_checks.study_of(self.ledger, item.study_instance_uid) or self._fetched(item)
        if study is None or not study.accession_number.strip():
            return OrderCheck(result=OrderResult.NO_ACCESSION_NUMBER)
        try:
            with associate(self.worklist, self.scu, [WORKLIST_CONTEXT]) as association:
                orders = list(orders_of(association, study.accession_number.strip()))
        except AgentError as error:
            return OrderCheck(result=OrderResult.UNREACHABLE, detail=error.cause[:256])
        return compare_with_orders(study, orders)

    def _fetched(self, item: WorkItem) -> OrderedStudy | None:
        """Read what is compared from an image: a study that was fetched before 0007_fetched_studies has no row."""
        for instance in results.instances_of(self.ledger, item.id):
            try:
                with self.layout.instance(instance.sha256).open("rb") as file:
                    header, _, _ = read_header(file)
            except (OSError, RequestorError):
                continue
            return OrderedStudy(
                study_instance_uid=header.study_instance_uid,
                accession_number=header.accession_number,
                patient_id=header.patient_id,
                issuer_of_patient_id=header.issuer_of_patient_id,
            )
        return None
