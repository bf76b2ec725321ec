"""What `show`, `worklist` and the pages say of the ledger, in the words of the contract (plain JSON values)."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa

from agent.domain.borderline import borderline
from agent.domain.errors import NotFoundError
from agent.domain.score import score_from
from agent.domain.work_item import DEAD_LETTERS, HELD, RECEIVING, WITHHELD, State, Step, WorkItem
from agent.worklist import blinding
from agent.worklist import tables as t
from agent.worklist.ledger import Ledger
from agent.worklist.work_items import as_work_item, needs_a_person

FILTERS: Final = ("RECEIVING", "SCHEDULED", "IN PROGRESS", "COMPLETED", "CANCELED", "held", "withheld", "failed")
"""What `worklist --state` takes."""


def iso(seconds: float | None) -> str | None:
    """Write a ledger time as ISO 8601 UTC with milliseconds."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def worklist(ledger: Ledger, state: str | None = None, *, limit: int = 1000) -> list[dict[str, Any]]:
    """List work items, newest first; groups that still receive stand on top."""
    query = sa.select(t.work_items).where(_of_state(state)).order_by(t.work_items.c.id.desc())
    receiving_ones = sa.select(t.groups).where(t.groups.c.receiving)
    with ledger.read() as connection:
        rows = connection.execute(query.limit(limit)).all()
        groups = connection.execute(receiving_ones).all() if state in (None, RECEIVING) else ()
        keys = {row.result_key for row in rows}
        scores = _outcomes(connection, keys)
    receiving = [_receiving_entry(group) for group in groups]
    return receiving + [_work_item_entry(row, scores.get(row.result_key)) for row in rows]


def show(ledger: Ledger, study_instance_uid: str, *, unblinded: bool = False) -> dict[str, Any]:
    """Everything known of a study.

    Parameters
    ----------
    unblinded
        Tell withheld results too.

    Raises
    ------
    NotFoundError
        Neither an instance nor a work item of it is known.
    """
    with ledger.read() as connection:
        study = _one(connection, t.studies, t.studies.c.study_instance_uid == study_instance_uid)
        group_id = study.group_id if study else study_instance_uid
        group = _one(connection, t.groups, t.groups.c.id == group_id)
        w = t.work_items.c
        items = connection.execute(sa.select(t.work_items).where(w.group_id == group_id).order_by(w.id.desc())).all()
        if study is None and not items:
            raise NotFoundError(f"study {study_instance_uid} is not in the ledger", remedy="see `agent worklist`")
        instances = _instances(connection, group_id, study_instance_uid, items)
        outcomes = _outcomes(connection, {item.result_key for item in items}, unblinded=unblinded)
        hidden = blinding.hidden_keys(connection, list(outcomes))
        scored = next((outcomes[item.result_key] for item in items if item.result_key in outcomes), None)
        newest = items[0] if items else None
        outcome = outcomes.get(newest.result_key) if newest else None
        shown = {
            "study_instance_uid": study_instance_uid,
            "group": group_id,
            **_state(group, newest),
            "withheld": bool(newest and newest.result_key in hidden),
            "work_items": [_work_item_entry(item, outcomes.get(item.result_key)) for item in items],
            **_scored_part(outcome or scored, instances),
            "results": _results(connection, newest),
            "instances": [_instance_entry(row) for row in instances],
            "associations": _associations(connection, instances),
            "order": _order_check(connection, group_id),
            "times": _times(connection, group, items, frozenset() if unblinded else hidden),
        }
    return shown


def counts(ledger: Ledger) -> dict[str, int]:
    """Count work items by state, with `held`, `failed` and studies still receiving, for metrics and page filters."""
    totals = dict.fromkeys(FILTERS, 0)
    w = t.work_items.c
    grouped = sa.select(w.state, sa.func.count().label("count_")).group_by(w.state)
    receiving = sa.select(sa.func.count()).select_from(t.groups).where(t.groups.c.receiving)
    with ledger.read() as connection:
        totals[RECEIVING] = int(connection.execute(receiving).scalar_one())
        totals |= {row.state: row.count_ for row in connection.execute(grouped)}
        for name in ("held", "withheld", "failed"):
            counted = sa.select(sa.func.count()).select_from(t.work_items).where(_of_state(name))
            totals[name] = int(connection.execute(counted).scalar_one())
    return totals


