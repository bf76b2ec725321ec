"""Times that were written before the clock was set back: until it caught up with them, nothing would be due.

A host that starts with a wrong clock has it corrected minutes later, perhaps by hours. Whatever waits until then lies
further ahead than anything that we write, and is brought back to the present.
"""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa

from agent.domain.results import DeliveryState
from agent.domain.work_item import State
from agent.worklist import tables as t
from agent.worklist.ledger import Ledger

SKEW_SECONDS: Final = 60.0
"""By so much clocks of hosts that share a ledger may differ."""
_LONGEST_WAIT_SECONDS: Final = 3600.0
"""Nothing is put off for longer."""
_LISTED: Final = ("away:", "ready:")
"""Beginnings of the leases that are listed, all of seconds; any other is seen through by who would take it."""


def mend(ledger: Ledger, now: float) -> int:
    """Bring back what lies too far ahead; returns how many rows that was. A look that costs little where none does."""
    limits = {"present": now + SKEW_SECONDS, "latest": now + _LONGEST_WAIT_SECONDS}
    with ledger.read() as connection:
        if not connection.execute(_ANY, limits).scalar():
            return 0
    with ledger.write() as connection:
        return sum(connection.execute(statement, limits | {"now": now}).rowcount for statement in _MENDED)


def _present_or_before(column: sa.ColumnElement[float]) -> sa.ColumnElement[float]:
    return sa.case((column > _NOW, _NOW), else_=column)


def _earlier(column: sa.Column[float], latest: sa.BindParameter[float]) -> Any:
    return sa.case((column > latest, 0.0), else_=column)


_PRESENT: Final[sa.BindParameter[float]] = sa.bindparam("present", type_=sa.Float)
_LATEST: Final[sa.BindParameter[float]] = sa.bindparam("latest", type_=sa.Float)
_NOW: Final[sa.BindParameter[float]] = sa.bindparam("now", type_=sa.Float)
_G, _W, _O, _L, _P = t.groups.c, t.work_items.c, t.outbox.c, t.leases.c, t.procedure_steps.c
_GROUPS: Final = _G.receiving & (_G.quiet_since > _PRESENT)
_ITEMS: Final = _W.state.in_((State.SCHEDULED, State.IN_PROGRESS)) & (
    (_W.woken_at > _PRESENT) | (_W.not_before > _LATEST) | (_W.lease_until > _PRESENT)
)
_ROWS: Final = _O.state.in_((DeliveryState.PENDING, DeliveryState.SENT)) & (_O.not_before > _LATEST)
_LEASES: Final = (_L.until > _PRESENT) & sa.or_(*(_L.name.startswith(one) for one in _LISTED))
_STEPS: Final = _P.ended_at.is_(None) & (_P.not_before > _LATEST)
_ANY: Final = sa.select(
    sa.or_(*(sa.exists().where(one) for one in (_GROUPS, _ITEMS, _ROWS, _LEASES, _STEPS)))  # one question for all
)
_MENDED: Final = (
    sa.update(t.groups).where(_GROUPS).values(quiet_since=_NOW, first_at=_present_or_before(_G.first_at)),
    sa.update(t.work_items)
    .where(_ITEMS)
    .values(
        woken_at=_earlier(_W.woken_at, _PRESENT),
        not_before=_earlier(_W.not_before, _LATEST),
        lease_until=_earlier(_W.lease_until, _PRESENT),
    ),
    sa.update(t.outbox).where(_ROWS).values(not_before=0.0),
    sa.delete(t.leases).where(_LEASES),
    sa.update(t.procedure_steps).where(_STEPS).values(not_before=0.0),
)
