"""What the database says, as one sentence: where the ledger is, what is wrong with it, and what to do."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from agent.domain.errors import LedgerError

_MIGRATE: Final = "run `agent migrate`, or start `agent serve`, which does it"
_OTHERWISE: Final = "see `agent doctor`"
_OWNER: Final = "run this as the user that `agent serve` runs as; file and folder must be that user's to write"
_OF_SQLITE: Final = (
    # in what SQLite says, what to do
    (
        ("not a database", "malformed"),
        "it is damaged: stop `agent serve` and restore it from a backup (docs/runbook.md)",
    ),
    (("unable to open",), _OWNER),
    (("readonly", "read-only"), f"{_OWNER}, and its disk mounted for writing"),
    (("disk is full",), "make room on its disk"),
    (("disk i/o",), "see to its disk: the kernel's log says more"),
    (("locked",), "another process writes to it for long: try again; if that does not help, restart `agent serve`"),
    (("no such table", "no such column", "has no column"), _MIGRATE),
)
_OF_POSTGRESQL: Final = (
    (("password authentication failed", "no password supplied", "pg_hba"), "correct user and password in database.url"),
    (('role "', 'database "'), "correct user and name in database.url, or have them created"),
    (("too many",), "let PostgreSQL take more connections (max_connections), or run fewer processes"),
    (("could not extend", "no space left"), "make room on the disk of PostgreSQL"),
    (("relation", "column"), _MIGRATE),
    (
        ("refused", "timeout", "timed out", "resolve", "translate", "starting up", "shutting down", "connection"),
        "is PostgreSQL running, and can it be reached from here as database.url says?",
    ),
)


def fault_of(error: BaseException | None, url: sa.URL | None) -> LedgerError:
    """Make the error of a database that cannot be used.

    Parameters
    ----------
    error
        The driver's own. Only its first line is told: behind it some name values of rows.
    url
        Where it is; None: unknown. No password of it is told.
    """
    said = (str(error).strip().splitlines() or [type(error).__name__])[0]
    is_sqlite = url is None or url.get_backend_name() == "sqlite"
    known = _OF_SQLITE if is_sqlite else _OF_POSTGRESQL
    heard = said.lower()
    remedy = next((remedy for parts, remedy in known if any(part in heard for part in parts)), _OTHERWISE)
    return LedgerError(f"the ledger{place_of(url)} cannot be used: {said}", remedy=remedy)


def place_of(url: sa.URL | None) -> str:
    """Say where a ledger is, beginning with a blank; nothing where that is unknown."""
    if url is None:
        return ""
    if url.get_backend_name() == "sqlite":
        return f" {url.database}"
    return f" (PostgreSQL database {url.database} at {url.host or 'the local socket'}:{url.port or 5432})"
