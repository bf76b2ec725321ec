"""What became of a delivery, written to the outbox and to the log in one place."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from agent.deliver.backoff import gives_up
from agent.domain.errors import AgentError, ArchiveError
from agent.domain.identifiers import Archive
from agent.domain.results import Delivery, DeliveryState, Proof
from agent.worklist import outbox
from agent.worklist.ledger import Ledger

_TOGETHER_SECONDS: Final = 1.0
"""What fails within this is tried again at one time, so that it shares an association again."""


class UnforeseenError(ArchiveError):
    """An error of ours on the way to an archive."""


def unforeseen(error: Exception, destination: Archive | str) -> UnforeseenError:
    """Make a named error of one that nobody foresaw: it counts as an attempt, like any other."""
    detail = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
    return UnforeseenError(
        f"sending to {destination} fails by an error of ours: {detail}",
        remedy="see the log of the deliver worker, and report it",
    )


@dataclass(frozen=True, kw_only=True)
class Bookkeeper:
    """Keeps the rows of one archive in one round.

    Parameters
    ----------
    age
        Seconds since the delivery of this work item began.
    wait
        Seconds until what failed is tried again.
    """

    ledger: Ledger
    archive: Archive | str
    age: float
    wait: float
    now: Callable[[], float]
    log: Any
    _times: list[float] = field(default_factory=list)

    def sent(self, row: Delivery, answer: str, *, since: float) -> None:
        """Note that the archive says to have the object."""
        outbox.mark_sent(self.ledger, row.id, self.now())
        self.log.info("object sent", **self._named(row), seconds=self._since(since), answer=answer)

    def proved(self, rows: Collection[Delivery], proof: Proof, *, since: float) -> None:
        """Note that the archive is known to have these objects."""
        if not rows:
            return
        outbox.mark_proved(self.ledger, [row.id for row in rows], proof, self.now())
        for row in rows:
            self.log.info("object proved", **self._named(row), seconds=self._since(since), proof=str(proof))

    def postpone(self, rows: Iterable[Delivery], error: AgentError) -> None:
        """Put off what may pass: what was sent is looked for later, what was not is sent again."""
        for row in rows:
            if row.look_first or row.state is DeliveryState.SENT:
                self.look_again(row, error)
            else:
                self.send_again(row, error)

    def send_again(self, row: Delivery, error: AgentError) -> None:
        """Send it anew after a while."""
        if not self._given_up(row, error):
            outbox.mark_retry(self.ledger, row.id, error=error.cause, not_before=self._later(row, error))

    def look_again(self, row: Delivery, error: AgentError, *, ask_again: bool = False) -> None:
        """Look after a while whether the archive has it; with `ask_again`, request commitment anew."""
        if not self._given_up(row, error):
            later = self._later(row, error)
            outbox.mark_unproved(self.ledger, row.id, error=error.cause, not_before=later, ask_again=ask_again)

    def fail(self, rows: Iterable[Delivery], error: AgentError) -> None:
        """Give up what trying again cannot help."""
        for row in rows:
            outbox.mark_failed(self.ledger, row.id, error=error.cause)
            self.log.error("delivery failed", **self._named(row), cause=error.cause, remedy=error.remedy)

    def _given_up(self, row: Delivery, error: AgentError) -> bool:
        if not gives_up(row.attempts + 1, self.age):
            return False
        cause = f"given up after {self.age / 86_400:.1f} days: {error.cause}"
        self.fail([row], ArchiveError(cause, remedy=error.remedy))
        return True

    def _later(self, row: Delivery, error: AgentError) -> float:
        self.log.warning("delivery waits", **self._named(row), cause=error.cause, seconds=round(self.wait, 1))
        later = self.now() + self.wait
        if not self._times or later - self._times[-1] > _TOGETHER_SECONDS:
            self._times.append(later)
        return self._times[-1]

    def _named(self, row: Delivery) -> dict[str, Any]:
        return {"archive": str(self.archive), "sop_instance": row.sop_instance_uid}

    def _since(self, started: float) -> float:
        return round(self.now() - started, 3)
