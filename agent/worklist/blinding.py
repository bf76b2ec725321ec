"""Blinded results: scored and kept, sent and shown to nobody before they are released.

A score carries from its first moment whether it was made blinded; a release is a row of its group. Neither depends on
the settings of the day: switching `results.blinded` off releases nothing.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from agent.domain.errors import NotFoundError
from agent.domain.results import DeliveryState, Proof
from agent.domain.work_item import SUPERSEDED, WITHHELD, State, Step, WorkItem
from agent.worklist import tables as t
from agent.worklist import work_items
from agent.worklist.ledger import Ledger

_MASKED = "masked"


@dataclass(frozen=True, kw_only=True)
class Released:
    """A group whose results may be sent and shown from now on."""

    group_id: str
    study_instance_uid: str
    work_items: tuple[int, ...]
    """Those that deliver now."""


def hidden() -> sa.ColumnElement[bool]:
    """Condition on `scores`: blinded and not released."""
    k, r = t.scores.c, t.releases.c
    return k.withheld & ~sa.exists().where(r.group_id == k.group_id)


def hidden_keys(connection: sa.Connection, keys: Collection[str]) -> frozenset[str]:
    """Say which of these result keys nobody may see yet."""
    k = t.scores.c
    return frozenset(connection.execute(sa.select(k.result_key).where(k.result_key.in_(keys), hidden())).scalars())


def waits_for_release() -> sa.ColumnElement[bool]:
    """Condition on `scores`: blinded, or withheld from an archive that others got it before."""
    o, r, k = t.outbox.c, t.result_objects.c, t.scores.c
    held_back = sa.exists().where(
        o.sop_instance_uid == r.sop_instance_uid, r.result_key == k.result_key, o.state == DeliveryState.WITHHELD
    )
    return hidden() | held_back


def masked(outcome: dict[str, Any]) -> dict[str, Any]:
    """Take everything out of an outcome that tells the result: which images were used tells a refusal, too."""
    return {**outcome, "score": None, "refusal": None, "earlier": None, "detail": "", "views": [], _MASKED: True}


def is_masked(outcome: dict[str, Any]) -> bool:
    """Whether an outcome was masked."""
    return _MASKED in outcome


def withheld_from(connection: sa.Connection, work_item_id: int, result_key: str, destinations: Collection[str]) -> bool:
    """Whether a new outbox row must wait: blinded altogether, or one of these destinations is meant; not if released.

    Parameters
    ----------
    destinations
        Non-empty where the row's destination is among those that get released results only.
    """
    k, w, r = t.scores.c, t.work_items.c, t.releases.c
    group = sa.select(w.group_id).where(w.id == work_item_id).scalar_subquery()
    if connection.execute(sa.select(r.group_id).where(r.group_id == group)).first() is not None:
        return False
    blinded = sa.select(k.withheld).where(k.result_key == result_key)
    return bool(destinations) or bool(connection.execute(blinded).scalar())


def withhold(ledger: Ledger, item: WorkItem, owner: str, now: float) -> bool:
    """Lay a work item aside whose open rows are all withheld; False where a release came in between.

    Work items of the group that it stands for and of which nothing has left end here: a release must not send two.
    """
    w, o, r = t.work_items.c, t.outbox.c, t.releases.c
    waiting = (o.work_item_id == item.id) & (o.state == DeliveryState.WITHHELD)
    with ledger.write() as connection:
        work_items.check_lease(connection, item.id, owner, Step.DELIVER)
        rows = connection.execute(sa.select(o.id).where(waiting).with_for_update()).all()
        released = sa.select(r.group_id).where(r.group_id == item.group_id)
        if not rows or connection.execute(released).first() is not None:
            _send_now(connection, sa.select(w.id).where(w.id == item.id))
            return False
        earlier = (w.group_id == item.group_id) & (w.id < item.id) & w.delivering_since.is_(None)
        aside = sa.update(t.work_items).where(earlier, w.state == State.SCHEDULED, w.reason == WITHHELD)
        connection.execute(aside.values(state=State.CANCELED, reason=SUPERSEDED, finished_at=now))
        work_items.lay_aside(connection, item.id, reason=WITHHELD, now=now)
    return True


def release(
    ledger: Ledger, study_instance_uid: str | None, *, by: str, now: float, dry_run: bool = False
) -> list[Released]:
    """Release what is withheld of one study, or of all; what is released already is passed over.

    Parameters
    ----------
    study_instance_uid
        None: of every study that has withheld results now. Later ones are blinded as before.
    by
        Who did it, for the record.

    Raises
    ------
    NotFoundError
        The study is not in the ledger.
    """
    with ledger.write() as connection:
        groups = _withheld_groups(connection, study_instance_uid)
        return [_release(connection, group, by=by, now=now, dry_run=dry_run) for group in groups]


def _withheld_groups(connection: sa.Connection, study: str | None) -> list[str]:
    k, w, o, r = t.scores.c, t.work_items.c, t.outbox.c, t.releases.c
    blinded = sa.select(k.group_id).where(k.withheld)
    held_back = (
        sa.select(w.group_id)
        .join(t.outbox, o.work_item_id == w.id)
        .where(o.state == DeliveryState.WITHHELD, w.state.in_((State.SCHEDULED, State.IN_PROGRESS)))
    )
    both = sa.union(blinded, held_back).subquery()
    query = sa.select(both.c.group_id).where(both.c.group_id.not_in(sa.select(r.group_id)))
    if study is not None:
        query = query.where(both.c.group_id == _group_of(connection, study))
    return list(connection.execute(query.order_by(both.c.group_id)).scalars())


def _group_of(connection: sa.Connection, study: str) -> str:
    s, w = t.studies.c, t.work_items.c
    for column, where in ((s.group_id, s.study_instance_uid), (w.group_id, w.study_instance_uid)):
        found = connection.execute(sa.select(column).where(where == study).limit(1)).scalar()
        if found is not None:
            return str(found)
    raise NotFoundError(f"study {study} is not in the ledger", remedy="see `agent worklist`")


def _release(connection: sa.Connection, group: str, *, by: str, now: float, dry_run: bool) -> Released:
    w = t.work_items.c
    live = sa.select(w.id).where(w.group_id == group, w.state.in_((State.SCHEDULED, State.IN_PROGRESS)))
    waiting = live.where(w.reason == WITHHELD)
    ids = tuple(connection.execute(waiting.order_by(w.id)).scalars())
    study = sa.select(w.study_instance_uid).where(w.group_id == group).order_by(w.id.desc()).limit(1)
    released = Released(group_id=group, study_instance_uid=connection.execute(study).scalar_one(), work_items=ids)
    if not dry_run:
        values = {"group_id": group, "released_at": now, "released_by": by[:128]}
        connection.execute(sa.insert(t.releases).values(values))
        _send_now(connection, live)
        due = {"reason": None, "not_before": 0.0, "woken_at": 0.0}
        connection.execute(sa.update(t.work_items).where(w.id.in_(ids)).values(due))
    return released


def _send_now(connection: sa.Connection, items: sa.Select[Any]) -> None:
    o = t.outbox.c
    waiting = sa.update(t.outbox).where(o.work_item_id.in_(items), o.state == DeliveryState.WITHHELD)
    kept = {"state": DeliveryState.KEPT, "proof": Proof.KEPT}
    connection.execute(waiting.where(o.destination.is_(None)).values(kept))
    connection.execute(waiting.where(o.destination.is_not(None)).values(state=DeliveryState.PENDING))