def oldest_unfinished(ledger: Ledger) -> float | None:
    """When the oldest work item that is neither finished, held nor withheld was made."""
    w = t.work_items.c
    query = sa.select(sa.func.min(w.created_at)).where(w.finished_at.is_(None), ~needs_a_person())
    with ledger.read() as connection:
        return connection.execute(query).scalar_one_or_none()


def find_work_items(
    ledger: Ledger, *, study: str | None, state: str | None, since: float | None, reason: str | None = None
) -> list[WorkItem]:
    """Find work items by study, by state filter, by a reason's beginning and by age, newest first."""
    w = t.work_items.c
    query = sa.select(t.work_items).where(_of_state(state)).order_by(w.id.desc())
    if study is not None:
        query = query.where(w.study_instance_uid == study)
    if since is not None:
        query = query.where(w.created_at >= since)
    if reason is not None:
        query = query.where(w.reason.startswith(reason, autoescape=True))
    with ledger.read() as connection:
        return [as_work_item(row) for row in connection.execute(query)]


def newest_of_its_group(ledger: Ledger, item: WorkItem) -> bool:
    """Whether no later work item of the group stands for it: a retry, an addendum, a replay."""
    w = t.work_items.c
    later = sa.select(w.id).where(w.group_id == item.group_id, w.id > item.id).limit(1)
    with ledger.read() as connection:
        return connection.execute(later).first() is None


def studies_since(ledger: Ledger, since: float) -> list[str]:
    """List the studies that arrived or were fetched since a time and have been worked on, one a group, oldest first.

    A study that is still receiving is left out: it is scored anyway.
    """
    w, s, g = t.work_items.c, t.studies.c, t.groups.c
    fresh = sa.select(s.group_id).where(s.first_at >= since)
    known = sa.select(s.group_id)
    wanted = w.group_id.in_(fresh) | (w.group_id.not_in(known) & (w.created_at >= since))
    receiving = sa.select(g.id).where(g.receiving)
    newest = sa.select(sa.func.max(w.id)).where(wanted, w.group_id.not_in(receiving)).group_by(w.group_id)
    query = sa.select(w.study_instance_uid).where(w.id.in_(newest)).order_by(w.id)
    with ledger.read() as connection:
        return list(connection.execute(query).scalars())


def _of_state(state: str | None) -> sa.ColumnElement[bool]:
    """Turn a filter of `worklist --state` into a condition; `failed` are dead letters that nothing later stands for."""
    w, later = t.work_items.c, t.work_items.alias("later").c
    if state is None:
        return sa.true()
    if state == HELD:
        return (w.state == State.SCHEDULED) & w.reason.startswith("held:", autoescape=True)
    if state == WITHHELD:
        return (w.state == State.SCHEDULED) & (w.reason == WITHHELD)
    if state == "failed":
        kinds = sa.or_(*(w.reason.startswith(kind, autoescape=True) for kind in DEAD_LETTERS))
        replaced = sa.exists().where(later.group_id == w.group_id, later.id > w.id)
        return (w.state == State.CANCELED) & kinds & ~replaced
    return w.state == state


def _one(connection: sa.Connection, table: sa.Table, where: sa.ColumnElement[bool]) -> sa.Row[Any] | None:
    return connection.execute(sa.select(table).where(where)).first()


def _scores(keys: set[str]) -> sa.Select[Any]:
    return sa.select(t.scores.c.result_key, t.scores.c.outcome).where(t.scores.c.result_key.in_(keys))


def _outcomes(connection: sa.Connection, keys: set[str], *, unblinded: bool = False) -> dict[str, dict[str, Any]]:
    """Read outcomes by result key; what is withheld is masked."""
    hidden = frozenset() if unblinded else blinding.hidden_keys(connection, keys)
    found = {row.result_key: json.loads(row.outcome) for row in connection.execute(_scores(keys))}
    return {key: blinding.masked(outcome) if key in hidden else outcome for key, outcome in found.items()}


