"""How we know that an archive has an object: it commits to it and does not contradict that, or it lists it.

Where an archive offers storage commitment it is asked for that. Its report may take a while and come on any
association, so it is looked for in the ledger. C-FIND then has the last word: an archive that commits to an object
which it does not list is not believed. Without a report in time C-FIND alone proves.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from agent.deliver.bookkeeping import Bookkeeper
from agent.deliver.status import COMMITMENT_FAILURES, UNKNOWN_FAILURE, AfterDenial
from agent.deliver.tray import Tray
from agent.domain.errors import ArchiveError, ArchiveRefusedError
from agent.domain.results import Delivery, Proof
from agent.scu.association import AssociationGoneError, OpenAssociation
from agent.scu.commitment import STORAGE_COMMITMENT, CommitmentReport, ask
from agent.scu.find import STUDY_ROOT_FIND, find
from agent.worklist import commitments, outbox
from agent.worklist.ledger import Ledger

_NOT_LISTED: Final = "the archive answered Success to C-STORE, but does not list the object in answer to C-FIND"
_NOT_LISTED_AFTER_ALL: Final = "the archive committed to store the object, but does not list it in answer to C-FIND"
_NO_WAY: Final = "no report of storage commitment within {seconds:g} s, and the archive accepts no C-FIND"
_AT_ONCE_SECONDS: Final = 0.5
"""Most archives report within this; the step waits for it, and leaves a later report to the next step."""
_LOOK_SECONDS: Final = 0.002


def listed(association: OpenAssociation, rows: Iterable[Delivery]) -> set[int]:
    """Ask the archive which of these objects it lists.

    One query per series that asks for every SOP Instance UID in it: every Study Root SCP supports that (PS3.4
    C.6.2.1), while lists of UIDs, though in the standard, are refused by some; and our series are small.

    Returns
    -------
    set of int
        Row ids of those that the archive lists under the study and series that we wrote.

    Raises
    ------
    ArchiveError, ArchiveRefusedError
        As `find` does.
    """
    by_series: dict[tuple[str, str], list[Delivery]] = {}
    for row in rows:
        by_series.setdefault((row.study_instance_uid, row.series_instance_uid), []).append(row)
    found: set[int] = set()
    for (study, series), members in by_series.items():
        keys = {"StudyInstanceUID": study, "SeriesInstanceUID": series, "SOPInstanceUID": ""}
        uids = {match["SOPInstanceUID"] for match in find(association, "IMAGE", keys)}
        found |= {row.id for row in members if row.sop_instance_uid in uids}
    return found


def take_report(ledger: Ledger, report: CommitmentReport, now: float) -> bool:
    """Note a report in the ledger; False where nobody asked under its transaction."""
    return commitments.record(
        ledger, report.transaction_uid, committed=report.committed, failed=dict(report.failed), now=now
    )


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

    def look(self, association: OpenAssociation, tray: Tray) -> None:
        """Judge what may be there already: reported, proved, to be asked for, or to be sent."""
        started = self.books.now()
        rows = self._reported(association, tray, tray.to_look, started)
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

    def prove(self, association: OpenAssociation, tray: Tray) -> str | None:
        """Ask for proof of everything that the archive says to have.

        Returns
        -------
        str or None
            The transaction of which reports are still to come.
        """
        started, transaction = self.books.now(), None
        if tray.to_prove and self._offered(association):
            transaction = self._ask(association, tray)
        if transaction is not None:
            awaited = {row.id for row in tray.to_prove}
            rows = [row for row in outbox.deliveries(self.ledger, self.work_item_id) if row.id in awaited]
            waiting = [row for row in rows if row.commitment_status is None]
            tray.to_prove = [row for row in rows if row.commitment_status is not None]
            tray.to_prove = self._reported(association, tray, tray.to_prove, started)
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

    def _ask(self, association: OpenAssociation, tray: Tray) -> str | None:
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
        end = time.monotonic() + min(_AT_ONCE_SECONDS, self.seconds)
        while commitments.unanswered(self.ledger, transaction) and time.monotonic() < end:
            time.sleep(_LOOK_SECONDS)
        association.settle()
        return transaction

    def _reported(
        self, association: OpenAssociation, tray: Tray, rows: list[Delivery], started: float
    ) -> list[Delivery]:
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
        if not association.accepted_syntaxes(STUDY_ROOT_FIND):
            return {row.id for row in rows}
        try:
            return listed(association, rows)
        except ArchiveRefusedError:
            return {row.id for row in rows}

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
