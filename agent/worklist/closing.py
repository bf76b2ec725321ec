"""Closing a group: a complete study gets one work item for what it now holds, or none if nothing changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import sqlalchemy as sa

from agent.domain.completeness import Patience, is_complete
from agent.domain.eligibility import OWN_RESULT
from agent.domain.result_uids import result_key
from agent.domain.score import Refusal
from agent.domain.study import Instance
from agent.domain.work_item import CANCELED_BY_OPERATOR, HELD_PATIENT_ID, RELEASED, SUPERSEDED, Cause, State, Step
from agent.worklist import tables as t
from agent.worklist import work_items
from agent.worklist.arrivals import HEARTBEAT_LEASE_SECONDS
from agent.worklist.ledger import Ledger
from agent.worklist.results import as_instance


@dataclass(frozen=True, kw_only=True)
class Closed:
    """A group that closed, and the work item that came of it (None: nothing new to score)."""

    group_id: str
    study_instance_uid: str
    work_item_id: int | None


@dataclass(frozen=True, kw_only=True)
class GroupContent:
    """What a group holds that a score depends on."""

    instance_ids: tuple[int, ...]
    digests: tuple[str, ...]
    patients: frozenset[tuple[str, str]]
    sop_instance_uids: frozenset[str]
    filed_in: str | None = None
    """The newest study of which something counts; None where nothing does, or for what was retrieved."""


def close_complete_groups(ledger: Ledger, *, patience: Patience, bundle_digest: str, now: float) -> list[Closed]:
    """Close every group that is complete, each in its own transaction."""
    with ledger.read() as connection:
        receiving = connection.execute(sa.select(t.groups).where(t.groups.c.receiving)).all()
    return [
        closed
        for group in receiving
        if _quiet_enough(group, patience, now)
        and (closed := _close_group(ledger, group, patience, bundle_digest, now)) is not None
    ]


def any_closes_soon(ledger: Ledger, *, patience: Patience, now: float, seconds: float) -> bool:
    """Whether a group closes by its quiet time within `seconds`, or should have closed that recently."""
    g, due = t.groups.c, now - patience.quiet_seconds
    soon = g.receiving & g.quiet_since.between(due - seconds, due + seconds)
    with ledger.read() as connection:
        return connection.execute(sa.select(g.id).where(soon).limit(1)).first() is not None


def to_be_scored_soon(ledger: Ledger, *, patience: Patience, now: float, seconds: float, most: int) -> list[Instance]:
    """Find what may be scored of groups that close by their quiet time within `seconds`, unless they hold too much.

    Parameters
    ----------
    most
        Instances of a group; of a larger one none is given.
    """
    due = now - patience.quiet_seconds
    values = {"from": due - seconds, "until": due + seconds, "most": most}
    with ledger.read() as connection:
        return [as_instance(row) for row in connection.execute(_SOON, values)]


def cancel_receiving(
    ledger: Ledger, *, study: str | None, since: float | None, bundle_digest: str, now: float, dry_run: bool
) -> list[Closed]:
    """Close groups that still receive with a work item that is canceled at once.

    The work item stands for what had arrived: only an instance that changes the set is scored again.

    Parameters
    ----------
    study, since
        One study, or those whose first instance came since then; None: no such limit.
    """
    g, s = t.groups.c, t.studies.c
    query = sa.select(t.groups).where(g.receiving)
    if study is not None:
        query = query.where(g.id.in_(sa.select(s.group_id).where(s.study_instance_uid == study)))
    if since is not None:
        query = query.where(g.first_at >= since)
    closed = []
    with ledger.write() as connection:
        for group in connection.execute(query).all():
            work_item_id = None if dry_run else _closed_canceled(connection, group, bundle_digest, now)
            closed.append(
                Closed(group_id=group.id, study_instance_uid=group.study_instance_uid, work_item_id=work_item_id)
            )
    return closed


def _closed_canceled(connection: sa.Connection, group: sa.Row[Any], bundle_digest: str, now: float) -> int | None:
    shut = sa.update(t.groups).where(t.groups.c.id == group.id).values(receiving=False, closed_at=now)
    connection.execute(shut)
    work_item_id = _work_item_for(connection, group, bundle_digest, now)
    ended = {"state": State.CANCELED, "reason": CANCELED_BY_OPERATOR, "finished_at": now}
    connection.execute(sa.update(t.work_items).where(t.work_items.c.id == work_item_id).values(ended))
    return work_item_id


def group_content(connection: sa.Connection, group_id: str) -> GroupContent:
    """Read what may be scored of a group; where nothing may be, what a refusal is about.

    Copies of our own results and later versions under a UID already taken never count.
    """
    i, s = t.instances.c, t.studies.c
    query = (
        sa.select(t.instances, s.first_at)
        .join(t.studies, s.study_instance_uid == i.study_instance_uid)
        .where(s.group_id == group_id, i.received_at.is_not(None), ~i.conflict)
    )
    content = content_of(rows := connection.execute(query.order_by(i.id)).all())
    counted = set(content.instance_ids)
    newest = max(
        (row for row in rows if row.id in counted),
        key=lambda row: (row.first_at, row.study_instance_uid),
        default=None,
    )
    return content if newest is None else replace(content, filed_in=newest.study_instance_uid)


def content_of(rows: Sequence[sa.Row[Any]]) -> GroupContent:
    """Say what counts of some rows of `instances`, as `group_content` does."""
    foreign = [row for row in rows if row.not_scored_reason != OWN_RESULT]
    counted = [row for row in foreign if row.may_be_scored] or foreign
    return GroupContent(
        instance_ids=tuple(row.id for row in counted),
        digests=tuple(row.sha256 for row in counted),
        patients=frozenset((row.patient_id.strip(), row.issuer_of_patient_id.strip()) for row in foreign),
        sop_instance_uids=frozenset(row.sop_instance_uid for row in counted),
    )


def is_to_be_held(connection: sa.Connection, group_id: str, content: GroupContent) -> bool:
    """Whether a person must say first that these are the same patient's; said once, it holds for later replays."""
    if len(content.patients) <= 1:
        return False
    w = t.work_items.c
    of_group = sa.select(w.id).where(w.group_id == group_id)
    waits = of_group.where(w.state == State.SCHEDULED, w.reason == HELD_PATIENT_ID)
    said = of_group.where(w.state == State.CANCELED, w.reason == RELEASED)
    return connection.execute(waits).first() is not None or connection.execute(said).first() is None


