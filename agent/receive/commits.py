"""Names and rows of synced instances, for all associations that wait at the same moment at once.

Whoever comes first works for all who wait: one sync of a directory and one transaction serve several senders, and a
single sender pays for no other thread. Nobody returns before the transaction that holds its instance is committed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from agent.domain.errors import LedgerError
from agent.domain.study import InstanceHeader, StoredFile
from agent.store.incoming_file import IncomingFile
from agent.store.instance_files import InstanceFiles
from agent.worklist import recording
from agent.worklist.grouping import GroupBy
from agent.worklist.ledger import Ledger
from agent.worklist.recording import Arrival, Recorded


@dataclass
class _Waiting:
    """One instance whose thread waits."""

    incoming: IncomingFile
    arrival: Arrival
    recorded: Recorded | None = None
    error: Exception | None = None

    @property
    def is_done(self) -> bool:
        return self.recorded is not None or self.error is not None


class Commits:
    """The way of every received instance from its synced file to its row.

    Parameters
    ----------
    group_by
        What makes a group in the ledger.
    """

    def __init__(self, ledger: Ledger, files: InstanceFiles, group_by: GroupBy) -> None:
        self._ledger, self._files, self._group_by = ledger, files, group_by
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._waiting: list[_Waiting] = []

    def keep(
        self, incoming: IncomingFile, header: InstanceHeader, association_id: int | None
    ) -> tuple[StoredFile, Recorded]:
        """Sync, name and record; returns when all of it is done.

        Raises
        ------
        OSError
            The disk is full or broken; nothing is left of the file.
        LedgerError
            The file lies under its name, without a row.
        """
        stored = self._files.seal(incoming, header)
        mine = _Waiting(incoming, Arrival(stored=stored, association_id=association_id))
        with self._lock:
            self._waiting.append(mine)
        with self._turn:
            if not mine.is_done:  # nobody took it along while this thread waited for its turn
                with self._lock:
                    together, self._waiting = self._waiting, []
                self._commit(together)
        if mine.error is not None:
            raise mine.error
        if mine.recorded is None:
            raise LedgerError("an instance was neither recorded nor refused")
        return stored, mine.recorded

    def _commit(self, together: list[_Waiting]) -> None:
        try:
            errors = self._files.name_together([(one.incoming, one.arrival.stored) for one in together])
            for one, error in zip(together, errors, strict=True):
                one.error = error
            self._record([one for one in together if one.error is None])
        except Exception as error:  # noqa: BLE001 - it belongs to each of those who wait, not to whose turn it is
            for one in together:
                one.error = one.error or (None if one.recorded else error)

    def _record(self, named: Sequence[_Waiting]) -> None:
        if not named:
            return
        arrivals = [one.arrival for one in named]
        try:
            done = recording.record_arrivals(self._ledger, arrivals, group_by=self._group_by, now=time.time())
        except LedgerError as error:
            if len(named) == 1:
                named[0].error = error
                return
            for one in named:  # one that cannot be recorded must not take the others with it
                self._record([one])
            return
        for one, recorded in zip(named, done, strict=True):
            one.recorded = recorded
