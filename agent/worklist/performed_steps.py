"""Steps of somebody else's worklist that we perform: recorded before they are claimed, so that a crash loses none."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from agent.domain.procedure_step import PerformedStep, Performing
from agent.domain.work_item import Cause
from agent.worklist import tables as t
from agent.worklist.fetching import fetch
from agent.worklist.ledger import Ledger

_OPEN = (Performing.CLAIMING, Performing.PERFORMING)


def begin(
    ledger: Ledger, *, provider: str, sop_instance_uid: str, study_instance_uid: str, transaction_uid: str, now: float
) -> bool:
    """Record that a step is about to be claimed; False where it was known already."""
    p = t.procedure_steps.c
    known = sa.select(p.id).where(p.provider == provider, p.sop_instance_uid == sop_instance_uid)
    values = {
        "provider": provider,
        "sop_instance_uid": sop_instance_uid,
        "transaction_uid": transaction_uid,
        "study_instance_uid": study_instance_uid,
        "state": Performing.CLAIMING,
        "attempts": 0,
        "not_before": 0.0,
        "created_at": now,
    }
    with ledger.write() as connection:
        if connection.execute(known).first() is not None:
            return False
        connection.execute(sa.insert(t.procedure_steps).values(values))
    return True


def open_steps(ledger: Ledger, provider: str) -> list[PerformedStep]:
    """List what of a provider's worklist is not done, oldest first."""
    p = t.procedure_steps.c
    query = sa.select(t.procedure_steps).where(p.provider == provider, p.state.in_(_OPEN)).order_by(p.id)
    with ledger.read() as connection:
        return [_step(row) for row in connection.execute(query)]


def claimed(ledger: Ledger, step: PerformedStep, *, bundle_digest: str, now: float) -> int:
    """Record a claim that arrived, and have its study fetched and scored; returns the work item's row."""
    p = t.procedure_steps.c
    with ledger.write() as connection:
        work_item_id = fetch(connection, step.study_instance_uid, cause=Cause.NEW, bundle_digest=bundle_digest, now=now)
        values = {"state": Performing.PERFORMING, "work_item_id": work_item_id}
        connection.execute(sa.update(t.procedure_steps).where(p.id == step.id).values(values))
    return work_item_id


def told(ledger: Ledger, step: PerformedStep, progress: str) -> None:
    """Record what the provider was told."""
    _change(ledger, step, {"progress": progress[:32], "attempts": 0, "last_error": None})


def put_off(ledger: Ledger, step: PerformedStep, *, not_before: float, error: str) -> None:
    """Record a fault that may pass, and when to try again."""
    _change(ledger, step, {"attempts": step.attempts + 1, "not_before": not_before, "last_error": error[:512]})


def end(ledger: Ledger, step: PerformedStep, state: Performing, *, now: float, error: str | None = None) -> None:
    """Record that nothing more is to be done for a step."""
    _change(ledger, step, {"state": state, "ended_at": now, "last_error": error and error[:512]})


def _change(ledger: Ledger, step: PerformedStep, values: dict[str, Any]) -> None:
    with ledger.write() as connection:
        connection.execute(sa.update(t.procedure_steps).where(t.procedure_steps.c.id == step.id).values(values))


def _step(row: sa.Row[Any]) -> PerformedStep:
    return PerformedStep(
        id=row.id,
        sop_instance_uid=row.sop_instance_uid,
        transaction_uid=row.transaction_uid,
        study_instance_uid=row.study_instance_uid,
        state=Performing(row.state),
        work_item_id=row.work_item_id,
        progress=row.progress,
        attempts=row.attempts,
        not_before=row.not_before,
    )
