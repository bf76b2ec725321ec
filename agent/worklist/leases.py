"""Leases by name: one process at a time, whichever machine it runs on."""

from __future__ import annotations

import sqlalchemy as sa

from agent.worklist import tables as t
from agent.worklist.ledger import Ledger


def hold(ledger: Ledger, name: str, owner: str, *, now: float, seconds: float) -> bool:
    """Take or renew a lease; False while another owner's has not expired."""
    free = (t.leases.c.name == name) & ((t.leases.c.owner == owner) | (t.leases.c.until <= now))
    values = {"owner": owner, "until": now + seconds}
    with ledger.write() as connection:
        if connection.execute(sa.update(t.leases).where(free).values(values)).rowcount:
            return True
        taken = sa.select(t.leases.c.name).where(t.leases.c.name == name)
        if connection.execute(taken).first() is not None:
            return False
        connection.execute(sa.insert(t.leases).values(name=name, **values))
        return True
