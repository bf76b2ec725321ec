"""Retrievals: the archive's version of a study, fetched for one work item and never mixed with what arrives."""

from __future__ import annotations

import sqlalchemy as sa

from agent.domain.work_item import State, Step, WorkItem
from agent.worklist import tables as t
from agent.worklist.ledger import Ledger


def begin(ledger: Ledger, item: WorkItem, *, archive: str, now: float) -> int:
    """Open the retrieval of a work item, or find the one that a killed process left open."""
    r = t.retrievals.c
    ours = (r.work_item_id == item.id) & (r.study_instance_uid == item.study_instance_uid)
    open_one = sa.select(r.id).where(ours, r.ended_at.is_(None))
    with ledger.write() as connection:
        known = connection.execute(open_one).scalar()
        if known is not None:
            return int(known)
        values = {
            "work_item_id": item.id,
            "study_instance_uid": item.study_instance_uid,
            "archive": archive,
            "started_at": now,
        }
        key = connection.execute(sa.insert(t.retrievals).values(values)).inserted_primary_key
        if key is None:
            raise AssertionError("an insert of one row yields its key")
        return int(key[0])


def is_under_way() -> sa.ColumnElement[bool]:
    """Condition on `retrievals`: its work item still fetches.

    One that failed or was canceled leaves its retrieval open. What comes later is the study's.
    """
    r, w = t.retrievals.c, t.work_items.c
    fetches = sa.exists().where(
        w.id == r.work_item_id, w.step == Step.RETRIEVE, w.state.in_((State.SCHEDULED, State.IN_PROGRESS))
    )
    return r.ended_at.is_(None) & fetches


def retrieved_uids(ledger: Ledger, retrieval_id: int) -> frozenset[str]:
    """SOP Instance UIDs that a retrieval has fetched so far."""
    links, i = t.retrieval_instances, t.instances
    query = sa.select(i.c.sop_instance_uid).join(links, links.c.instance_id == i.c.id)
    with ledger.read() as connection:
        return frozenset(connection.execute(query.where(links.c.retrieval_id == retrieval_id)).scalars())


def finish(ledger: Ledger, retrieval_id: int, *, method: str, now: float) -> None:
    """Close a retrieval that is complete; instances that arrive later no longer belong to it."""
    values = {"method": method, "ended_at": now}
    with ledger.write() as connection:
        connection.execute(sa.update(t.retrievals).where(t.retrievals.c.id == retrieval_id).values(values))
