"""What the listener tells the ledger: associations, and instances that lie safely in the store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from agent.domain.eligibility import reason_not_scored
from agent.domain.study import InstanceHeader, StoredFile
from agent.worklist import tables as t
from agent.worklist.grouping import GroupBy, group_id_of
from agent.worklist.ledger import Ledger

HEARTBEAT_LEASE_SECONDS: Final = 20.0
"""An open association whose listener has not been heard for this long is lost."""


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """What the ledger made of a stored instance."""

    instance_id: int
    new: bool
    """False: the same bytes were here already."""
    conflict: bool
    """The SOP Instance UID was here with other bytes; those are scored, these are kept."""


def open_association(ledger: Ledger, *, owner: str, calling: str, called: str, host: str, now: float) -> int:
    """Record that an association was accepted; returns its row."""
    values = {
        "owner": owner,
        "calling_ae_title": calling,
        "called_ae_title": called,
        "peer_host": host,
        "opened_at": now,
        "heartbeat_at": now,
    }
    with ledger.write() as connection:
        return _inserted(connection, t.associations, values)


def count_associations(ledger: Ledger, now: float) -> int:
    """Associations open over all listeners."""
    query = sa.select(sa.func.count()).select_from(t.associations).where(_alive(now))
    with ledger.read() as connection:
        return int(connection.execute(query).scalar_one())


def beat(ledger: Ledger, owner: str, now: float) -> None:
    """Renew the leases of every open association of one listener."""
    open_ones = (t.associations.c.owner == owner) & t.associations.c.closed_at.is_(None)
    with ledger.write() as connection:
        connection.execute(sa.update(t.associations).where(open_ones).values(heartbeat_at=now))


def close_association(ledger: Ledger, association_id: int, *, outcome: str, now: float) -> None:
    """Record how an association ended: "released", "aborted" or "lost". Only a release lets quiet time run on."""
    with ledger.write() as connection:
        _close(connection, t.associations.c.id == association_id, outcome=outcome, now=now)


def close_lost_associations(ledger: Ledger, now: float, *, owner_prefix: str | None = None) -> int:
    """Close associations whose listener died: those without heartbeat, or all of an owner known to be gone."""
    dead = t.associations.c.heartbeat_at < now - HEARTBEAT_LEASE_SECONDS
    if owner_prefix is not None:
        dead = t.associations.c.owner.startswith(owner_prefix, autoescape=True)
    with ledger.write() as connection:
        return _close(connection, dead, outcome="lost", now=now)


def record_instance(
    ledger: Ledger,
    stored: StoredFile,
    *,
    association_id: int | None,
    group_by: GroupBy,
    now: float,
    retrieval_id: int | None = None,
) -> Recorded:
    """Record an instance that is already synced to the store. Repeating it changes nothing but counters.

    An instance of a retrieval belongs to that retrieval and never opens or grows a group.
    """
    with ledger.write() as connection:
        row = connection.execute(sa.select(t.instances).where(t.instances.c.sha256 == stored.sha256)).one_or_none()
        if retrieval_id is not None:
            instance_id = row.id if row else _insert_instance(connection, stored, None, None)
            _link_retrieval(connection, retrieval_id, instance_id)
            return Recorded(instance_id=instance_id, new=row is None, conflict=False)
        group_id = _touch_study(connection, stored.header, group_by, now)
        if association_id is not None:
            _touch_sending(connection, association_id, group_id, now)
        new = row is None or row.received_at is None
        instance_id = row.id if row else _insert_instance(connection, stored, association_id, now)
        if row is not None:
            received_at = sa.func.coalesce(t.instances.c.received_at, now)
            again = {"times_received": t.instances.c.times_received + 1, "received_at": received_at}
            connection.execute(sa.update(t.instances).where(t.instances.c.id == row.id).values(again))
        _touch_group(connection, group_id, stored, new, now)
        conflict = bool(row and row.conflict)
        if new:
            conflict = _mark_conflict(connection, instance_id, stored.header.sop_instance_uid)
        return Recorded(instance_id=instance_id, new=new, conflict=conflict)


def known_digests(ledger: Ledger) -> frozenset[str]:
    """Digests of every instance the ledger knows, for rebuilding rows from files at start-up."""
    with ledger.read() as connection:
        return frozenset(connection.execute(sa.select(t.instances.c.sha256)).scalars())


def open_retrieval(ledger: Ledger, study_instance_uid: str) -> int | None:
    """Find the retrieval under way for a study, to which sub-operations of a C-MOVE belong."""
    query = sa.select(t.retrievals.c.id).where(
        t.retrievals.c.study_instance_uid == study_instance_uid, t.retrievals.c.ended_at.is_(None)
    )
    with ledger.read() as connection:
        return connection.execute(query.order_by(t.retrievals.c.id.desc()).limit(1)).scalar_one_or_none()


def _alive(now: float) -> sa.ColumnElement[bool]:
    return t.associations.c.closed_at.is_(None) & (t.associations.c.heartbeat_at >= now - HEARTBEAT_LEASE_SECONDS)


def _close(connection: sa.Connection, which: sa.ColumnElement[bool], *, outcome: str, now: float) -> int:
    open_ones = sa.select(t.associations.c.id).where(which & t.associations.c.closed_at.is_(None))
    ids = list(connection.execute(open_ones).scalars())
    if not ids:
        return 0
    ended = sa.update(t.associations).where(t.associations.c.id.in_(ids)).values(closed_at=now, outcome=outcome)
    connection.execute(ended)
    if outcome != "released":
        theirs = sa.select(t.sending.c.group_id).where(t.sending.c.association_id.in_(ids))
        interrupted = {"quiet_since": now, "interruptions": t.groups.c.interruptions + 1}
        connection.execute(
            sa.update(t.groups).where(t.groups.c.id.in_(theirs), t.groups.c.receiving).values(interrupted)
        )
    return len(ids)


def _inserted(connection: sa.Connection, table: sa.Table, values: dict[str, object]) -> int:
    key = connection.execute(sa.insert(table).values(values)).inserted_primary_key
    if key is None:
        raise AssertionError("an insert of one row yields its key")
    return int(key[0])


def _insert_instance(
    connection: sa.Connection, stored: StoredFile, association_id: int | None, received_at: float | None
) -> int:
    header, reason = stored.header, reason_not_scored(stored.header)
    values = {
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
        "association_id": association_id,
        "may_be_scored": reason is None,
        "not_scored_reason": reason,
        "conflict": False,
    }
    return _inserted(connection, t.instances, values)


def _link_retrieval(connection: sa.Connection, retrieval_id: int, instance_id: int) -> None:
    link = {"retrieval_id": retrieval_id, "instance_id": instance_id}
    known = sa.select(t.retrieval_instances).filter_by(**link)
    if connection.execute(known).one_or_none() is None:
        connection.execute(sa.insert(t.retrieval_instances).values(link))


def _touch_study(connection: sa.Connection, header: InstanceHeader, group_by: GroupBy, now: float) -> str:
    study = header.study_instance_uid
    known = connection.execute(sa.select(t.studies.c.group_id).where(t.studies.c.study_instance_uid == study))
    group_id = known.scalar_one_or_none()
    if group_id is not None:
        return str(group_id)
    group_id = group_id_of(header, group_by)
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


def _touch_group(connection: sa.Connection, group_id: str, stored: StoredFile, new: bool, now: float) -> None:
    """Restart the quiet time; open a closed group again only for an instance that is not one of our own results."""
    group = t.groups.c.id == group_id
    connection.execute(sa.update(t.groups).where(group, t.groups.c.receiving).values(quiet_since=now))
    if new and reason_not_scored(stored.header) is None:
        reopened = {"receiving": True, "first_at": now, "quiet_since": now, "closed_at": None}
        connection.execute(sa.update(t.groups).where(group, ~t.groups.c.receiving).values(reopened))


def _touch_sending(connection: sa.Connection, association_id: int, group_id: str, now: float) -> None:
    row = {"association_id": association_id, "group_id": group_id}
    if connection.execute(sa.update(t.sending).filter_by(**row).values(last_at=now)).rowcount == 0:
        connection.execute(sa.insert(t.sending).values(**row, last_at=now))


def _mark_conflict(connection: sa.Connection, instance_id: int, sop_instance_uid: str) -> bool:
    """Whether an earlier version with other bytes stands under the same UID; if so this one is never scored."""
    earlier = sa.select(sa.func.count()).where(
        t.instances.c.sop_instance_uid == sop_instance_uid,
        t.instances.c.received_at.is_not(None),
        t.instances.c.id != instance_id,
        ~t.instances.c.conflict,
    )
    if not connection.execute(earlier).scalar_one():
        return False
    connection.execute(sa.update(t.instances).where(t.instances.c.id == instance_id).values(conflict=True))
    return True
