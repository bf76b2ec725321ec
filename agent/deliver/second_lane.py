"""A second association that takes pictures from the end of the tray while the first sends from its beginning.

An archive needs longer to store a picture than we need to send it; on two associations the one goes on beside the
other. Afterwards it asks what the archive lists, while the first waits for its report of storage commitment. The lane
only helps: whatever goes wrong on it, its object goes back to the tray, and the first association finds out what is
the matter. So every outcome is decided in one place.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Final

from agent.deliver.ahead import Ahead
from agent.deliver.listing import listed
from agent.deliver.storage_scu import PartTenFile, storage_contexts, store
from agent.deliver.tray import Tray
from agent.domain.identifiers import Archive
from agent.domain.results import Delivery
from agent.scu.association import OpenAssociation
from agent.scu.config import ScuConfig
from agent.scu.find import FIND_CONTEXT, STUDY_ROOT_FIND

LEAST_BYTES: Final = 1 << 18
"""Of the pictures to send: with some 0.8 MB it wins 15 ms of a delivery's 70."""
_PICTURE: Final = "1.2.840.10008.5.1.4.1.1.7"  # Secondary Capture Image Storage
_PATIENT_SECONDS: Final = 1.0
"""An archive that has not answered by then serves one association at a time."""


class Lanes:
    """Which archives take only one association at a time, as far as this process has seen."""

    def __init__(self) -> None:
        self._single: set[str] = set()

    def worth_it(self, archive: Archive, rows: Iterable[Delivery], files: Mapping[str, PartTenFile]) -> bool:
        """Whether a second association is likely to be faster."""
        if str(archive) in self._single:
            return False
        sizes = [files[row.sop_instance_uid].path.stat().st_size for row in rows if is_picture(row)]
        return len(sizes) > 1 and sum(sizes) >= LEAST_BYTES

    def count(self, archive: Archive) -> int:
        """How many associations an archive takes at once."""
        return 1 if str(archive) in self._single else 2

    def note_single(self, archive: Archive) -> None:
        """Try no second association with this archive again."""
        self._single.add(str(archive))


def is_picture(row: Delivery) -> bool:
    """Whether the order of the row matters to no other."""
    return row.sop_class_uid == _PICTURE


class SecondLane:
    """Works on an association of its own for as long as its block lasts.

    Parameters
    ----------
    begin
        Checks, before each object, that the work item is still ours.
    sent
        Notes that the archive says to have an object: its row, the answer, and when sending began.
    """

    def __init__(
        self,
        archive: Archive,
        scu: ScuConfig,
        tray: Tray,
        files: Mapping[str, PartTenFile],
        lanes: Lanes,
        ahead: Ahead,
        *,
        begin: Callable[[], float],
        sent: Callable[[Delivery, str, float], None],
        log: Any,
    ) -> None:
        self._archive, self._scu, self._tray, self._files = archive, scu, tray, files
        self._lanes, self._ahead, self._begin, self._sent, self._log = lanes, ahead, begin, sent, log
        self._idle = threading.Condition()
        self._in_flight: Delivery | None = None
        self._sending, self._over = True, False
        self._asked: tuple[list[Delivery], Future[set[int]]] | None = None
        self._is_open = False
        self._started = time.monotonic()

    def __enter__(self) -> SecondLane:
        threading.Thread(target=self._run, name="second lane", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let the association go, once nothing is under way on it."""
        self.settle()
        with self._idle:
            self._over = True
            self._idle.notify_all()

    def settle(self) -> None:
        """Take no more; wait for the object under way, not for an association that has not come about."""
        with self._idle:
            self._sending = False
            self._idle.notify_all()
            self._idle.wait_for(lambda: self._in_flight is None)
            if not self._is_open and time.monotonic() - self._started > _PATIENT_SECONDS:
                self._lanes.note_single(self._archive)

    def listing(self, rows: Iterable[Delivery]) -> Future[set[int]] | None:
        """Ask beside the first association which of these the archive lists; None where this one is of no use."""
        with self._idle:
            if not self._is_open or self._over:
                return None
            found: Future[set[int]] = Future()
            self._asked = list(rows), found
            self._idle.notify_all()
            return found

    def _run(self) -> None:
        contexts = storage_contexts(self._files[row.sop_instance_uid] for row in self._tray.rest if is_picture(row))
        try:
            with self._ahead.associated(self._archive, self._scu, [FIND_CONTEXT, *contexts]) as (association, _):
                self._is_open = True
                while (row := self._taken()) is not None:
                    self._send(association, row)
                self._list(association)
        except Exception as error:  # noqa: BLE001 - the first association finds out what is the matter
            self._log.info("second association given up", archive=str(self._archive), cause=str(error))
            if not self._is_open:
                self._lanes.note_single(self._archive)
        finally:
            with self._idle:
                self._is_open = False
                if self._asked is not None:
                    self._asked[1].cancel()

    def _list(self, association: OpenAssociation) -> None:
        """Answer `listing`, if it is asked before all is over."""
        with self._idle:
            self._idle.wait_for(lambda: self._over or self._asked is not None)
        if self._asked is not None and association.accepted_syntaxes(STUDY_ROOT_FIND):
            rows, found = self._asked
            found.set_result(listed(association, rows))

    def _taken(self) -> Delivery | None:
        with self._idle:
            if self._sending:
                self._in_flight = self._tray.take_last(is_picture)
            return self._in_flight

    def _send(self, association: OpenAssociation, row: Delivery) -> None:
        done = False
        try:
            since = self._begin()
            answer = store(association, self._files[row.sop_instance_uid], message_id=row.id % 0xFFFF + 1)
            self._sent(row, answer, since)
            done = True
        finally:
            with self._idle:
                if not done:
                    self._tray.give_back(row)
                self._in_flight = None
                self._idle.notify_all()
