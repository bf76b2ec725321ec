"""What `show`, `worklist` and the pages say of the ledger, in the words of the contract (plain JSON values)."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa

from agent.domain.errors import NotFoundError
from agent.domain.work_item import DEAD_LETTERS, HELD, RECEIVING, WITHHELD, State, WorkItem
from agent.worklist import blinding
from agent.worklist import tables as t
from agent.worklist.ledger import Ledger
from agent.worklist.study_parts import (
    associations_of,
    instance_entry,
    instances_of,
    iso,
    order_check_of,
    outcomes_of,
    results_of,
    scored_part,
    times_of,
)
from agent.worklist.work_items import as_work_item, needs_a_person

FILTERS: Final = ("RECEIVING", "SCHEDULED", "IN PROGRESS", "COMPLETED", "CANCELED", "held", "withheld", "failed")
"""What `worklist --state` takes."""


def worklist(ledger: Ledger, state: str | None = None, *, limit: int = 1000) -> list[dict[str, Any]]:
    """List work items, newest first; groups that still receive stand on top."""
    query = sa.select(t.work_items).where(_of_state(state)).order_by(t.work_items.c.id.desc())
    receiving_ones = sa.select(t.groups).where(t.groups.c.receiving)
    with ledger.read() as connection:
        rows = connection.execute(query.limit(limit)).all()
        groups = connection.execute(receiving_ones).all() if state in (None, RECEIVING) else ()
        keys = {row.result_key for row in rows}
        scores = outcomes_of(connection, keys)
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
        instances = instances_of(connection, group_id, study_instance_uid, items)
        outcomes = outcomes_of(connection, {item.result_key for item in items}, unblinded=unblinded)
        hidden = blinding.hidden_keys(connection, list(outcomes))
        masked = frozenset() if unblinded else hidden
        scored = next((outcomes[item.result_key] for item in items if item.result_key in outcomes), None)
        newest = items[0] if items else None
        outcome = outcomes.get(newest.result_key) if newest else None
        shown = {
            "study_instance_uid": study_instance_uid,
            "group": group_id,
            **_state(group, newest),
            "withheld": bool(newest and newest.result_key in hidden),
            "work_items": [_work_item_entry(item, outcomes.get(item.result_key)) for item in items],
            **scored_part(outcome or scored, instances),
            "results": results_of(connection, newest, masked),
            "instances": [instance_entry(row) for row in instances],
            "associations": associations_of(connection, instances),
            "order": order_check_of(connection, group_id),
            "times": times_of(connection, group, items, masked),
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
