"""Rows of instances that lie safely in the store: several in one transaction, since a sender waits for each.

The statements are built once and every one serves the whole batch: a batch of one costs a third of what a statement for
each question cost, and a batch of eight hardly more than a batch of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from agent.domain.eligibility import reason_not_scored
from agent.domain.study import InstanceHeader, StoredFile
from agent.worklist import tables as t
from agent.worklist.grouping import GroupBy, group_id_of
from agent.worklist.ledger import Ledger


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
_KNOWN: Final = sa.select(_I.id, _I.sha256, _I.sop_instance_uid, _I.received_at, _I.conflict).where(
    _I.sha256.in_(sa.bindparam("digests", expanding=True))
    | _I.sop_instance_uid.in_(sa.bindparam("uids", expanding=True))
)
_GROUPS: Final = sa.select(t.studies.c.study_instance_uid, t.studies.c.group_id).where(
    t.studies.c.study_instance_uid.in_(sa.bindparam("studies", expanding=True))
)
_INSERT: Final = sa.insert(t.instances).returning(_I.id, _I.sha256)
_AGAIN: Final = (
    sa.update(t.instances)
    .where(_I.id == sa.bindparam("row"))
    .values(
        times_received=_I.times_received + 1,
        received_at=sa.func.coalesce(_I.received_at, sa.bindparam("now")),
        conflict=sa.bindparam("conflicts"),
    )
)
_QUIET: Final = (
    sa.update(t.groups)
    .where(t.groups.c.id == sa.bindparam("group"), t.groups.c.receiving)
    .values(quiet_since=sa.bindparam("now"))
)
_REOPEN: Final = (
    sa.update(t.groups)
    .where(t.groups.c.id == sa.bindparam("group"), ~t.groups.c.receiving)
    .values(receiving=True, first_at=sa.bindparam("now"), quiet_since=sa.bindparam("now"), closed_at=None)
)
_SENDING: Final = {
    name: insert(t.sending).on_conflict_do_update(
        index_elements=["association_id", "group_id"], set_={"last_at": sa.bindparam("again")}
    )
    for name, insert in (("sqlite", sqlite.insert), ("postgresql", postgresql.insert))
}


def record_arrivals(ledger: Ledger, arrivals: Sequence[Arrival], *, group_by: GroupBy, now: float) -> list[Recorded]:
    """Record instances that are already synced to the store, in their order, all or none.

    Repeating it changes nothing but counters.
    """
    with ledger.write() as connection:
        groups = _groups_of(connection, arrivals, group_by, now)
        recorded = _record_each(connection, arrivals, now)
        _touch_sending(connection, arrivals, groups, now)
        for group_id in dict.fromkeys(groups):
            reopens = any(
                one.new and reason_not_scored(arrival.stored.header) is None
                for arrival, one, group in zip(arrivals, recorded, groups, strict=True)
                if group == group_id
            )
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


def inserted(connection: sa.Connection, table: sa.Table, values: dict[str, Any]) -> int:
    """Insert one row; returns its key."""
    key = connection.execute(sa.insert(table).values(values)).inserted_primary_key
    if key is None:
        raise AssertionError("an insert of one row yields its key")
    return int(key[0])


@dataclass
class _Known:
    """A row that is there, or will be when the batch is inserted."""

    row: int | None
    received: bool
    conflict: bool


def _record_each(connection: sa.Connection, arrivals: Sequence[Arrival], now: float) -> list[Recorded]:
    stored = [arrival.stored for arrival in arrivals]
    rows = connection.execute(
        _KNOWN, {"digests": [one.sha256 for one in stored], "uids": [one.header.sop_instance_uid for one in stored]}
    ).all()
    known = {row.sha256: _Known(row.id, row.received_at is not None, row.conflict) for row in rows}
    scored = {row.sop_instance_uid for row in rows if row.received_at is not None and not row.conflict}
    new_rows, again, made = [], [], []
    for arrival in arrivals:
        sha256, uid = arrival.stored.sha256, arrival.stored.header.sop_instance_uid
        before = known.get(sha256)
        new = before is None or not before.received
        conflict = uid in scored if new else bool(before and before.conflict)
        if before is None:
            new_rows.append(instance_values(arrival, now, conflict=conflict))
        else:
            again.append((sha256, conflict))
        known[sha256] = _Known(before.row if before else None, True, conflict)
        scored.add(uid)
        made.append((sha256, new, conflict))
    if new_rows:
        for row_id, sha256 in connection.execute(_INSERT, new_rows):
            known[sha256].row = row_id
    for sha256, conflict in again:
        connection.execute(_AGAIN, {"row": known[sha256].row, "now": now, "conflicts": conflict})
    return [Recorded(instance_id=known[sha].row or 0, new=new, conflict=conflict) for sha, new, conflict in made]


def _groups_of(connection: sa.Connection, arrivals: Sequence[Arrival], group_by: GroupBy, now: float) -> list[str]:
    """Group of each arrival's study; an unknown study gets one."""
    studies = {arrival.stored.header.study_instance_uid: arrival.stored.header for arrival in arrivals}
    found = connection.execute(_GROUPS, {"studies": list(studies)}).all()
    known: dict[str, str] = {row.study_instance_uid: row.group_id for row in found}
    for study, header in studies.items():
        if study not in known:
            known[study] = _new_study(connection, header, group_by, now)
    return [known[arrival.stored.header.study_instance_uid] for arrival in arrivals]


def _new_study(connection: sa.Connection, header: InstanceHeader, group_by: GroupBy, now: float) -> str:
    group_id, study = group_id_of(header, group_by), header.study_instance_uid
    _touch_new_group(connection, group_id, study, now)
    values = {
        "study_instance_uid": study,
        "group_id": group_id,
        "study_date": header.study_date[:8],
        "patient_id": header.patient_id,
        "issuer_of_patient_id": header.issuer_of_patient_id,
        "accession_number": header.accession_number,
        "first_at": now,
    }
    connection.execute(sa.insert(t.studies).values(values))
    return group_id


def _touch_new_group(connection: sa.Connection, group_id: str, study: str, now: float) -> None:
    """Open the group, or make the newer study the one in which a later report is filed."""
    adopted = sa.update(t.groups).where(t.groups.c.id == group_id).values(study_instance_uid=study)
    if connection.execute(adopted).rowcount == 0:
        values = {
            "id": group_id,
            "study_instance_uid": study,
            "first_at": now,
            "quiet_since": now,
            "receiving": True,
            "interruptions": 0,
        }
        connection.execute(sa.insert(t.groups).values(values))


def _touch_group(connection: sa.Connection, group_id: str, reopens: bool, now: float) -> None:
    """Restart the quiet time; open a closed group again only for an instance that is not one of our own results."""
    values = {"group": group_id, "now": now}
    if connection.execute(_QUIET, values).rowcount == 0 and reopens:
        connection.execute(_REOPEN, values)


def _touch_sending(connection: sa.Connection, arrivals: Sequence[Arrival], groups: Sequence[str], now: float) -> None:
    pairs = {(one.association_id, group) for one, group in zip(arrivals, groups, strict=True)}
    rows = [
        {"association_id": association, "group_id": group, "last_at": now, "again": now}
        for association, group in pairs
        if association is not None
    ]
    if rows:
        connection.execute(_SENDING[connection.dialect.name], rows)
