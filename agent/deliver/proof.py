"""How we know that an archive has an object: it commits to it and does not contradict that, or it lists it.

Where an archive offers storage commitment it is asked for that. Its report may take a while and come on any
association, so it is looked for in the ledger. C-FIND then has the last word: an archive that commits to an object
which it does not list is not believed. Without a report in time C-FIND alone proves.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from agent.deliver.bookkeeping import Bookkeeper
from agent.deliver.listing import listed
from agent.deliver.status import COMMITMENT_FAILURES, UNKNOWN_FAILURE, AfterDenial
from agent.deliver.tray import Tray
from agent.domain.errors import AgentError, ArchiveError, ArchiveRefusedError
from agent.domain.results import Delivery, Proof
from agent.scu.association import AssociationGoneError, OpenAssociation
from agent.scu.commitment import STORAGE_COMMITMENT, ask
from agent.scu.commitment_report import CommitmentReport
from agent.scu.find import STUDY_ROOT_FIND
from agent.worklist import commitments, outbox
from agent.worklist.ledger import Ledger

_NOT_LISTED: Final = "the archive answered Success to C-STORE, but does not list the object in answer to C-FIND"
_NOT_LISTED_AFTER_ALL: Final = "the archive committed to store the object, but does not list it in answer to C-FIND"
_NO_WAY: Final = "no report of storage commitment within {seconds:g} s, and the archive accepts no C-FIND"
_AT_ONCE_SECONDS: Final = 0.5
"""Most archives report within this; the step waits for it, and leaves a later report to the next step."""
_LOOK_SECONDS: Final = 0.001
_BESIDE_SECONDS: Final = 1.0


def take_report(ledger: Ledger, report: CommitmentReport, now: float) -> bool:
    """Note a report in the ledger; False where nobody asked under its transaction."""
    return commitments.record(
        ledger, report.transaction_uid, committed=report.committed, failed=dict(report.failed), now=now
    )


Beside = Callable[[list[Delivery]], "Future[set[int]] | None"]


@dataclass(frozen=True, kw_only=True)
class Prover:
    """Decides for each row of one archive in one round whether it is proved.

    Parameters
    ----------
    seconds
        `results.commitment_seconds`: how long a report may take; 0 asks for no commitment.
    """

    ledger: Ledger
    work_item_id: int
    books: Bookkeeper
    seconds: float
    random: Random
    log: Any
    _listing: list[Future[set[int]]] = field(default_factory=list)
    """What was asked beside the association."""

    def look(self, association: OpenAssociation, tray: Tray) -> None:
        """Judge what may be there already: reported, proved, to be asked for, or to be sent."""
        started = self.books.now()
        rows = self._reported(association, tray.to_look, started)
        tray.to_look = rows
        if not rows:
            return
        if not association.accepted_syntaxes(STUDY_ROOT_FIND) and self._offered(association):
            tray.to_look, tray.to_send = [], [*self._never_asked(rows), *tray.to_send]
            return
        there = listed(association, rows)
        tray.to_send = [*(row for row in rows if row.id not in there), *tray.to_send]
        found = [row for row in rows if row.id in there]
        to_ask = [row for row in found if self._offered(association) and row.transaction_uid is None]
        tray.to_prove += to_ask
        self.books.proved([row for row in found if row not in to_ask], Proof.C_FIND, since=started)
        tray.to_look = []

    def prove(self, association: OpenAssociation, tray: Tray, beside: Beside = lambda _: None) -> str | None:
        """Ask for proof of everything that the archive says to have.

        Parameters
        ----------
        beside
            Asks on another association what the archive lists, while its report is awaited.

        Returns
        -------
        str or None
            The transaction of which reports are still to come.
        """
        started, transaction = self.books.now(), None
        if tray.to_prove and self._offered(association):
            transaction = self._ask(association, tray, beside)
        if transaction is not None:
            awaited = {row.id for row in tray.to_prove}
            rows = [row for row in outbox.deliveries(self.ledger, self.work_item_id) if row.id in awaited]
            waiting = [row for row in rows if row.commitment_status is None]
            tray.to_prove = [row for row in rows if row.commitment_status is not None]
            tray.to_prove = self._reported(association, tray.to_prove, started)
            self._find(association, tray, started)
            return transaction if waiting else None
        self._find(association, tray, started)
        return None

    def _never_asked(self, rows: list[Delivery]) -> list[Delivery]:
        """Put off what no report came of, where C-FIND cannot tell; returns the others, to be sent and asked for."""
        for row in rows:
            if row.transaction_uid is not None:
                self.books.send_again(row, ArchiveError(_NO_WAY.format(seconds=self.seconds)))
        return [row for row in rows if row.transaction_uid is None]

    def _find(self, association: OpenAssociation, tray: Tray, started: float) -> None:
        """Let C-FIND alone decide."""
        there = listed(association, tray.to_prove)
        self.books.proved([row for row in tray.to_prove if row.id in there], Proof.C_FIND, since=started)
        for row in tray.to_prove:
            if row.id not in there:
                self.books.look_again(row, ArchiveError(_NOT_LISTED))
        tray.to_prove = []

    def _offered(self, association: OpenAssociation) -> bool:
        return self.seconds > 0 and bool(association.accepted_syntaxes(STORAGE_COMMITMENT))

    def _ask(self, association: OpenAssociation, tray: Tray, beside: Beside) -> str | None:
        """Request commitment and wait a moment; the ledger knows of it before the archive can report."""
        transaction = f"2.25.{self.random.getrandbits(122)}"
        until = self.books.now() + self.seconds
        outbox.mark_asked(self.ledger, [row.id for row in tray.to_prove], transaction, until=until)
        try:
            ask(association, transaction, [(row.sop_class_uid, row.sop_instance_uid) for row in tray.to_prove])
        except AssociationGoneError:
            raise
        except (ArchiveError, ArchiveRefusedError) as error:
            self.log.warning("storage commitment refused: C-FIND proves", cause=error.cause)
            return None
        if (listing := beside(tray.to_prove)) is not None:
            self._listing.append(listing)
        end = time.monotonic() + min(_AT_ONCE_SECONDS, self.seconds)
        while commitments.unanswered(self.ledger, transaction) and time.monotonic() < end:
            time.sleep(_LOOK_SECONDS)
        association.settle()
        return transaction

    def _reported(self, association: OpenAssociation, rows: list[Delivery], started: float) -> list[Delivery]:
        """Settle the rows that the archive reported on; returns those that something else must decide."""
        committed = [row for row in rows if row.committed]
        there = self._uncontradicted(association, committed) if committed else set()
        self.books.proved([row for row in committed if row.id in there], Proof.STORAGE_COMMITMENT, since=started)
        open_ones = []
        for row in rows:
            if row.commitment_status is None:
                open_ones.append(row)
            elif not row.committed:
                open_ones += self._denied(row)
            elif row.id not in there:
                self.books.look_again(row, ArchiveError(_NOT_LISTED_AFTER_ALL), ask_again=True)
        return open_ones

    def _uncontradicted(self, association: OpenAssociation, rows: list[Delivery]) -> set[int]:
        """Say which of these the archive does not deny to have; one that answers no C-FIND is believed."""
        ids = {row.id for row in rows}
        if not association.accepted_syntaxes(STUDY_ROOT_FIND) or ids <= self._listed_beside():
            return ids
        try:
            return listed(association, rows)
        except ArchiveRefusedError:
            return ids

    def _listed_beside(self) -> set[int]:
        """Take what the archive was seen to list meanwhile; where that went wrong, it is asked again."""
        try:
            return self._listing.pop().result(_BESIDE_SECONDS) if self._listing else set()
        except (AgentError, TimeoutError, CancelledError):
            return set()

    def _denied(self, row: Delivery) -> list[Delivery]:
        """Do what a Failure Reason calls for; returns the row where C-FIND is to decide."""
        code = row.commitment_status or 0
        then, words = COMMITMENT_FAILURES.get(code, UNKNOWN_FAILURE)
        error = ArchiveError(f"the archive does not commit to store the object: {code:04X} {words}")
        if then is AfterDenial.C_FIND_DECIDES:
            return [row]
        if then is AfterDenial.FAILED:
            self.books.fail([row], error)
        elif then is AfterDenial.SEND_AGAIN:
            self.books.send_again(row, error)
        else:
            self.books.look_again(row, error, ask_again=True)
        return []
