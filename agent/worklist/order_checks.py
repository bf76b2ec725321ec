"""What comparing a study with its order came to, one row a work item."""

from __future__ import annotations

import sqlalchemy as sa

from agent.domain.orders import OrderCheck, OrderedStudy, OrderResult
from agent.domain.work_item import HELD_ORDER, Step, WorkItem
from agent.worklist import known_studies, work_items
from agent.worklist import tables as t
from agent.worklist.ledger import Ledger


def checked(ledger: Ledger, work_item_id: int) -> bool:
    """Whether the work item was compared already."""
    c = t.order_checks.c
    with ledger.read() as connection:
        return connection.execute(sa.select(c.result).where(c.work_item_id == work_item_id)).first() is not None


def newest_of_group(ledger: Ledger, group_id: str) -> OrderResult | None:
    """Read the newest result of a group that says something of its order."""
    c = t.order_checks.c
    told = c.result.in_((OrderResult.MATCH, OrderResult.MISMATCH, OrderResult.ACCEPTED))
    query = sa.select(c.result).where(c.group_id == group_id, told).order_by(c.work_item_id.desc()).limit(1)
    with ledger.read() as connection:
        found = connection.execute(query).scalar()
    return None if found is None else OrderResult(found)


def study_of(ledger: Ledger, study_instance_uid: str) -> OrderedStudy | None:
    """Read what is compared; None where the study was only ever fetched, and by a version that did not note that."""
    with ledger.read() as connection:
        row = known_studies.find(connection, study_instance_uid)
    if row is None:
        return None
    return OrderedStudy(
        study_instance_uid=row.study_instance_uid,
        accession_number=row.accession_number,
        patient_id=row.patient_id,
        issuer_of_patient_id=row.issuer_of_patient_id,
    )


def record(
    ledger: Ledger, item: WorkItem, owner: str, check: OrderCheck, *, worklist: str, now: float, held: bool
) -> None:
    """Write the result and, with `held`, lay the work item aside for an operator, in one transaction.

    Raises
    ------
    LostLeaseError
        The work item is no longer ours.
    """
    values = {
        "work_item_id": item.id,
        "group_id": item.group_id,
        "worklist": worklist,
        "result": check.result,
        "detail": check.detail[:256],
        "checked_at": now,
    }
    with ledger.write() as connection:
        work_items.check_lease(connection, item.id, owner, Step.DELIVER)
        connection.execute(sa.insert(t.order_checks).values(values))
        if held:
            work_items.lay_aside(connection, item.id, reason=HELD_ORDER, now=now)
