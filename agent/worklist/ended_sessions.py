"""Sessions of the page that somebody logged out of: whoever kept a copy of the cookie is asked for the token again.

Kept in the ledger, so that it holds for every page process and over restarts.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from agent.worklist import tables as t
from agent.worklist.ledger import Ledger, Prepared

_ENDED: Final = Prepared(sa.select(t.ended_sessions.c.id).where(t.ended_sessions.c.id == sa.bindparam("session")))


def end(ledger: Ledger, session: str, *, expires_at: float, now: float) -> None:
    """Remember that a session ended, until it would have expired; those that have expired are forgotten.

    Parameters
    ----------
    expires_at, now
        Seconds since 1970 UTC.
    """
    e = t.ended_sessions.c
    with ledger.write() as connection:
        connection.execute(sa.delete(t.ended_sessions).where(e.expires_at <= now))
        known = sa.exists().where(e.id == session)
        row = sa.select(sa.literal(session), sa.literal(expires_at)).where(~known)
        connection.execute(sa.insert(t.ended_sessions).from_select(["id", "expires_at"], row))


def has_ended(ledger: Ledger, session: str) -> bool:
    """Whether somebody logged out of a session; asked at every call of the page that brings one."""
    with ledger.read_prepared() as driver:
        return _ENDED.run(driver, {"session": session}).fetchone() is not None
