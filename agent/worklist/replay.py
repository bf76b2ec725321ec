"""Replay and retry: a new work item for a study that is known, from the spool or from its archive."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from agent.domain.eligibility import OWN_RESULT
from agent.domain.errors import NotFoundError
from agent.domain.result_uids import result_key
from agent.domain.results import Extras
from agent.domain.work_item import (
    FAULT,
    HELD_PATIENT_ID,
    LIVE_CAUSES,
    NOT_RETRIEVED,
    RELEASED,
    Cause,
    State,
    Step,
    WorkItem,
)
from agent.worklist import outbox, removed, results, work_items
from agent.worklist import tables as t
from agent.worklist.closing import GroupContent, content_of, group_content, is_to_be_held, latest_key
from agent.worklist.ledger import Ledger


class Source(StrEnum):
    """Where a replay takes the instances from."""

    SPOOL = "spool"
    ARCHIVE = "archive"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a replay would do; made without changing anything."""

    study_instance_uid: str
    source: Source
    result_key: str | None
    """None where only the archive can tell."""
    known: bool
    """The key has been scored before: proved again, no new object."""


def plan(
    ledger: Ledger,
    study_instance_uid: str,
    *,
    wanted: Source | None,
    has_file: Callable[[str], bool],
    archive_holds: Callable[[str], bool],
    bundle_digest: str,
) -> Plan:
    """Choose the source: the spool where it is whole, else the archive.

    Parameters
    ----------
    wanted
        The operator's choice, or None.
    has_file
        Whether the spool has the instance of a digest.
    archive_holds
        Whether the archive lists a study; asked only if needed.

    Raises
    ------
    NotFoundError
        The study is nowhere, or not where the operator said.
    """
    with ledger.read() as connection:
        group = _group_of(connection, study_instance_uid)
        content = None if group is None else group_content(connection, group.id)
        whole = content is not None and bool(content.digests) and all(map(has_file, content.digests))
        if whole and wanted is not Source.ARCHIVE and group is not None and content is not None:
            key = result_key(group.id, content.digests, bundle_digest)
            known = results.has_objects(connection, key)
            return Plan(study_instance_uid=study_instance_uid, source=Source.SPOOL, result_key=key, known=known)
    if wanted is Source.SPOOL:
        raise NotFoundError(
            f"the spool does not hold study {study_instance_uid} whole", remedy="replay it with --from archive"
        )
    if not archive_holds(study_instance_uid):
        raise NotFoundError(
            f"study {study_instance_uid} is neither in the spool nor in an archive we may query",
            remedy="check the UID, and archive.query in the settings",
        )
    return Plan(study_instance_uid=study_instance_uid, source=Source.ARCHIVE, result_key=None, known=False)


def schedule(
    ledger: Ledger,
    planned: Plan,
    *,
    bundle_digest: str,
    now: float,
    cause: Cause = Cause.REPLAY,
    bundle_path: str | None = None,
) -> int:
    """Make the work item of a plan, unless a replay or retry of the same key is under way already; returns its row."""
    with ledger.write() as connection:
        group = _group_of(connection, planned.study_instance_uid)
        group_id = planned.study_instance_uid if group is None else group.id
        from_spool = planned.source is Source.SPOOL
        filed_in = group.study_instance_uid if group is not None and from_spool else planned.study_instance_uid
        content = group_content(connection, group_id) if from_spool else None
        key = result_key(group_id, content.digests if content else (), bundle_digest)
        under_way = _under_way(connection, group_id, key)
        if under_way is not None:
            return under_way
        return work_items.create(
            connection,
            group_id=group_id,
            study_instance_uid=(content.filed_in if content else None) or filed_in,
            result_key=key,
            bundle_digest=bundle_digest,
            cause=cause,
            step=Step.SCORE if from_spool else Step.RETRIEVE,
            now=now,
            instance_ids=content.instance_ids if content else (),
            replaces_key=_replaced(connection, group_id, key),
            reason=HELD_PATIENT_ID if content and is_to_be_held(connection, group_id, content) else None,
            bundle_path=bundle_path,
        )