def latest_key(connection: sa.Connection, group_id: str) -> str | None:
    """Find the result key of the newest report of a group that was sent, is being sent, or is kept."""
    w = t.work_items.c
    refused = (w.state == State.CANCELED) & w.reason.in_([str(refusal) for refusal in Refusal])
    sent = (w.state == State.COMPLETED) | refused | w.delivering_since.is_not(None)
    built = sa.select(t.result_objects.c.result_key)
    query = sa.select(w.result_key).where(w.group_id == group_id, sent, w.result_key.in_(built))
    return connection.execute(query.order_by(w.id.desc()).limit(1)).scalar_one_or_none()


def _quiet_enough(group: sa.Row[Any], patience: Patience, now: float) -> bool:
    """Cheap look without the senders; `_close_group` decides."""
    return is_complete(now, first_at=group.first_at, quiet_since=group.quiet_since, sending=False, patience=patience)


def _close_group(
    ledger: Ledger, group: sa.Row[Any], patience: Patience, bundle_digest: str, now: float
) -> Closed | None:
    g = t.groups.c
    unchanged = (g.id == group.id) & g.receiving & (g.quiet_since == group.quiet_since)
    with ledger.write() as connection:
        sending = _is_sending(connection, group.id, patience, now)
        if not is_complete(
            now, first_at=group.first_at, quiet_since=group.quiet_since, sending=sending, patience=patience
        ):
            return None
        closing = sa.update(t.groups).where(unchanged).values(receiving=False, closed_at=now)
        if connection.execute(closing).rowcount == 0:
            return None  # something arrived in between: its quiet time runs anew
        work_item_id = _work_item_for(connection, group, bundle_digest, now)
    return Closed(group_id=group.id, study_instance_uid=group.study_instance_uid, work_item_id=work_item_id)


