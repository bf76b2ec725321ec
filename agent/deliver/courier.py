"""One round at one archive: look, send, prove; whatever goes wrong is written to the outbox with its true cause."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from random import Random
from typing import Any

from agent.deliver.ahead import Ahead, Reported
from agent.deliver.away import SLOW_SECONDS, leave_alone
from agent.deliver.backoff import wait_seconds
from agent.deliver.bookkeeping import Bookkeeper, UnforeseenError, unforeseen
from agent.deliver.kept_objects import KeptObjects
from agent.deliver.parking import Parking
from agent.deliver.proof import Prover, take_report
from agent.deliver.second_lane import Lanes, SecondLane
from agent.deliver.storage_scu import storage_contexts, store
from agent.deliver.tray import Tray
from agent.domain.errors import AgentError, ArchiveError, ArchiveRefusedError
from agent.domain.identifiers import Archive
from agent.domain.results import Delivery
from agent.domain.work_item import WorkItem
from agent.scu.association import AbortedError, AssociationGoneError, Context, OpenAssociation
from agent.scu.commitment import COMMITMENT_CONTEXT, answering
from agent.scu.config import ScuConfig
from agent.scu.find import FIND_CONTEXT
from agent.worklist import commitments, outbox
from agent.worklist.ledger import Ledger


class _StaleError(ArchiveError):
    """An association that was opened ahead ended: another one will tell why, if there is a reason."""


@dataclass(frozen=True, kw_only=True)
class Courier:
    """What one round needs to know.

    Parameters
    ----------
    kept
        Files that are what the ledger knows.
    age
        Seconds since the delivery of this work item began.
    commitment_seconds
        How long an archive may take to report on storage commitment; 0: it is not asked.
    """

    ledger: Ledger
    item: WorkItem
    owner: str
    scu: ScuConfig
    kept: KeptObjects
    age: float
    commitment_seconds: float
    parking: Parking
    lanes: Lanes
    ahead: Ahead
    now: Callable[[], float]
    random: Random
    log: Any

    def deliver(self, archive: Archive, rows: Iterable[Delivery]) -> None:
        """Do what is due at one archive.

        Raises
        ------
        LostLeaseError
            The work item is no longer ours.
        """
        tray, started = Tray.of(rows), self.now()
        books = self._books(archive, tray)
        self.parking.leave(archive)
        while tray.rest:
            try:
                self._call(archive, tray, books)
            except _StaleError:
                tray.in_flight = None
            except (ArchiveError, ArchiveRefusedError) as error:
                tray = self._after(error, archive, tray, books, slow=self.now() - started > SLOW_SECONDS)
            except AgentError:
                raise  # the ledger's, or a lost lease: nothing of the archive's
            except Exception as error:  # whatever it is: it counts as an attempt, and waits longer each time
                self.log.exception("error of ours in delivery", archive=str(archive))
                tray = self._after(unforeseen(error, archive), archive, tray, books, slow=False)

    def _after(self, error: AgentError, archive: Archive, tray: Tray, books: Bookkeeper, *, slow: bool) -> Tray:
        """Write to the outbox what a fault means; returns what may go on at once."""
        if isinstance(error, ArchiveRefusedError):
            books.fail(tray.rest, error)
            return Tray.of(())
        if isinstance(error, AbortedError | UnforeseenError) and tray.in_flight is not None:
            # one object that makes the archive abort must not hold back the others
            books.postpone([tray.in_flight], error)
            return tray.without_culprit()
        if slow and not isinstance(error, AbortedError):
            leave_alone(self.ledger, archive, self.owner, now=self.now(), seconds=books.wait)
        books.postpone(tray.rest, error)
        return Tray.of(())

    def _books(self, archive: Archive, tray: Tray) -> Bookkeeper:
        wait = wait_seconds(max(row.attempts for row in tray.rest) + 1, self.age, self.random)
        return Bookkeeper(ledger=self.ledger, archive=archive, age=self.age, wait=wait, now=self.now, log=self.log)

    def _call(self, archive: Archive, tray: Tray, books: Bookkeeper) -> None:
        """Use one association for everything; it stays open where reports are still to come."""
        prover = Prover(
            ledger=self.ledger,
            work_item_id=self.item.id,
            books=books,
            seconds=self.commitment_seconds,
            random=self.random,
            log=self.log,
        )
        report = answering(lambda told: take_report(self.ledger, told, self.now()))
        with ExitStack() as stack:
            association = stack.enter_context(self._associated(archive, self._contexts(tray), report))
            prover.look(association, tray)
            if self.lanes.worth_it(archive, tray.to_send, self.kept.files):
                with self._second_lane(archive, tray, books) as lane:
                    self._send_all(association, tray, books)
                    lane.settle()
                    self._send_all(association, tray, books)  # what came back from it
                    transaction = prover.prove(association, tray, lane.listing)
            else:
                self._send_all(association, tray, books)
                transaction = prover.prove(association, tray)
            if transaction is not None:
                self.log.info("storage commitment awaited", archive=str(archive), transaction=transaction)
                self.parking.keep(
                    archive,
                    stack.pop_all(),
                    done=lambda: commitments.unanswered(self.ledger, transaction) == 0,
                    seconds=self.commitment_seconds,
                )

    @contextmanager
    def _associated(self, archive: Archive, contexts: list[Context], report: Reported) -> Iterator[OpenAssociation]:
        was_ahead = False
        try:
            with self.ahead.associated(archive, self.scu, contexts, on_report=report) as (association, was_ahead):
                yield association
        except AssociationGoneError as error:
            if was_ahead:
                raise _StaleError(error.cause) from error
            raise

    def _contexts(self, tray: Tray) -> list[Context]:
        files = [self.kept.files[row.sop_instance_uid] for row in tray.rest]
        proof = [FIND_CONTEXT, COMMITMENT_CONTEXT] if self.commitment_seconds > 0 else [FIND_CONTEXT]
        return [*proof, *storage_contexts(files)]

    def _second_lane(self, archive: Archive, tray: Tray, books: Bookkeeper) -> SecondLane:
        def begin() -> float:
            outbox.require_ours(self.ledger, self.item.id, self.owner)
            return self.now()

        def sent(row: Delivery, answer: str, since: float) -> None:
            books.sent(row, answer, since=since)
            tray.sent(row)

        return SecondLane(
            archive, self.scu, tray, self.kept.files, self.lanes, self.ahead, begin=begin, sent=sent, log=self.log
        )

    def _send_all(self, association: OpenAssociation, tray: Tray, books: Bookkeeper) -> None:
        while (row := tray.take_first()) is not None:
            self._send(association, row, tray, books)
            tray.settle_first()

    def _send(self, association: OpenAssociation, row: Delivery, tray: Tray, books: Bookkeeper) -> None:
        outbox.require_ours(self.ledger, self.item.id, self.owner)
        started = self.now()
        try:
            answer = store(association, self.kept.files[row.sop_instance_uid], message_id=row.id % 0xFFFF + 1)
        except ArchiveRefusedError as error:
            books.fail([row], error)
        except AssociationGoneError:
            raise
        except ArchiveError as error:
            books.postpone([row], error)
        else:
            books.sent(row, answer, since=started)
            tray.sent(row)
