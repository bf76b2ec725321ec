"""Rows of instances that lie safely in the store: several in one transaction, since a sender waits for each.

The statements are compiled once, and as few as the questions allow: an instance costs a quarter of what it did with one
statement for each question.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from agent.domain.eligibility import reason_not_scored
from agent.domain.study import InstanceHeader, StoredFile
from agent.worklist import tables as t
from agent.worklist.grouping import GroupBy, group_id_of
from agent.worklist.ledger import Driver, Ledger, Prepared


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """An instance as it came: synced and named in the store, not yet in the ledger."""

    stored: StoredFile
    association_id: int | None


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """What the ledger made of a stored instance."""

    instance_id: int
    new: bool
    """False: the same bytes were here already."""
    conflict: bool
    """The SOP Instance UID was here with other bytes; those are scored, these are kept."""


_I: Final = t.instances.c
_P: Final = sa.bindparam
_COLUMNS: Final = [column.name for column in _I if column.name not in ("id", "conflict", "removed_at")]
_CONFLICTS: Final = (
    sa.exists()
    .select_from(t.instances)
    .where(_I.sop_instance_uid == _P("uid"), _I.received_at.is_not(None), ~_I.conflict, _I.sha256 != _P("digest"))
)
"""Whether other bytes that are scored came earlier under the same SOP Instance UID."""
_KNOWN: Final = Prepared(sa.select(_I.id, _I.received_at, _I.conflict).where(_I.sha256 == _P("digest")))
_EARLIER: Final = Prepared(sa.select(_CONFLICTS))
_AGAIN: Final = Prepared(
    sa.update(t.instances)
    .where(_I.id == _P("row"))
    .values(
        times_received=_I.times_received + 1,
        received_at=sa.func.coalesce(_I.received_at, _P("now")),
        conflict=_P("conflicts", type_=sa.Boolean),
        removed_at=sa.null(),
    )
)
_GROUP: Final = Prepared(sa.select(t.studies.c.group_id).where(t.studies.c.study_instance_uid == _P("study")))
_QUIET: Final = Prepared(
    sa.update(t.groups).where(t.groups.c.id == _P("group"), t.groups.c.receiving).values(quiet_since=_P("now"))
)
_REOPEN: Final = Prepared(
    sa.update(t.groups)
    .where(t.groups.c.id == _P("group"), ~t.groups.c.receiving)
    .values(receiving=True, first_at=_P("now"), quiet_since=_P("now"), closed_at=None)
)
_OF_STUDY: Final = (
    "study_instance_uid",
    "group_id",
    "study_date",
    "patient_id",
    "issuer_of_patient_id",
    "accession_number",
    "first_at",
)
_ADOPT: Final = Prepared(
    sa.update(t.groups)
    .where(t.groups.c.id == _P("group"))
    .values(
        study_instance_uid=sa.case((_P("adopts", type_=sa.Boolean), _P("study")), else_=t.groups.c.study_instance_uid)
    )
)


def _insert_of(insert: Any) -> Prepared:
    """Insert an instance unless its digest is known: then no row comes back."""
    values: dict[str, Any] = {name: _P(name) for name in _COLUMNS} | {"conflict": _CONFLICTS}
    unless_known = insert(t.instances).values(values).on_conflict_do_nothing(index_elements=["sha256"])
    return Prepared(unless_known.returning(_I.id, _I.conflict))


def _sending_of(insert: Any) -> Prepared:
    """Say that an association sends a group's instances; an unknown study has no group, so no row comes back."""
    group = sa.select(_P("association", type_=sa.Integer), t.studies.c.group_id, _P("now", type_=sa.Float))
    upsert = insert(t.sending).from_select(
        ["association_id", "group_id", "last_at"], group.where(t.studies.c.study_instance_uid == _P("study"))
    )
    again = upsert.on_conflict_do_update(
        index_elements=["association_id", "group_id"], set_={"last_at": upsert.excluded.last_at}
    )
    return Prepared(again.returning(t.sending.c.group_id))


def _new_of(insert: Any, table: sa.Table, values: dict[str, Any]) -> Prepared:
    """Insert a row unless another listener was first: two associations may begin with one study at the same moment."""
    return Prepared(insert(table).values(values).on_conflict_do_nothing())


@functools.cache
def _new_study_row(dialect: str) -> Prepared:
    return _new_of(_insert_function(dialect), t.studies, {name: _P(name) for name in _OF_STUDY})


@functools.cache
def _new_group(dialect: str) -> Prepared:
    at_first: dict[str, Any] = {"first_at": _P("now"), "quiet_since": _P("now"), "receiving": True, "interruptions": 0}
    named: dict[str, Any] = {"id": _P("group"), "study_instance_uid": _P("study")}
    return _new_of(_insert_function(dialect), t.groups, named | at_first)


@functools.cache
def _insert(dialect: str) -> Prepared:
    return _insert_of(_insert_function(dialect))


@functools.cache
def _sending(dialect: str) -> Prepared:
    return _sending_of(_insert_function(dialect))


def _insert_function(dialect: str) -> Any:
    """Find the dialect's own insert; PostgreSQL's is loaded only where it is used, which takes 40 ms."""
    return importlib.import_module(f"sqlalchemy.dialects.{dialect}").insert