def rekey(ledger: Ledger, item: WorkItem, owner: str, *, bundle_digest: str) -> WorkItem:
    """Give a work item of the configured bundle the key of the bundle that is configured now.

    The bundle was exchanged while the work item waited: it is scored with what is installed, and says so.
    """
    w = t.work_items.c
    digests = [instance.sha256 for instance in results.instances_of(ledger, item.id)]
    key = result_key(item.group_id, digests, bundle_digest)
    with ledger.write() as connection:
        work_items.check_lease(connection, item.id, owner, Step.SCORE)
        values = {
            "bundle_digest": bundle_digest,
            "result_key": key,
            "replaces_key": _replaced(connection, item.group_id, key),
        }
        connection.execute(sa.update(t.work_items).where(w.id == item.id).values(values))
        return work_items.as_work_item(connection.execute(sa.select(t.work_items).where(w.id == item.id)).one())


def settle_retrieval(ledger: Ledger, item: WorkItem, owner: str, *, retrieval_ids: Sequence[int], now: float) -> None:
    """Give a work item the instances that its retrievals fetched, and move it on to be scored."""
    links, i = t.retrieval_instances, t.instances
    query = sa.select(i).join(links, links.c.instance_id == i.c.id).where(links.c.retrieval_id.in_(retrieval_ids))
    with ledger.write() as connection:
        rows = connection.execute(query.order_by(i.c.id.desc())).all()
        content = removed.completed(connection, item, rows)
        if content is None and rows and not any(row.may_be_scored for row in rows):
            _check_may_be_refused(connection, item, rows)
        content = content or _retrieved_content(connection, item, rows)
        if not content.instance_ids:
            raise NotFoundError(
                f"the archive sent nothing of study {item.study_instance_uid} that could be scored",
                remedy="see the archive's own log",
            )
        key = result_key(item.group_id, content.digests, item.bundle_digest)
        work_items.set_instances(connection, item.id, content.instance_ids)
        values = {"result_key": key, "replaces_key": _replaced(connection, item.group_id, key)}
        connection.execute(sa.update(t.work_items).where(t.work_items.c.id == item.id).values(values))
        fetched = f"{len(rows)} instances"
        work_items.advance(connection, item.id, owner, done=Step.RETRIEVE, step=Step.SCORE, now=now, outcome=fetched)
        if is_to_be_held(connection, item.group_id, content):
            work_items.lay_aside(connection, item.id, reason=HELD_PATIENT_ID, now=now)


def skip_to_delivery(
    ledger: Ledger,
    item: WorkItem,
    owner: str,
    *,
    destinations: tuple[str, ...],
    intact: Callable[[dict[str, str]], bool],
    now: float,
    extras: Extras = outbox.NO_EXTRAS,
    blinded: frozenset[str] = outbox.NOBODY,
) -> bool:
    """Move a work item whose key was scored and reported before straight to proving and sending what is missing.

    Parameters
    ----------
    intact
        Whether the store still holds these objects (UID to sha256) byte for byte.

    Returns
    -------
    bool
        False where it must be scored or reported (again): the outcome will be the same.
    """
    digests = results.object_digests(ledger, item.result_key)
    if not digests or results.score_of(ledger, item.result_key) is None or not intact(digests):
        return False
    with ledger.write() as connection:
        known = "known result"
        work_items.advance(connection, item.id, owner, done=Step.SCORE, step=Step.DELIVER, now=now, outcome=known)
        key = item.result_key
        outbox.fill(connection, item.id, key, destinations, look_first=True, extras=extras, blinded=blinded)
    return True


def cancel(ledger: Ledger, work_item_id: int, *, reason: str, now: float) -> bool:
    """End a work item in any state but a final one; whoever runs it finds its lease lost."""
    w = t.work_items.c
    live = (w.id == work_item_id) & w.state.in_((State.SCHEDULED, State.IN_PROGRESS))
    ended = {"state": State.CANCELED, "reason": reason, "finished_at": now, "lease_owner": None, "lease_until": 0.0}
    with ledger.write() as connection:
        return connection.execute(sa.update(t.work_items).where(live).values(ended)).rowcount > 0


def fail(ledger: Ledger, item: WorkItem, owner: str, *, step: Step, reason: str, now: float) -> None:
    """End a work item that will not succeed by itself: a dead letter, listed by `worklist --state failed`."""
    kind = NOT_RETRIEVED if step is Step.RETRIEVE else FAULT
    with ledger.write() as connection:
        text = f"{kind}: {reason}"[:256]
        work_items.finish(connection, item.id, owner, done=step, state=State.CANCELED, reason=text, now=now)