def _is_sending(connection: sa.Connection, group_id: str, patience: Patience, now: float) -> bool:
    a, s = t.associations, t.sending
    alive = a.c.closed_at.is_(None) & (a.c.heartbeat_at >= now - HEARTBEAT_LEASE_SECONDS)
    recent = (s.c.group_id == group_id) & (s.c.last_at > now - patience.sending_seconds)
    query = sa.select(s.c.group_id).join(a, a.c.id == s.c.association_id).where(alive & recent).limit(1)
    return connection.execute(query).first() is not None


def _work_item_for(connection: sa.Connection, group: sa.Row[Any], bundle_digest: str, now: float) -> int | None:
    content = group_content(connection, group.id)
    if not content.instance_ids:
        return None
    key = result_key(group.id, content.digests, bundle_digest)
    w = t.work_items.c
    same = sa.select(w.id).where(w.group_id == group.id, w.result_key == key, w.reason.is_distinct_from(SUPERSEDED))
    if connection.execute(same.limit(1)).first() is not None:
        return None
    _supersede(connection, group.id, now)
    earlier, filed_in = latest_key(connection, group.id), content.filed_in or group.study_instance_uid
    of_group = sa.update(t.groups).where(t.groups.c.id == group.id)
    connection.execute(of_group.values(study_instance_uid=filed_in))
    return work_items.create(
        connection,
        group_id=group.id,
        study_instance_uid=filed_in,
        result_key=key,
        bundle_digest=bundle_digest,
        cause=Cause.NEW if earlier is None else Cause.ADDENDUM,
        step=Step.SCORE,
        now=now,
        instance_ids=content.instance_ids,
        replaces_key=earlier,
        reason=HELD_PATIENT_ID if len(content.patients) > 1 else None,
    )


def _supersede(connection: sa.Connection, group_id: str, now: float) -> None:
    """End what was being made of the smaller set, unless its objects may already have left.

    What is yet to be fetched is no smaller set: somebody named more than what came by itself.
    """
    w = t.work_items.c
    unsent = (w.group_id == group_id) & w.delivering_since.is_(None) & (w.step != Step.RETRIEVE)
    live = unsent & w.state.in_((State.SCHEDULED, State.IN_PROGRESS)) & w.cause.in_((Cause.NEW, Cause.ADDENDUM))
    ended = {
        "state": State.CANCELED,
        "reason": SUPERSEDED,
        "finished_at": now,
        "lease_owner": None,
        "lease_until": 0.0,
    }
    connection.execute(sa.update(t.work_items).where(live).values(ended))


_OF_GROUP: Final = (
    sa.select(t.groups.c.id, sa.func.count().label("instances"))
    .join(t.studies, t.studies.c.group_id == t.groups.c.id)
    .join(t.instances, t.instances.c.study_instance_uid == t.studies.c.study_instance_uid)
    .where(t.groups.c.receiving, t.groups.c.quiet_since.between(sa.bindparam("from"), sa.bindparam("until")))
    .group_by(t.groups.c.id)
    .subquery()
)
_SOON: Final = (
    sa.select(t.instances)
    .join(t.studies, t.instances.c.study_instance_uid == t.studies.c.study_instance_uid)
    .join(_OF_GROUP, _OF_GROUP.c.id == t.studies.c.group_id)
    .where(
        _OF_GROUP.c.instances <= sa.bindparam("most"),
        t.instances.c.may_be_scored,
        ~t.instances.c.conflict,
        t.instances.c.received_at.is_not(None),
    )
    .order_by(t.studies.c.group_id, t.instances.c.sop_instance_uid)
)
"""Built once: to build a statement takes SQLAlchemy longer than to run it, and this runs four times a second."""
