"""One page of the worklist as people read it: a row a study, filtered, searched and sorted in the database.

Everything is looked at, not only what is newest: a search that misses the study of last month is worse than none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import GenericFunction

from agent.domain.score import Refusal
from agent.domain.work_item import DELIVERY_FAILED, FAULT, HELD, NOT_RETRIEVED, WITHHELD, State, Step
from agent.worklist import blinding
from agent.worklist import tables as t
from agent.worklist.ledger import Ledger
from agent.worklist.study_parts import outcomes_of

STATUSES: Final = (
    "waiting",
    "queued",
    "fetching",
    "analysing",
    "sending",
    "held",
    "withheld",
    "done",
    "no-score",
    "failed",
    "canceled",
)
"""Where a study stands, for people. A study has one; "no score" is not "failed"."""
SORTS: Final = ("received", "status", "grade", "fat", "certainty", "patient", "accession")
PAGE_ROWS: Final = 50


class outcome_value(GenericFunction[str]):
    """`outcome_value(scores.outcome, part, key)`: one value of an outcome kept as JSON text, as text."""

    inherit_cache = True
    type = sa.String()


@compiles(outcome_value, "sqlite")
def _in_sqlite(element: Any, compiler: Any, **kw: Any) -> str:
    column, part, key = (compiler.process(clause, **kw) for clause in element.clauses)
    return f"json_extract({column}, '$.' || {part} || '.' || {key})"


@compiles(outcome_value, "postgresql")
def _in_postgresql(element: Any, compiler: Any, **kw: Any) -> str:
    column, part, key = (compiler.process(clause, **kw) for clause in element.clauses)
    return f"(({column})::json #>> ARRAY[({part})::text, ({key})::text])"


@dataclass(frozen=True, kw_only=True)
class Query:
    """What a reader of the page asked for.

    Parameters
    ----------
    status
        One of `STATUSES`, or None.
    text
        Part of a Study Instance UID or accession number.
    patients
        (Patient ID, issuer) pairs to look for instead of a text.
    sort, descending
        One of `SORTS`, and its direction.
    page
        From 1.
    unblinded
        Tell, and sort by, withheld results too.
    """

    status: str | None = None
    text: str = ""
    patients: tuple[tuple[str, str], ...] | None = None
    sort: str = "received"
    descending: bool = True
    page: int = 1
    unblinded: bool = False


@dataclass(frozen=True, kw_only=True)
class Row:
    """One study of the page."""

    study_instance_uid: str
    status: str
    reason: str | None
    received_at: float
    quiet_since: float | None
    finished_at: float | None
    patient_id: str
    issuer_of_patient_id: str
    accession_number: str
    outcome: dict[str, Any] | None
    proved: int
    """Deliveries to archives that are proved."""
    deliveries: int
    """Deliveries to archives; 0 where results are only kept."""
    kept: bool
    """Results are made, and no archive is to get them."""
    delivery_error: str | None
    """Why something of it is not proved yet at some archive."""


@dataclass(frozen=True, kw_only=True)
class Page:
    """Rows, and how many there are of what was asked for; counts of every status under the same search."""

    rows: tuple[Row, ...]
    total: int
    counts: dict[str, int]


def browse(ledger: Ledger, query: Query) -> Page:
    """Read one page of the worklist."""
    studies = _searched(query)
    with ledger.read() as connection:
        per_status = sa.select(studies.c.status, sa.func.count()).group_by(studies.c.status)
        counts = dict.fromkeys(STATUSES, 0) | {row[0]: row[1] for row in connection.execute(per_status)}
        chosen = sa.select(studies)
        if query.status is not None:
            chosen = chosen.where(studies.c.status == query.status)
        first = (query.page - 1) * PAGE_ROWS
        rows = connection.execute(chosen.order_by(*_order(studies, query)).limit(PAGE_ROWS).offset(first)).all()
        outcomes = outcomes_of(
            connection, [row.result_key for row in rows if row.result_key], unblinded=query.unblinded
        )
        proofs = _proofs(connection, [row.work_item_id for row in rows if row.work_item_id])
    total = sum(counts.values()) if query.status is None else counts[query.status]
    return Page(rows=tuple(_row(row, outcomes, proofs) for row in rows), total=total, counts=counts)


def find(ledger: Ledger, group_id: str, *, unblinded: bool = False) -> Row | None:
    """Read the row of one group."""
    with ledger.read() as connection:
        row = connection.execute(sa.select(_studies(group_id))).first()
        if row is None:
            return None
        proofs = _proofs(connection, [row.work_item_id] if row.work_item_id else [])
        keys = [row.result_key] if row.result_key else []
        return _row(row, outcomes_of(connection, keys, unblinded=unblinded), proofs)


def _status() -> sa.Case[str]:
    """Say where a study stands, from its group and its newest work item."""
    g, w = t.groups.c, t.work_items.c
    kind = sa.func.coalesce(w.reason, "")
    failed = sa.or_(*(kind.startswith(word, autoescape=True) for word in (DELIVERY_FAILED, FAULT, NOT_RETRIEVED)))
    scheduled, running = w.state == State.SCHEDULED, w.state == State.IN_PROGRESS
    return sa.case(
        (g.receiving.is_(True), "waiting"),
        (scheduled & kind.startswith(f"{HELD}:", autoescape=True), "held"),
        (scheduled & (kind == WITHHELD), "withheld"),
        (scheduled, "queued"),
        (running & (w.step == Step.RETRIEVE), "fetching"),
        (running & (w.step == Step.DELIVER), "sending"),
        (running, "analysing"),
        (w.state == State.COMPLETED, "done"),
        (failed, "failed"),
        (kind.in_([str(refusal) for refusal in Refusal]), "no-score"),
        else_="canceled",
    )


def _studies(group_id: str | None = None) -> sa.Subquery:
    """Compose a row a group, or of one: what arrived, and its newest work item if it has one.

    A study that was only ever fetched has a work item and no group.
    """
    g, w, s, f = t.groups.c, t.work_items.c, t.studies.c, t.fetched_studies.c
    arrived, fetched = sa.select(g.id.label("id")), sa.select(w.group_id.label("id")).distinct()
    fetched = fetched.where(~sa.exists().where(g.id == w.group_id))
    latest = sa.select(w.group_id, sa.func.max(w.id).label("id")).group_by(w.group_id)
    if group_id is not None:
        arrived, fetched = arrived.where(g.id == group_id), fetched.where(w.group_id == group_id)
        latest = latest.where(w.group_id == group_id)
    ids, newest = sa.union_all(arrived, fetched).subquery(), latest.subquery()
    filed_in = sa.func.coalesce(g.study_instance_uid, w.study_instance_uid)
    return (
        sa.select(
            ids.c.id.label("group_id"),
            filed_in.label("study_instance_uid"),
            _status().label("status"),
            w.id.label("work_item_id"),
            w.reason,
            w.result_key,
            sa.func.coalesce(g.first_at, w.created_at).label("received_at"),
            g.quiet_since,
            w.finished_at,
            sa.func.coalesce(s.patient_id, _of_images("patient_id", filed_in), "").label("patient_id"),
            sa.func.coalesce(s.issuer_of_patient_id, _of_images("issuer_of_patient_id", filed_in), "").label(
                "issuer_of_patient_id"
            ),
            sa.func.coalesce(sa.func.nullif(s.accession_number, ""), f.accession_number, "").label("accession_number"),
        )
        .select_from(ids)
        .outerjoin(t.groups, g.id == ids.c.id)
        .outerjoin(newest, newest.c.group_id == ids.c.id)
        .outerjoin(t.work_items, w.id == newest.c.id)
        .outerjoin(t.studies, s.study_instance_uid == filed_in)
        .outerjoin(t.fetched_studies, f.study_instance_uid == filed_in)
        .subquery()
    )


def _of_images(column: str, study: sa.ColumnElement[str]) -> sa.ScalarSelect[str]:
    """Read of whom the images of a study are, which has no row of its own where it was only ever fetched."""
    i = t.instances.c
    return (
        sa.select(sa.func.max(i[column]))
        .where(i.study_instance_uid == study)
        .correlate_except(t.instances)
        .scalar_subquery()
    )


def _searched(query: Query) -> sa.CTE:
    studies = _studies()
    c = studies.c
    found = sa.select(studies)
    if query.patients is not None:
        pairs = [(c.patient_id == patient) & (c.issuer_of_patient_id == issuer) for patient, issuer in query.patients]
        found = found.where(sa.or_(sa.false(), *pairs))
    elif query.text:
        texts = (c.study_instance_uid, c.accession_number)
        found = found.where(sa.or_(*(column.contains(query.text, autoescape=True) for column in texts)))
    return found.cte("found")


def _order(studies: sa.CTE, query: Query) -> list[sa.ColumnElement[Any]]:
    """Order as asked; what lacks the value comes last either way, and equals stand newest first."""
    plain = {
        "received": studies.c.received_at,
        "status": studies.c.status,
        "patient": sa.func.nullif(studies.c.patient_id, ""),
        "accession": sa.func.nullif(studies.c.accession_number, ""),
    }
    scored = {"grade": "grade", "fat": "fat_fraction_percent", "certainty": "certainty"}
    if query.sort in plain:
        by: sa.ColumnElement[Any] = plain[query.sort]
    else:
        value = sa.select(outcome_value(t.scores.c.outcome, "score", scored[query.sort]))
        seen = sa.true() if query.unblinded else ~blinding.hidden()
        by = value.where(t.scores.c.result_key == studies.c.result_key, seen).scalar_subquery()
        by = by if query.sort == "grade" else sa.cast(by, sa.Float)
    towards = by.desc() if query.descending else by.asc()
    return [towards.nulls_last(), studies.c.received_at.desc(), studies.c.study_instance_uid]


def _proofs(connection: sa.Connection, items: list[int]) -> dict[int, tuple[int, int, bool, str | None]]:
    """Count deliveries to archives that are proved, and all; say whether results are kept only, and what is wrong."""
    o = t.outbox.c
    sent, proved = sa.func.count(o.destination), sa.func.count(sa.case((o.destination.is_not(None), o.proof)))
    wrong = sa.func.max(sa.case((o.proof.is_(None), o.last_error)))
    query = sa.select(o.work_item_id, proved, sent, wrong).where(o.work_item_id.in_(items)).group_by(o.work_item_id)
    return {row[0]: (row[1], row[2], row[2] == 0, row[3]) for row in connection.execute(query)}


def _row(
    row: sa.Row[Any], outcomes: dict[str, dict[str, Any]], proofs: dict[int, tuple[int, int, bool, str | None]]
) -> Row:
    proved, deliveries, kept, wrong = proofs.get(row.work_item_id, (0, 0, False, None))
    outcome = outcomes.get(row.result_key)
    if outcome is not None and blinding.is_masked(outcome):
        proved, deliveries, kept, wrong = 0, 0, False, None  # how many objects there are tells a refusal
    return Row(
        study_instance_uid=row.study_instance_uid,
        status=row.status,
        reason=row.reason,
        received_at=row.received_at,
        quiet_since=row.quiet_since,
        finished_at=row.finished_at,
        patient_id=row.patient_id,
        issuer_of_patient_id=row.issuer_of_patient_id,
        accession_number=row.accession_number,
        outcome=outcome,
        proved=proved,
        deliveries=deliveries,
        kept=kept,
        delivery_error=wrong,
    )