def _order_check(connection: sa.Connection, group_id: str) -> dict[str, Any] | None:
    """Read what the newest comparison with the order said; None where none was made."""
    c = t.order_checks
    query = sa.select(c).where(c.c.group_id == group_id).order_by(c.c.work_item_id.desc()).limit(1)
    row = connection.execute(query).first()
    if row is None:
        return None
    at = iso(row.checked_at)
    return {"result": row.result, "detail": row.detail, "worklist": row.worklist, "checked_at": at}


def _receiving(group: sa.Row[Any] | None) -> bool:
    return bool(group is not None and group.receiving)


def _state(group: sa.Row[Any] | None, newest: sa.Row[Any] | None) -> dict[str, Any]:
    if newest is None:
        return {"state": RECEIVING if _receiving(group) else "CLOSED", "reason": None}
    if _receiving(group):
        return {"state": RECEIVING, "reason": "more of a study that has a work item already"}
    return {"state": newest.state, "reason": newest.reason}


def _receiving_entry(group: sa.Row[Any]) -> dict[str, Any]:
    return {
        "id": None,
        "study_instance_uid": group.study_instance_uid,
        "group": group.id,
        "state": RECEIVING,
        "reason": None,
        "created_at": iso(group.first_at),
    }


def _work_item_entry(row: sa.Row[Any], outcome: dict[str, Any] | None) -> dict[str, Any]:
    score = (outcome or {}).get("score")
    return {
        "id": row.id,
        "study_instance_uid": row.study_instance_uid,
        "group": row.group_id,
        "state": row.state,
        "reason": row.reason,
        "cause": row.cause,
        "step": None if row.finished_at else row.step,
        "created_at": iso(row.created_at),
        "finished_at": iso(row.finished_at),
        "attempts": row.attempts,
        "last_error": row.last_error,
        "result_key": row.result_key,
        "replaces_key": row.replaces_key,
        "grade": score and score["grade"],
        "fat_fraction_percent": score and score["fat_fraction_percent"],
    }


def _instances(
    connection: sa.Connection, group_id: str, study: str, items: list[sa.Row[Any]] | Any
) -> list[sa.Row[Any]]:
    i, s, links = t.instances, t.studies.c, t.work_item_instances.c
    of_group = sa.select(s.study_instance_uid).where(s.group_id == group_id)
    retrieved = sa.select(links.instance_id).where(links.work_item_id.in_([item.id for item in items]))
    where = i.c.study_instance_uid.in_(of_group) | (i.c.study_instance_uid == study) | i.c.id.in_(retrieved)
    return list(connection.execute(sa.select(i).where(where).order_by(i.c.id)).all())


def _scored_part(outcome: dict[str, Any] | None, instances: list[sa.Row[Any]]) -> dict[str, Any]:
    """Compose the score, the model and one entry under `views` at least for every instance."""
    score, views = (outcome["score"], list(outcome["views"])) if outcome else (None, [])
    looked_at = {view["sop_instance_uid"] for view in views}
    for row in instances:
        if row.sop_instance_uid not in looked_at or row.conflict:
            views.append(_unseen(row, scored=outcome is not None))
    return {
        "score": score,
        "borderline": list(borderline(score_from(score))) if score else [],
        "refusal": outcome and outcome["refusal"],
        "views": views,
        "model": outcome and outcome["model"],
    }


def _unseen(row: sa.Row[Any], *, scored: bool) -> dict[str, Any]:
    reason = row.not_scored_reason or ("arrived after this score" if scored else "not scored yet")
    if row.conflict:
        reason = "another version of this instance came first and is scored"
    return {
        "sop_instance_uid": row.sop_instance_uid,
        "frame": None,
        "view": None,
        "used": False,
        "reason": reason,
        "weight": None,
    }


def _instance_entry(row: sa.Row[Any]) -> dict[str, Any]:
    return {
        "sop_instance_uid": row.sop_instance_uid,
        "sop_class_uid": row.sop_class_uid,
        "series_instance_uid": row.series_instance_uid,
        "transfer_syntax_uid": row.transfer_syntax_uid,
        "bytes": row.bytes,
        "sha256": row.sha256,
        "received_at": iso(row.received_at),
        "times_received": row.times_received,
        "conflict": row.conflict,
    }


