"""The associations of one listener that the ledger knows as open: studies wait while they send."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import structlog

from agent.domain.errors import LedgerError
from agent.receive.admission import Admission, Rejection, crowded
from agent.worklist import arrivals
from agent.worklist.ledger import Ledger


@dataclass
class _Open:
    row: int
    released: bool = False
    is_archive: bool | None = None
    """Whether one of our archives calls; None until it was asked."""


@dataclass(frozen=True, kw_only=True)
class Associations:
    """Which are open, by pynetdicom's association.

    Two threads of an association ask: pynetdicom's reactor and the association's own.
    """

    ledger: Ledger
    admission: Admission
    owner: str
    _open: dict[Any, _Open] = field(default_factory=dict, init=False, repr=False)

    def admit(self, association: Any, calling: str, called: str, host: str) -> Rejection | None:
        """Judge a request and record the association; raises LedgerError."""
        now, shown_calling = time.time(), shown(calling)[:16]
        limit, of_peer = self.admission.max_associations_per_peer, 0
        open_now = arrivals.count_associations(self.ledger, now)
        if limit is not None:
            of_peer = arrivals.count_associations(self.ledger, now, calling=shown_calling, host=host)
        rejection = self.admission.refuse(
            called=called, calling=calling, host=host, open_now=open_now, open_of_peer=of_peer
        )
        if rejection is not None:
            return rejection
        row = arrivals.open_association(
            self.ledger,
            self.admission.max_associations,
            owner=self.owner,
            calling=shown_calling,
            called=called,
            host=host,
            now=now,
            most_of_peer=limit,
        )
        if row is None:
            return crowded("others were let in since they were counted")
        self._open[association] = _Open(row)
        return None

    def row(self, association: Any) -> int | None:
        """Row of an association in the ledger; None where it has none, or none any more."""
        opened = self._open.get(association)
        return None if opened is None else opened.row

    def log(self, association: Any) -> Any:
        """Log that names the association."""
        return structlog.get_logger("receive").bind(association=self.row(association))

    def agree_to_release(self, association: Any) -> None:
        """Note that the peer was done, in case the connection closes before pynetdicom says so."""
        opened = self._open.get(association)
        if opened is not None:
            opened.released = True

    def is_archive(self, association: Any) -> bool:
        """Whether one of our archives calls; looked up once an association."""
        opened, requestor = self._open.get(association), association.requestor
        if opened is None or opened.is_archive is None:
            found = self.admission.is_archive(str(requestor.primitive.calling_ae_title), requestor.address)
            if opened is None:
                return found
            opened.is_archive = found
        return opened.is_archive

    def dead(self) -> list[Any]:
        """List those whose threads ended without a word."""
        return [association for association in tuple(self._open) if not association.is_alive()]

    def end(self, association: Any) -> None:
        """Record that an association is over, as it was left; may be called again."""
        opened = self._open.get(association)
        released = association.is_released or (opened is not None and opened.released)
        self.end_as(association, "released" if released else "aborted")

    def end_as(self, association: Any, outcome: str) -> None:
        """Record how an association ended; may be called again."""
        opened = self._open.pop(association, None)
        if opened is None:
            return
        log = structlog.get_logger("receive").bind(association=opened.row)
        try:
            arrivals.close_association(self.ledger, opened.row, outcome=outcome, now=time.time())
        except LedgerError as error:
            # its heartbeat ends with this process or with the ledger's absence; then it counts as lost
            log.warning("association not closed", cause=str(error))
        (log.info if outcome == "released" else log.warning)("association ended", outcome=outcome)


def shown(text: str) -> str:
    """Write a peer's text so that it cannot forge a line of a log."""
    return ascii(text)[1:-1]