def _check_may_be_refused(connection: sa.Connection, item: WorkItem, rows: Sequence[Any]) -> None:
    """Refuse to score what an archive holds without an image, where that would replace a result by "no image".

    A refusal is about a study. That an archive has only our own results, or not the images that came here, says
    nothing of the study.
    """
    i = t.instances.c
    images = sa.select(i.id).where(i.study_instance_uid == item.study_instance_uid, i.may_be_scored).limit(1)
    if any(row.not_scored_reason != OWN_RESULT for row in rows) and connection.execute(images).first() is None:
        return
    raise NotFoundError(
        "the archive holds no ultrasound image of the study, only what cannot be scored",
        remedy="have its images sent there, or replay --from spool",
    )


def ended_so(ledger: Ledger, work_item_id: int, outcome: str) -> int:
    """Count the steps of a work item that ended with this outcome."""
    s = t.steps.c
    query = sa.select(sa.func.count()).where(s.work_item_id == work_item_id, s.outcome == outcome)
    with ledger.read() as connection:
        return int(connection.execute(query).scalar_one())


def _retrieved_content(connection: sa.Connection, item: WorkItem, rows: Sequence[sa.Row[Any]]) -> GroupContent:
    """Say what is scored of what was fetched, newest first: the same image once, however often it was sent.

    What somebody named and what came by itself meanwhile are the same images, though an archive may have changed their
    headers: those that came are scored then, so that it is one result.
    """
    fetched = content_of(list({row.sop_instance_uid: row for row in rows}.values()))
    if item.cause not in LIVE_CAUSES or not fetched.sop_instance_uids:
        return fetched
    came, i, s = group_content(connection, item.group_id), t.instances.c, t.studies.c
    of_group = sa.select(s.study_instance_uid).where(s.group_id == item.group_id)
    missing = sa.select(i.id).where(i.study_instance_uid.in_(of_group), i.removed_at.is_not(None)).limit(1)
    is_here = fetched.sop_instance_uids <= came.sop_instance_uids and connection.execute(missing).first() is None
    return came if is_here else fetched


def _replaced(connection: sa.Connection, group_id: str, key: str) -> str | None:
    """Find the report that a new key replaces; an old key built anew replaces nothing."""
    earlier = latest_key(connection, group_id)
    return None if earlier == key or results.has_objects(connection, key) else earlier


def _under_way(connection: sa.Connection, group_id: str, key: str) -> int | None:
    w = t.work_items.c
    live = w.state.in_((State.SCHEDULED, State.IN_PROGRESS)) & w.cause.not_in(LIVE_CAUSES)
    query = sa.select(w.id).where(w.group_id == group_id, w.result_key == key, live)
    return connection.execute(query.order_by(w.id.desc()).limit(1)).scalar_one_or_none()


def _group_of(connection: sa.Connection, study_instance_uid: str) -> sa.Row[Any] | None:
    of_study = sa.select(t.studies.c.group_id).where(t.studies.c.study_instance_uid == study_instance_uid)
    return connection.execute(sa.select(t.groups).where(t.groups.c.id.in_(of_study))).first()


def retry(ledger: Ledger, item: WorkItem, *, cause: Cause, now: float) -> int:
    """Make a new work item for the same key and instances; a held one is released by it and ends canceled."""
    links = t.work_item_instances.c
    with ledger.write() as connection:
        chosen = sa.select(links.instance_id).where(links.work_item_id == item.id)
        ids = tuple(connection.execute(chosen).scalars())
        if item.state is State.SCHEDULED:
            ended = {"state": State.CANCELED, "reason": RELEASED, "finished_at": now}
            connection.execute(sa.update(t.work_items).where(t.work_items.c.id == item.id).values(ended))
        return work_items.create(
            connection,
            group_id=item.group_id,
            study_instance_uid=item.study_instance_uid,
            result_key=item.result_key,
            bundle_digest=item.bundle_digest,
            bundle_path=item.bundle_path,
            cause=cause,
            step=Step.SCORE if ids else Step.RETRIEVE,
            now=now,
            instance_ids=ids,
            replaces_key=item.replaces_key,
        )