def record_arrivals(ledger: Ledger, arrivals: Sequence[Arrival], *, group_by: GroupBy, now: float) -> list[Recorded]:
    """Record instances that are already synced to the store, in their order, all or none.

    Repeating it changes nothing but counters.
    """
    with ledger.write_prepared() as connection:
        headers = {(one.association_id, one.stored.header.study_instance_uid): one.stored.header for one in arrivals}
        groups = {key: _group_of(connection, key[0], header, group_by, now) for key, header in headers.items()}
        recorded, touched = [], dict.fromkeys(groups.values(), False)
        for arrival in arrivals:
            one = _record(connection, arrival, now)
            recorded.append(one)
            group_id = groups[arrival.association_id, arrival.stored.header.study_instance_uid]
            touched[group_id] |= one.new and reason_not_scored(arrival.stored.header) is None
        for group_id, reopens in touched.items():
            _touch_group(connection, group_id, reopens, now)
    return recorded


def instance_values(arrival: Arrival, received_at: float | None, *, conflict: bool) -> dict[str, Any]:
    """Columns of a new instance's row; `received_at` is None where it was only retrieved."""
    stored = arrival.stored
    header, reason = stored.header, reason_not_scored(stored.header)
    return {
        "sha256": stored.sha256,
        "sop_instance_uid": header.sop_instance_uid,
        "sop_class_uid": header.sop_class_uid,
        "study_instance_uid": header.study_instance_uid,
        "series_instance_uid": header.series_instance_uid,
        "transfer_syntax_uid": stored.transfer_syntax_uid,
        "bytes": stored.bytes,
        "patient_id": header.patient_id,
        "issuer_of_patient_id": header.issuer_of_patient_id,
        "received_at": received_at,
        "times_received": 0 if received_at is None else 1,
        "association_id": arrival.association_id,
        "may_be_scored": reason is None,
        "not_scored_reason": reason,
        "conflict": conflict,
    }


def record_fetched_study(connection: sa.Connection, header: InstanceHeader) -> None:
    """Keep what a fetched image says of its study; the newest counts, but for what it leaves blank."""
    values = {
        "study_instance_uid": header.study_instance_uid,
        "study_date": header.study_date[:8],
        "patient_id": header.patient_id,
        "issuer_of_patient_id": header.issuer_of_patient_id,
        "accession_number": header.accession_number,
    }
    insert = _insert_function(connection.dialect.name)(t.fetched_studies).values(values)
    said = {name: value for name, value in values.items() if value}
    connection.execute(insert.on_conflict_do_update(index_elements=["study_instance_uid"], set_=said))


def inserted(connection: sa.Connection, table: sa.Table, values: dict[str, Any]) -> int:
    """Insert one row; returns its key."""
    key = connection.execute(sa.insert(table).values(values)).inserted_primary_key
    if key is None:
        raise AssertionError("an insert of one row yields its key")
    return int(key[0])


def _record(connection: Driver, arrival: Arrival, now: float) -> Recorded:
    stored = arrival.stored
    values = instance_values(arrival, now, conflict=False)
    values |= {"uid": stored.header.sop_instance_uid, "digest": stored.sha256}
    row = _insert(connection.dialect.name).run(connection, values).fetchone()
    if row is not None:
        return Recorded(instance_id=row[0], new=True, conflict=bool(row[1]))
    instance_id, received_at, conflict = _KNOWN.run(connection, values).fetchone()
    if received_at is None:  # it was only retrieved so far
        conflict = _EARLIER.run(connection, values).fetchone()[0]
    again = {"row": instance_id, "now": now, "conflicts": bool(conflict)}
    _AGAIN.run(connection, again)
    return Recorded(instance_id=instance_id, new=received_at is None, conflict=bool(conflict))


def _group_of(
    connection: Driver, association_id: int | None, header: InstanceHeader, group_by: GroupBy, now: float
) -> str:
    """Group of a study, noted as being sent by the association; an unknown study gets one."""
    note = _GROUP if association_id is None else _sending(connection.dialect.name)
    values = {"association": association_id, "study": header.study_instance_uid, "now": now}
    found = note.run(connection, values).fetchone()
    if found is None:
        _new_study(connection, header, group_by, now)
        found = note.run(connection, values).fetchone()
    return str(found[0])


def _new_study(connection: Driver, header: InstanceHeader, group_by: GroupBy, now: float) -> None:
    group_id, study = group_id_of(header, group_by), header.study_instance_uid
    _touch_new_group(connection, group_id, header, now)
    values = {
        "study_instance_uid": study,
        "group_id": group_id,
        "study_date": header.study_date[:8],
        "patient_id": header.patient_id,
        "issuer_of_patient_id": header.issuer_of_patient_id,
        "accession_number": header.accession_number,
        "first_at": now,
    }
    _new_study_row(connection.dialect.name).run(connection, values)


def _touch_new_group(connection: Driver, group_id: str, header: InstanceHeader, now: float) -> None:
    """Open the group, or make the newer study the one in which a later report is filed: not one of another modality."""
    values = {"group": group_id, "study": header.study_instance_uid, "adopts": reason_not_scored(header) is None}
    if _ADOPT.run(connection, values).rowcount == 0:
        _new_group(connection.dialect.name).run(connection, values | {"now": now})


def _touch_group(connection: Driver, group_id: str, reopens: bool, now: float) -> None:
    """Restart the quiet time; open a closed group again only for an instance that is not one of our own results."""
    values = {"group": group_id, "now": now}
    if _QUIET.run(connection, values).rowcount == 0 and reopens:
        _REOPEN.run(connection, values)
