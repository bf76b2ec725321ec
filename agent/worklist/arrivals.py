"""What the listener tells the ledger: associations, and instances that lie safely in the store."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from agent.domain.study import StoredFile
from agent.worklist import tables as t
from agent.worklist.grouping import GroupBy
from agent.worklist.ledger import Driver, Ledger, Prepared
from agent.worklist.recording import Arrival, Recorded, inserted, instance_values, record_arrivals, record_fetched_study
from agent.worklist.retrievals import is_under_way

HEARTBEAT_LEASE_SECONDS: Final = 20.0
"""An open association whose listener has not been heard for this long is lost."""


def open_association(
    ledger: Ledger,
    most: int,
    *,
    owner: str,
    calling: str,
    called: str,
    host: str,
    now: float,
    most_of_peer: int | None = None,
) -> int | None:
    """Record an association unless `most` are open: counted and recorded as one, over all listeners."""
    with ledger.write_prepared() as connection:
        if not ledger.is_sqlite:  # which has one writer at a time
            connection.execute("LOCK TABLE associations IN SHARE ROW EXCLUSIVE MODE")
        if _count(connection, now) >= most:
            return None
        if most_of_peer is not None and _count(connection, now, calling=calling, host=host) >= most_of_peer:
            return None
        values = {"owner": owner, "calling": calling, "called": called, "host": host, "now": now}
        return int(_OPENED.run(connection, values).fetchone()[0])


def count_associations(ledger: Ledger, now: float, *, calling: str | None = None, host: str = "") -> int:
    """Associations open over all listeners; of one peer where `calling` is given."""
    with ledger.read_prepared() as connection:
        return _count(connection, now, calling=calling, host=host)


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
    dead = ~_heard(now)
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

    An instance of a retrieval belongs to that retrieval and never opens or grows a group; what it says of its study is
    kept apart from what arrives.
    """
    arrival = Arrival(stored=stored, association_id=association_id)
    if retrieval_id is None:
        return record_arrivals(ledger, (arrival,), group_by=group_by, now=now)[0]
    with ledger.write() as connection:
        known = sa.select(t.instances.c.id).where(t.instances.c.sha256 == stored.sha256)
        instance_id = connection.execute(known).scalar_one_or_none()
        new = instance_id is None
        if instance_id is None:
            instance_id = inserted(connection, t.instances, instance_values(arrival, None, conflict=False))
        else:
            there = sa.update(t.instances).where(t.instances.c.id == instance_id).values(removed_at=None)
            connection.execute(there)
        _link_retrieval(connection, retrieval_id, instance_id)
        record_fetched_study(connection, stored.header)
        return Recorded(instance_id=instance_id, new=new, conflict=False)


def known_digests(ledger: Ledger) -> frozenset[str]:
    """Digests of every instance the ledger knows, for rebuilding rows from files at start-up."""
    with ledger.read() as connection:
        return frozenset(connection.execute(sa.select(t.instances.c.sha256)).scalars())


def open_retrieval(ledger: Ledger, study_instance_uid: str) -> int | None:
    """Find the retrieval under way for a study, to which sub-operations of a C-MOVE belong."""
    r = t.retrievals.c
    query = sa.select(r.id).where(r.study_instance_uid == study_instance_uid, is_under_way())
    with ledger.read() as connection:
        return connection.execute(query.order_by(r.id.desc()).limit(1)).scalar_one_or_none()


def _count(connection: Driver, now: float, *, calling: str | None = None, host: str = "") -> int:
    moments = {"since": now - HEARTBEAT_LEASE_SECONDS, "until": now + HEARTBEAT_LEASE_SECONDS}
    if calling is None:
        return int(_OPEN.run(connection, moments).fetchone()[0])
    return int(_OPEN_OF_PEER.run(connection, {**moments, "calling": calling, "host": host}).fetchone()[0])


def _heard(now: float) -> sa.ColumnElement[bool]:
    """Whether the listener was heard lately; a heartbeat of the future was written before the clock was set back."""
    return t.associations.c.heartbeat_at.between(now - HEARTBEAT_LEASE_SECONDS, now + HEARTBEAT_LEASE_SECONDS)


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


def _link_retrieval(connection: sa.Connection, retrieval_id: int, instance_id: int) -> None:
    link = {"retrieval_id": retrieval_id, "instance_id": instance_id}
    known = sa.select(t.retrieval_instances).filter_by(**link)
    if connection.execute(known).one_or_none() is None:
        connection.execute(sa.insert(t.retrieval_instances).values(link))


_A: Final = t.associations.c
_ALIVE: Final = (
    sa.select(sa.func.count())
    .select_from(t.associations)
    .where(_A.closed_at.is_(None), _A.heartbeat_at.between(sa.bindparam("since"), sa.bindparam("until")))
)
_OPEN: Final = Prepared(_ALIVE)
_OPEN_OF_PEER: Final = Prepared(
    _ALIVE.where(_A.calling_ae_title == sa.bindparam("calling"), _A.peer_host == sa.bindparam("host"))
)
_OPENED: Final = Prepared(
    sa.insert(t.associations)
    .values(
        owner=sa.bindparam("owner"),
        calling_ae_title=sa.bindparam("calling"),
        called_ae_title=sa.bindparam("called"),
        peer_host=sa.bindparam("host"),
        opened_at=sa.bindparam("now"),
        heartbeat_at=sa.bindparam("now"),
    )
    .returning(_A.id)
)