def _results(connection: sa.Connection, newest: sa.Row[Any] | None) -> list[dict[str, Any]]:
    if newest is None:
        return []
    o, b = t.result_objects, t.outbox
    query = sa.select(b, o.c.sop_class_uid, o.c.series_instance_uid, o.c.kind).join(
        o, o.c.sop_instance_uid == b.c.sop_instance_uid
    )
    return [
        {
            "kind": row.kind,
            "sop_class_uid": row.sop_class_uid,
            "sop_instance_uid": row.sop_instance_uid,
            "series_instance_uid": row.series_instance_uid,
            "destination": row.destination,
            "state": row.state,
            "proof": row.proof,
            "commitment": _commitment(row),
            "attempts": row.attempts,
            "last_error": row.last_error,
            "sent_at": iso(row.sent_at),
            "proved_at": iso(row.proved_at),
            "next_attempt_at": iso(row.not_before) if row.state in ("pending", "sent") and row.not_before else None,
        }
        for row in connection.execute(query.where(b.c.work_item_id == newest.id).order_by(b.c.id))
    ]


def _commitment(row: sa.Row[Any]) -> str | None:
    """Say what came of the request for storage commitment; None where none was made."""
    if row.transaction_uid is None:
        return None
    if row.commitment_status is None:
        return "asked"
    return "committed" if row.commitment_status == 0 else f"denied {row.commitment_status:04X}"


def _associations(connection: sa.Connection, instances: list[sa.Row[Any]]) -> list[dict[str, Any]]:
    ids = {row.association_id for row in instances if row.association_id is not None}
    a = t.associations
    return [
        {
            "id": row.id,
            "calling_ae_title": row.calling_ae_title,
            "peer_host": row.peer_host,
            "opened_at": iso(row.opened_at),
            "closed_at": iso(row.closed_at),
            "outcome": row.outcome,
        }
        for row in connection.execute(sa.select(a).where(a.c.id.in_(ids)).order_by(a.c.id))
    ]


def _times(connection: sa.Connection, group: sa.Row[Any] | None, items: Any, hidden: frozenset[str]) -> dict[str, Any]:
    ids = [item.id for item in items]
    blind = {item.id for item in items if item.result_key in hidden}
    rows = connection.execute(sa.select(t.steps).where(t.steps.c.work_item_id.in_(ids)).order_by(t.steps.c.id))
    return {
        "first_instance": iso(group.first_at) if group else None,
        "last_instance": iso(group.quiet_since) if group else None,
        "closed": iso(group.closed_at) if group else None,
        "interruptions": group.interruptions if group else 0,
        "steps": [
            {
                "work_item": row.work_item_id,
                "step": row.step,
                "started": iso(row.started_at),
                "ended": iso(row.ended_at),
                "seconds": None if row.ended_at is None else round(row.ended_at - row.started_at, 3),
                "outcome": WITHHELD if row.work_item_id in blind and row.step == Step.SCORE else row.outcome,
            }
            for row in rows
        ],
    }


def newest_scored_key(ledger: Ledger, study_instance_uid: str) -> str | None:
    """Find the result key that the newest score of a study is kept under."""
    w, k = t.work_items.c, t.scores.c
    of_study = sa.select(t.studies.c.group_id).where(t.studies.c.study_instance_uid == study_instance_uid)
    ours = (w.study_instance_uid == study_instance_uid) | w.group_id.in_(of_study)
    query = sa.select(w.result_key).join(t.scores, k.result_key == w.result_key).where(ours)
    with ledger.read() as connection:
        return connection.execute(query.order_by(w.id.desc()).limit(1)).scalar_one_or_none()


def is_hidden(ledger: Ledger, study_instance_uid: str) -> bool:
    """Whether the newest score of a study is withheld."""
    key = newest_scored_key(ledger, study_instance_uid)
    with ledger.read() as connection:
        return key is not None and bool(blinding.hidden_keys(connection, [key]))


def newest_object(ledger: Ledger, study_instance_uid: str, kind: str) -> tuple[str, str] | None:
    """Find (result key, SOP Instance UID) of an object of a study's newest score."""
    key, o = newest_scored_key(ledger, study_instance_uid), t.result_objects.c
    query = sa.select(o.result_key, o.sop_instance_uid).where(o.result_key == key, o.kind == kind).limit(1)
    with ledger.read() as connection:
        row = connection.execute(query).first()
    return None if row is None else (row.result_key, row.sop_instance_uid)
