"""One round at one archive: look, send, prove; whatever goes wrong is written to the outbox with its true cause."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from agent.deliver.away import SLOW_SECONDS, leave_alone
from agent.deliver.backoff import gives_up, wait_seconds
from agent.deliver.proof import prove
from agent.deliver.storage_scu import PartTenFile, storage_contexts, store
from agent.domain.errors import AgentError, ArchiveError, ArchiveRefusedError
from agent.domain.identifiers import Archive
from agent.domain.results import Delivery, DeliveryState
from agent.domain.work_item import WorkItem
from agent.scu.association import AbortedError, AssociationGoneError, OpenAssociation, associate
from agent.scu.config import ScuConfig
from agent.scu.find import FIND_CONTEXT
from agent.worklist import outbox
from agent.worklist.ledger import Ledger

_NOT_LISTED = "the archive answered Success to C-STORE, but does not list the object in answer to C-FIND"


@dataclass
class _Tray:
    """The rows of one archive in one round; a row leaves it once the outbox says what became of it."""

    to_look: list[Delivery]
    to_send: list[Delivery]
    sent: list[Delivery] = field(default_factory=list)
    in_flight: Delivery | None = None

    @classmethod
    def of(cls, rows: Iterable[Delivery]) -> _Tray:
        rows = list(rows)
        look = [row for row in rows if row.look_first or row.state is DeliveryState.SENT]
        return cls(to_look=look, to_send=[row for row in rows if row not in look])

    @property
    def rest(self) -> list[Delivery]:
        return [*self.to_look, *self.sent, *self.to_send]


@dataclass(frozen=True, kw_only=True)
class Courier:
    """What one round needs to know.

    Parameters
    ----------
    files
        Checked files by SOP Instance UID.
    age
        Seconds since the delivery of this work item began.
    """

    ledger: Ledger
    item: WorkItem
    owner: str
    scu: ScuConfig
    files: Mapping[str, PartTenFile]
    age: float
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
        tray, started = _Tray.of(rows), self.now()
        wait = wait_seconds(max(row.attempts for row in tray.rest) + 1, self.age, self.random)
        while tray.rest:
            try:
                self._call(archive, tray, wait)
            except AbortedError as error:
                culprit, tray = tray.in_flight, self._without_culprit(tray)
                if culprit is None:
                    self._postpone(tray.rest, error, wait, archive)
                    return
                # one object that makes the archive abort must not hold back the others
                self._postpone([culprit], error, wait, archive)
            except ArchiveError as error:
                if self.now() - started > SLOW_SECONDS:
                    leave_alone(self.ledger, archive, self.owner, now=self.now(), seconds=wait)
                self._postpone(tray.rest, error, wait, archive)
                return
            except ArchiveRefusedError as error:
                self._fail(tray.rest, error, archive)
                return

    def _call(self, archive: Archive, tray: _Tray, wait: float) -> None:
        """Use one association for everything."""
        files = [self.files[row.sop_instance_uid] for row in tray.rest]
        with associate(archive, self.scu, [FIND_CONTEXT, *storage_contexts(files)]) as association:
            if tray.to_look:
                missing = self._proved(association, tray.to_look)
                tray.to_send, tray.to_look = [*missing, *tray.to_send], []
            while tray.to_send:
                self._send_next(association, tray, wait)
            if tray.sent:
                missing = self._proved(association, tray.sent)
                self._postpone(missing, ArchiveError(_NOT_LISTED), wait, archive)
                tray.sent = []

    def _send_next(self, association: OpenAssociation, tray: _Tray, wait: float) -> None:
        row = tray.to_send[0]
        outbox.begin_delivery(self.ledger, self.item.id, self.owner, self.now())  # still ours?
        tray.in_flight, started = row, self.now()
        try:
            answer = store(association, self.files[row.sop_instance_uid], message_id=row.id % 0xFFFF + 1)
        except ArchiveRefusedError as error:
            self._fail([row], error, association.archive)
        except AssociationGoneError:
            raise
        except ArchiveError as error:
            self._postpone([row], error, wait, association.archive)
        else:
            outbox.mark_sent(self.ledger, row.id, self.now())
            tray.sent.append(replace(row, state=DeliveryState.SENT))
            self.log.info("object sent", **self._named(row, association.archive, started), answer=answer)
        tray.in_flight = None
        tray.to_send.pop(0)

    def _proved(self, association: OpenAssociation, rows: list[Delivery]) -> list[Delivery]:
        """Mark what the archive proves to have; returns the others."""
        started = self.now()
        proofs = prove(association, rows)
        for row in rows:
            if row.id in proofs:
                outbox.mark_proved(self.ledger, row.id, proofs[row.id], self.now())
                self.log.info(
                    "object proved", **self._named(row, association.archive, started), proof=str(proofs[row.id])
                )
        return [row for row in rows if row.id not in proofs]

    @staticmethod
    def _without_culprit(tray: _Tray) -> _Tray:
        rest = [row for row in tray.rest if row is not tray.in_flight]
        return _Tray.of(rest)

    def _postpone(self, rows: Iterable[Delivery], error: AgentError, wait: float, archive: Archive) -> None:
        not_before = self.now() + wait  # one time for all, so that they share an association again
        for row in rows:
            if gives_up(row.attempts + 1, self.age):
                cause = f"given up after {self.age / 86_400:.1f} days: {error.cause}"
                self._fail([row], ArchiveError(cause, remedy=error.remedy), archive)
                continue
            was_sent = row.look_first or row.state is DeliveryState.SENT
            mark = outbox.mark_unproved if was_sent else outbox.mark_retry
            mark(self.ledger, row.id, error=error.cause, not_before=not_before)
            self.log.warning("delivery waits", **self._named(row, archive), cause=error.cause, seconds=round(wait, 1))

    def _fail(self, rows: Iterable[Delivery], error: AgentError, archive: Archive) -> None:
        for row in rows:
            outbox.mark_failed(self.ledger, row.id, error=error.cause)
            self.log.error("delivery failed", **self._named(row, archive), cause=error.cause, remedy=error.remedy)

    def _named(self, row: Delivery, archive: Archive, started: float | None = None) -> dict[str, Any]:
        named: dict[str, Any] = {"archive": str(archive), "sop_instance": row.sop_instance_uid}
        if started is not None:
            named["seconds"] = round(self.now() - started, 3)
        return named
