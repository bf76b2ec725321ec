"""What retention removed and a work item needs again: the archive, which had listed it, gives it back.

An image that comes late makes an addendum of the whole study, most of whose files may be gone by then. A report of the
late image alone would take the place of the better one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa

from agent.domain.errors import ArchiveError
from agent.domain.work_item import Step, WorkItem
from agent.worklist import tables as t
from agent.worklist import work_items
from agent.worklist.closing import GroupContent, content_of
from agent.worklist.ledger import Ledger

SENT_AGAIN: Final = "have the whole study sent to us again, then `agent retry STUDY-UID`; the earlier result stands"
"""What helps where no archive gives back what was removed."""


def fetch_again(ledger: Ledger, item: WorkItem, owner: str, *, now: float) -> bool:
    """Send a work item whose files were removed to be fetched first; False where retention removed none of them."""
    with ledger.write() as connection:
        if not any(row.removed_at for row in _needed(connection, item.id)):
            return False
        outcome = "files were removed by retention: fetched first"
        work_items.advance(connection, item.id, owner, done=Step.SCORE, step=Step.RETRIEVE, now=now, outcome=outcome)
    return True


def studies_to_fetch(ledger: Ledger, item: WorkItem) -> tuple[str, ...]:
    """Name the studies of which a work item needs files again; none where it was made to be fetched as a whole."""
    with ledger.read() as connection:
        rows = _needed(connection, item.id)
    return tuple(sorted({row.study_instance_uid for row in rows if row.removed_at}))


def completed(connection: sa.Connection, item: WorkItem, fetched: Sequence[sa.Row[Any]]) -> GroupContent | None:
    """Say what a work item scores after its removed files were fetched: what is here, and what came back of the rest.

    Parameters
    ----------
    fetched
        Rows of `instances`, newest first. An archive may give an image back with other bytes.

    Returns
    -------
    GroupContent or None
        None where the work item was made to be fetched as a whole.

    Raises
    ------
    ArchiveError
        Nothing of what the earlier result was made from is here again; that may pass.
    """
    needed = _needed(connection, item.id)
    if not needed:
        return None
    here = [row for row in needed if row.removed_at is None]
    gone = {row.sop_instance_uid for row in needed} - {row.sop_instance_uid for row in here}
    back = {row.sop_instance_uid: row for row in fetched if row.sop_instance_uid in gone}
    content = content_of([*here, *back.values()])
    if gone and content.sop_instance_uids.isdisjoint(_scored_before(connection, item)):
        raise ArchiveError(
            f"the archive gave back none of the {len(gone)} instances that retention had removed", remedy=SENT_AGAIN
        )
    return content


def _scored_before(connection: sa.Connection, item: WorkItem) -> set[str]:
    """SOP Instance UIDs that the result was made from which this work item's would replace."""
    links, w = t.work_item_instances.c, t.work_items.c
    query = (
        sa.select(t.instances.c.sop_instance_uid)
        .join(t.work_item_instances, links.instance_id == t.instances.c.id)
        .join(t.work_items, w.id == links.work_item_id)
        .where(w.group_id == item.group_id, w.result_key == item.replaces_key)
    )
    return set(connection.execute(query).scalars())


def _needed(connection: sa.Connection, work_item_id: int) -> Sequence[sa.Row[Any]]:
    links = t.work_item_instances.c
    query = sa.select(t.instances).join(t.work_item_instances, links.instance_id == t.instances.c.id)
    return connection.execute(query.where(links.work_item_id == work_item_id).order_by(t.instances.c.id)).all()
