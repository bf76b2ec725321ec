"""Work items for studies that somebody else names: an archive that has them, or a worklist that wants them scored."""

from __future__ import annotations

import sqlalchemy as sa

from agent.domain.availability import AvailabilityNotice
from agent.domain.result_uids import result_key
from agent.domain.work_item import Cause, State, Step
from agent.worklist import tables as t
from agent.worklist import work_items
from agent.worklist.ledger import Ledger


def note_availability(
    ledger: Ledger, notice: AvailabilityNotice, *, bundle_digest: str, quiet_seconds: float, now: float
) -> int | None:
    """Have a study fetched once nothing more of it was notified for the quiet time; returns the work item's row.

    Returns
    -------
    int or None
        None where every image that was named is here already, or none was: nothing to fetch.
    """
    with ledger.write() as connection:
        if not _missing(connection, notice.images):
            return None
        return fetch(
            connection,
            notice.study_instance_uid,
            cause=Cause.NEW,
            bundle_digest=bundle_digest,
            now=now,
            not_before=now + quiet_seconds,
        )


def fetch(
    connection: sa.Connection,
    study_instance_uid: str,
    *,
    cause: Cause,
    bundle_digest: str,
    now: float,
    not_before: float = 0.0,
) -> int:
    """Make a work item that retrieves a study, or put off the one that has not begun; returns its row."""
    w, s = t.work_items.c, t.studies.c
    of_study = sa.select(s.group_id).where(s.study_instance_uid == study_instance_uid)
    group_id = connection.execute(of_study).scalar() or study_instance_uid
    waiting = sa.select(w.id).where(
        w.study_instance_uid == study_instance_uid,
        w.state == State.SCHEDULED,
        w.step == Step.RETRIEVE,
        w.reason.is_(None),
    )
    known = connection.execute(waiting.order_by(w.id.desc()).limit(1)).scalar()
    if known is not None:
        later = sa.update(t.work_items).where(w.id == known, w.not_before < not_before)
        connection.execute(later.values(not_before=not_before))
        return int(known)
    return work_items.create(
        connection,
        group_id=group_id,
        study_instance_uid=study_instance_uid,
        result_key=result_key(group_id, (), bundle_digest),
        bundle_digest=bundle_digest,
        cause=cause,
        step=Step.RETRIEVE,
        now=now,
        not_before=not_before,
    )


def _missing(connection: sa.Connection, images: frozenset[str]) -> bool:
    """Whether an image is not here, neither received nor fetched before."""
    i = t.instances.c
    wanted = sorted(images)
    found: set[str] = set()
    for at in range(0, len(wanted), 500):
        query = sa.select(i.sop_instance_uid).where(i.sop_instance_uid.in_(wanted[at : at + 500]))
        found |= set(connection.execute(query).scalars())
    return bool(images - found)
