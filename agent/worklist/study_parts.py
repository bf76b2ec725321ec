"""The parts that a study's record is composed of, in the words of the contract (plain JSON values)."""

from __future__ import annotations

import json
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa

from agent.domain.borderline import borderline
from agent.domain.score import score_from
from agent.domain.work_item import WITHHELD, Step
from agent.worklist import blinding
from agent.worklist import tables as t

_LATER: Final = "arrived after this score"
_REMOVED: Final = "its file was removed by retention, and the archive did not give it back for this score"
_WITHHELD: Final = "withheld until it is released"
_TELLING: Final = (Step.SCORE, Step.REPORT)
"""Steps whose outcome tells the result: the grade or refusal, and how many objects it has."""


def iso(seconds: float | None) -> str | None:
    """Write a ledger time as ISO 8601 UTC with milliseconds."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def _scores(keys: Collection[str]) -> sa.Select[Any]:
    return sa.select(t.scores.c.result_key, t.scores.c.outcome).where(t.scores.c.result_key.in_(keys))


def outcomes_of(
    connection: sa.Connection, keys: Collection[str], *, unblinded: bool = False
) -> dict[str, dict[str, Any]]:
    """Read outcomes by result key; what is withheld is masked."""
    hidden = frozenset() if unblinded else blinding.hidden_keys(connection, keys)
    found = {row.result_key: json.loads(row.outcome) for row in connection.execute(_scores(keys))}
    return {key: blinding.masked(outcome) if key in hidden else outcome for key, outcome in found.items()}


def order_check_of(connection: sa.Connection, group_id: str) -> dict[str, Any] | None:
    """Read what the newest comparison with the order said; None where none was made."""
    c = t.order_checks
    query = sa.select(c).where(c.c.group_id == group_id).order_by(c.c.work_item_id.desc()).limit(1)
    row = connection.execute(query).first()
    if row is None:
        return None
    at = iso(row.checked_at)
    return {"result": row.result, "detail": row.detail, "worklist": row.worklist, "checked_at": at}


def instances_of(
    connection: sa.Connection, group_id: str, study: str, items: list[sa.Row[Any]] | Any
) -> list[sa.Row[Any]]:
    """Read the instances of a group, and those that its work items fetched."""
    i, s, links = t.instances, t.studies.c, t.work_item_instances.c
    of_group = sa.select(s.study_instance_uid).where(s.group_id == group_id)
    retrieved = sa.select(links.instance_id).where(links.work_item_id.in_([item.id for item in items]))
    where = i.c.study_instance_uid.in_(of_group) | (i.c.study_instance_uid == study) | i.c.id.in_(retrieved)
    return list(connection.execute(sa.select(i).where(where).order_by(i.c.id)).all())


def scored_part(outcome: dict[str, Any] | None, instances: list[sa.Row[Any]]) -> dict[str, Any]:
    """Compose the score, the model and one entry under `views` at least for every instance."""
    score, views = (outcome["score"], list(outcome["views"])) if outcome else (None, [])
    hidden = outcome is not None and blinding.is_masked(outcome)
    otherwise = _WITHHELD if hidden else _LATER if outcome else "not scored yet"
    looked_at = {view["sop_instance_uid"] for view in views}
    for row in instances:
        if row.sop_instance_uid not in looked_at or row.conflict:
            views.append(_unseen(row, otherwise))
    return {
        "score": score,
        "borderline": list(borderline(score_from(score))) if score else [],
        "refusal": outcome and outcome["refusal"],
        "views": views,
        "model": outcome and outcome["model"],
    }


def _unseen(row: sa.Row[Any], otherwise: str) -> dict[str, Any]:
    reason = row.not_scored_reason or (_REMOVED if row.removed_at and otherwise == _LATER else otherwise)
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


def instance_entry(row: sa.Row[Any]) -> dict[str, Any]:
    """Say what was received, and when."""
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
        "removed_at": iso(row.removed_at),
    }


def results_of(connection: sa.Connection, newest: sa.Row[Any] | None, hidden: frozenset[str]) -> list[dict[str, Any]]:
    """Say of each object and archive how far it got; nothing where it is withheld: a refusal has fewer objects."""
    if newest is None or newest.result_key in hidden:
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


def associations_of(connection: sa.Connection, instances: list[sa.Row[Any]]) -> list[dict[str, Any]]:
    """Say over which associations instances came."""
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


def times_of(
    connection: sa.Connection, group: sa.Row[Any] | None, items: Any, hidden: frozenset[str]
) -> dict[str, Any]:
    """Say when what happened; what steps of a withheld result came to is not told."""
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
                "outcome": WITHHELD if row.work_item_id in blind and row.step in _TELLING else row.outcome,
            }
            for row in rows
        ],
    }
