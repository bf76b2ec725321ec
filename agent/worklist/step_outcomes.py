"""Work items in the words of Unified Procedure Steps: read for those who may see them, withheld results left out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from agent.domain.procedure_step import OfferedStep, Outcome, Reference, WantedSteps
from agent.domain.work_item import HELD, WITHHELD, State
from agent.worklist import tables as t
from agent.worklist.known_studies import known_studies
from agent.worklist.ledger import Ledger

_MOST_OFFERED = 1000


def offered(ledger: Ledger, wanted: WantedSteps) -> list[OfferedStep]:
    """List the work items that are asked for, newest first, a thousand at most."""
    w, s = t.work_items, known_studies()
    query = sa.select(w, s.c.patient_id, s.c.issuer_of_patient_id, s.c.accession_number).select_from(
        w.outerjoin(s, s.c.study_instance_uid == w.c.study_instance_uid)
    )
    query = query.where(*_conditions(wanted, s.c.patient_id)).order_by(w.c.id.desc()).limit(_MOST_OFFERED)
    with ledger.read() as connection:
        rows = connection.execute(query).all()
        return [_offered(connection, row, with_references=wanted.with_references) for row in rows]


def _conditions(wanted: WantedSteps, patient_id: sa.ColumnElement[str]) -> Iterator[sa.ColumnElement[bool]]:
    w = t.work_items.c
    if wanted.numbers is not None:
        yield w.id.in_(wanted.numbers)
    if wanted.state is State.IN_PROGRESS:
        yield (w.state == State.IN_PROGRESS) | (w.reason == WITHHELD)
    elif wanted.state is not None:
        yield (w.state == wanted.state) & w.reason.is_distinct_from(WITHHELD)
    if wanted.patient_id is not None:
        yield sa.func.coalesce(patient_id, "") == wanted.patient_id
    if wanted.study_instance_uid is not None:
        yield w.study_instance_uid == wanted.study_instance_uid


def outcome_of(ledger: Ledger, work_item_id: int) -> Outcome | None:
    """Say how the newest work item stands that stands for this one; None where it is gone."""
    w = t.work_items.c
    with ledger.read() as connection:
        group = sa.select(w.group_id).where(w.id == work_item_id).scalar_subquery()
        query = sa.select(t.work_items).where(w.group_id == group, w.id >= work_item_id).order_by(w.id.desc())
        row = connection.execute(query.limit(1)).first()
        return None if row is None else _outcome(connection, row)


def _offered(connection: sa.Connection, row: sa.Row[Any], *, with_references: bool) -> OfferedStep:
    return OfferedStep(
        work_item_id=row.id,
        study_instance_uid=row.study_instance_uid,
        patient_id=row.patient_id or "",
        issuer_of_patient_id=row.issuer_of_patient_id or "",
        accession_number=row.accession_number or "",
        created_at=row.created_at,
        outcome=_outcome(connection, row) if with_references else _stands(row),
        inputs=_inputs(connection, row.id) if with_references else (),
    )


def _inputs(connection: sa.Connection, work_item_id: int) -> tuple[Reference, ...]:
    i, links = t.instances.c, t.work_item_instances.c
    query = sa.select(i.study_instance_uid, i.series_instance_uid, i.sop_class_uid, i.sop_instance_uid)
    inputs = query.join(t.work_item_instances, links.instance_id == i.id).where(links.work_item_id == work_item_id)
    return tuple(_reference(one) for one in connection.execute(inputs.order_by(i.sop_instance_uid)))


def _outcome(connection: sa.Connection, row: sa.Row[Any]) -> Outcome:
    started = sa.select(sa.func.min(t.steps.c.started_at)).where(t.steps.c.work_item_id == row.id)
    ended = row.finished_at is not None
    return replace(
        _stands(row),
        outputs=_outputs(connection, row.result_key) if ended else (),
        started_at=connection.execute(started).scalar() or (row.created_at if ended else None),
    )


def _stands(row: sa.Row[Any]) -> Outcome:
    """Say how a work item stands, as far as its own row tells."""
    return Outcome(
        state=State.IN_PROGRESS if row.reason == WITHHELD else State(row.state),
        progress=_progress(row),
        reason=(row.reason or "") if row.state == State.CANCELED else "",
        ended_at=row.finished_at,
    )


def _progress(row: sa.Row[Any]) -> str:
    if row.finished_at is not None:
        return "ended"
    if row.reason == WITHHELD or (row.reason or "").startswith(HELD):
        return str(row.reason).partition(":")[0]
    return str(row.step)


def _outputs(connection: sa.Connection, key: str) -> tuple[Reference, ...]:
    o = t.result_objects.c
    query = sa.select(o.study_instance_uid, o.series_instance_uid, o.sop_class_uid, o.sop_instance_uid)
    made = query.where(o.result_key == key).order_by(o.kind, o.position)
    return tuple(_reference(row) for row in connection.execute(made))


def _reference(row: Any) -> Reference:
    return Reference(**row._mapping)
