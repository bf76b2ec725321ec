"""Leases by name: one process at a time, whichever machine it runs on."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from agent.worklist import tables as t
from agent.worklist.ledger import Ledger
from agent.worklist.setback import SKEW_SECONDS


def hold(ledger: Ledger, name: str, owner: str, *, now: float, seconds: float) -> bool:
    """Take or renew a lease; False while another owner's has not expired.

    One that lies further ahead than it is taken for was written before the clock was set back. Most calls only read: a
    fresh lease of ours needs no renewal, a fresh one of another's cannot be taken.
    """
    with ledger.read() as connection:
        row = connection.execute(sa.select(t.leases).where(t.leases.c.name == name)).one_or_none()
    latest = now + seconds + SKEW_SECONDS
    if row is not None and now + (seconds / 2 if row.owner == owner else 0) < row.until <= latest:
        return bool(row.owner == owner)
    ended = (t.leases.c.until <= now) | (t.leases.c.until > latest)
    free = (t.leases.c.name == name) & ((t.leases.c.owner == owner) | ended)
    values = {"owner": owner, "until": now + seconds}
    with ledger.write() as connection:
        if connection.execute(sa.update(t.leases).where(free).values(values)).rowcount:
            return True
        taken = sa.select(t.leases.c.name).where(t.leases.c.name == name)
        if connection.execute(taken).first() is not None:
            return False
        connection.execute(sa.insert(t.leases).values(name=name, **values))
        return True


def active(ledger: Ledger, prefix: str, now: float) -> list[str]:
    """Names of the unexpired leases that begin with `prefix`."""
    with ledger.read() as connection:
        names = connection.execute(_LIVE, {"now": now}).scalars().all()
    return [name for name in names if name.startswith(prefix)]


_LIVE: Final = sa.select(t.leases.c.name).where(t.leases.c.until > sa.bindparam("now")).order_by(t.leases.c.name)
"""A handful of rows; built once, since it is asked at every delivery."""
