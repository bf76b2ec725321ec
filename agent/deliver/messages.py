"""Rows of the outbox whose destination does not speak DICOM: told through a sender, with the same patience."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from agent.deliver.away import SLOW_SECONDS, leave_alone
from agent.deliver.backoff import ASKED_CAP_SECONDS, wait_seconds
from agent.deliver.bookkeeping import Bookkeeper, unforeseen
from agent.domain.errors import AgentError, ArchiveError, ArchiveRefusedError, AskedToWaitError
from agent.domain.results import Delivery, Proof
from agent.domain.work_item import WorkItem
from agent.worklist import outbox
from agent.worklist.ledger import Ledger

Sender = Callable[[WorkItem, Delivery], tuple[Proof, str]]
"""Tells a destination of a result, and returns what proves it and what was answered.

It may be called again for the same result: what it sends is then the same, and a receiver can know it. Raises
ArchiveError where trying again may help, ArchiveRefusedError where it cannot.
"""
Senders = Mapping[str, Sender]
"""By destination, as the outbox has it."""


@dataclass(frozen=True, kw_only=True)
class MessageCourier:
    """One round at destinations that are told of reports."""

    ledger: Ledger
    item: WorkItem
    owner: str
    senders: Senders
    age: float
    now: Callable[[], float]
    random: Random
    log: Any

    def deliver(self, destination: str, rows: Iterable[Delivery]) -> None:
        """Tell one destination what is due.

        Raises
        ------
        LostLeaseError
            The work item is no longer ours.
        """
        for row in rows:
            wait = wait_seconds(row.attempts + 1, self.age, self.random)
            books = Bookkeeper(
                ledger=self.ledger, archive=destination, age=self.age, wait=wait, now=self.now, log=self.log
            )
            self._tell(destination, row, books)

    def _tell(self, destination: str, row: Delivery, books: Bookkeeper) -> None:
        outbox.begin_delivery(self.ledger, self.item.id, self.owner, self.now())  # still ours?
        started = self.now()
        try:
            proof, answer = self._sender(destination)(self.item, row)
        except AskedToWaitError as error:
            # the jitter on top: what was put off together comes back apart
            books = replace(books, wait=books.wait + min(error.seconds, ASKED_CAP_SECONDS))
            leave_alone(self.ledger, destination, self.owner, now=self.now(), seconds=books.wait)
            books.send_again(row, error)
        except ArchiveError as error:
            if self.now() - started > SLOW_SECONDS:
                leave_alone(self.ledger, destination, self.owner, now=self.now(), seconds=books.wait)
            books.send_again(row, error)
        except ArchiveRefusedError as error:
            books.fail([row], error)
        except AgentError:
            raise
        except Exception as error:  # whatever it is: it counts as an attempt, and waits longer each time
            self.log.exception("error of ours in delivery", archive=destination)
            books.send_again(row, unforeseen(error, destination))
        else:
            books.sent(row, answer, since=started)
            books.proved([row], proof, since=started)

    def _sender(self, destination: str) -> Sender:
        if destination not in self.senders:
            raise ArchiveRefusedError(
                f"{destination} is no longer configured", remedy="set it again in messages, then `agent retry`"
            )
        return self.senders[destination]
