"""Which studies' instance files may go: finished, proved, old or too many. What is gone stays in the ledger.

A file is unlinked inside the transaction that marks its row. So whoever received the same bytes again at that moment
has either recorded them before, or finds the file missing after its own record and does not answer Success.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from agent.domain.results import DeliveryState
from agent.domain.work_item import State
from agent.worklist import tables as t
from agent.worklist.ledger import Ledger
from agent.worklist.retrievals import is_under_way

_FINAL = (State.COMPLETED, State.CANCELED)


@dataclass(frozen=True, kw_only=True)
class Removable:
    """A study whose files may go, if its archive has every instance."""

    study_instance_uid: str
    sop_instance_uids: frozenset[str]
    digests: tuple[str, ...]
    bytes: int
    last_at: float
    """When its last instance was received."""


def bytes_kept(ledger: Ledger) -> int:
    """Count the bytes of instance files that are here."""
    query = sa.select(sa.func.coalesce(sa.func.sum(t.instances.c.bytes), 0)).where(t.instances.c.removed_at.is_(None))
    with ledger.read() as connection:
        return int(connection.execute(query).scalar_one())


def removable(ledger: Ledger, *, received_before: float) -> Iterator[Removable]:
    """Yield finished studies, longest ago first."""
    i = t.instances.c
    last = sa.func.max(i.received_at)
    query = (
        sa.select(i.study_instance_uid)
        .where(i.removed_at.is_(None), i.received_at.is_not(None))
        .group_by(i.study_instance_uid)
        .having(last < received_before)
        .order_by(last)
    )
    with ledger.read() as connection:
        studies = list(connection.execute(query).scalars())
    for study in studies:
        with ledger.read() as connection:
            found = _judged(connection, study, received_before)
        if found is not None:
            yield found


def remove(ledger: Ledger, study: Removable, *, now: float, unlink: Callable[[str], None]) -> bool:
    """Remove a study's files, if nothing changed since it was judged; says whether they went.

    Raises
    ------
    OSError
        A file cannot be removed; the next look tries again.
    """
    with ledger.write() as connection:
        if _judged(connection, study.study_instance_uid, study.last_at + 1e-3) != study:
            return False
        rows = t.instances.c.sha256.in_(study.digests)
        connection.execute(sa.update(t.instances).where(rows).values(removed_at=now))
        for sha256 in study.digests:
            unlink(sha256)
    return True


def _judged(connection: sa.Connection, study: str, received_before: float) -> Removable | None:
    """Look at one study, whose rows nobody changes meanwhile; None where anything speaks for keeping it."""
    i = t.instances.c
    kept = sa.select(t.instances).where(i.study_instance_uid == study, i.removed_at.is_(None)).with_for_update()
    rows = connection.execute(kept).all()
    if not rows or any(row.conflict or (row.received_at or 0) >= received_before for row in rows):
        return None
    if not _is_finished(connection, study):
        return None
    return Removable(
        study_instance_uid=study,
        sop_instance_uids=frozenset(row.sop_instance_uid for row in rows),
        digests=tuple(sorted(row.sha256 for row in rows)),
        bytes=sum(row.bytes for row in rows),
        last_at=max(row.received_at or 0.0 for row in rows),
    )


def _is_finished(connection: sa.Connection, study: str) -> bool:
    """Whether its group is closed, nothing is under way, and the newest result is proved at every destination."""
    group = connection.execute(
        sa.select(t.groups)
        .join(t.studies, t.studies.c.group_id == t.groups.c.id)
        .where(t.studies.c.study_instance_uid == study)
    ).one_or_none()
    if group is None or group.receiving:
        return False
    items = connection.execute(
        sa.select(t.work_items).where(t.work_items.c.group_id == group.id).order_by(t.work_items.c.id)
    ).all()
    if not items or any(item.state not in _FINAL for item in items):
        return False
    fetching = sa.select(t.retrievals.c.id).where(t.retrievals.c.study_instance_uid == study, is_under_way())
    return connection.execute(fetching).first() is None and _is_proved(connection, items)


def _is_proved(connection: sa.Connection, items: Sequence[Any]) -> bool:
    o = t.outbox.c
    query = sa.select(o.destination, o.state).where(o.work_item_id == items[-1].id)
    rows = connection.execute(query).all()
    return bool(rows) and all(row.destination is not None and row.state == DeliveryState.PROVED for row in rows)
