"""One delivery step: every due row of a work item's outbox is sent and proved, or gets its next time.

It may be killed anywhere and run again. The objects' UIDs and bytes are fixed before it begins, so sending twice makes
nothing twice; a row counts only when the archive has proved to have it.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from random import Random
from types import MappingProxyType
from typing import Any, Final

from agent.deliver.ahead import Ahead
from agent.deliver.away import left_alone
from agent.deliver.courier import Courier
from agent.deliver.kept_objects import KeptBytesError, KeptObjects
from agent.deliver.messages import MessageCourier, Senders
from agent.deliver.parking import Parking
from agent.deliver.second_lane import Lanes
from agent.deliver.storage_scu import ScuConfig
from agent.domain.errors import LostLeaseError
from agent.domain.identifiers import Archive, is_message_address
from agent.domain.results import Delivery, DeliveryState
from agent.domain.work_item import WITHHELD, State, WorkItem
from agent.store.layout import Layout
from agent.store.result_files import sync_objects
from agent.worklist import blinding, commitments, outbox, results, work_items
from agent.worklist.ledger import Ledger

__all__ = ["DeliveryOutcome", "KeptBytesError", "deliver_result"]

_LOOK_AGAIN_SECONDS: Final = (1.0, 5.0)
"""When to look again at rows whose archive is left alone; drawn between."""


@dataclass(frozen=True, kw_only=True)
class DeliveryOutcome:
    """What a delivery step came to. All None: the work item was no longer ours, and nothing was recorded."""

    state: State | None = None
    """The final state, where every row is proved or failed; SCHEDULED where what remains is withheld."""
    reason: str | None = None
    retry_at: float | None = None
    """Seconds since 1970, where rows remain open."""


def deliver_result(
    ledger: Ledger,
    layout: Layout,
    item: WorkItem,
    owner: str,
    scu: ScuConfig,
    now: Callable[[], float],
    random: Random,
    log: Any,
    *,
    commitment_seconds: float = 0.0,
    parking: Parking | None = None,
    lanes: Lanes | None = None,
    ahead: Ahead | None = None,
    senders: Senders = MappingProxyType({}),
) -> DeliveryOutcome:
    """Send and prove what is due, then finish the work item or give it back until the next row is due.

    The archives are called side by side, so that one which is down or hangs never delays another.

    Parameters
    ----------
    commitment_seconds
        How long an archive may take to report on storage commitment; 0: C-FIND alone proves.
    parking
        Where associations stay on which reports are still to come; one a process.
    lanes
        Which archives take no second association; one a process.
    ahead
        Associations that may be open already; one a process.
    senders
        Who tells destinations that do not speak DICOM.

    Raises
    ------
    KeptBytesError
        A kept object is missing or changed: the report must be built again before anything is sent.
    LedgerError
        The ledger is away; the step is repeated.
    """
    this = _Round(
        ledger=ledger, layout=layout, item=item, owner=owner, scu=scu, now=now, random=random, log=log,
        commitment_seconds=commitment_seconds, parking=parking or Parking(), lanes=lanes or Lanes(), senders=senders,
        ahead=ahead or Ahead(scu),
    )  # fmt: skip
    try:
        return this.run()
    except LostLeaseError as error:
        log.info("delivery given up", cause=error.cause)
        return DeliveryOutcome()


@dataclass(frozen=True, kw_only=True)
class _Round:
    """One step of one work item: the parameters of `deliver_result`."""

    ledger: Ledger
    layout: Layout
    item: WorkItem
    owner: str
    scu: ScuConfig
    now: Callable[[], float]
    random: Random
    log: Any
    commitment_seconds: float
    parking: Parking
    lanes: Lanes
    ahead: Ahead
    senders: Senders

    def run(self) -> DeliveryOutcome:
        """Deliver what is due, and say what became of the work item."""
        rows = outbox.deliveries(self.ledger, self.item.id)
        ready = [row for row in rows if outbox.is_open(row) and row.not_before <= self.now()]
        away = left_alone(self.ledger, self.now()) if ready else frozenset()
        due = [row for row in ready if row.destination not in away]
        synced = _syncing(self.layout, self.item, rows)
        if due:
            self._deliver(due, synced)
        skipped = self.random.uniform(*_LOOK_AGAIN_SECONDS) if len(due) < len(ready) else 0.0
        return _settle(self.ledger, self.item, self.owner, self.now, synced, earliest=self.now() + skipped)

    def _deliver(self, due: list[Delivery], synced: Future[None]) -> None:
        kept = KeptObjects(self.layout, self.item.result_key, due)
        since = outbox.begin_delivery(self.ledger, self.item.id, self.owner, self.now())
        _require(synced)
        common: dict[str, Any] = {
            "ledger": self.ledger, "item": self.item, "owner": self.owner, "now": self.now, "random": self.random,
            "log": self.log, "age": self.now() - since,
        }  # fmt: skip
        courier = Courier(
            **common, scu=self.scu, kept=kept, commitment_seconds=self.commitment_seconds, parking=self.parking,
            lanes=self.lanes, ahead=self.ahead,
        )  # fmt: skip
        _deliver_everywhere(courier, MessageCourier(**common, senders=self.senders), due)


def _deliver_everywhere(courier: Courier, teller: MessageCourier, due: list[Delivery]) -> None:
    by_archive: dict[str, list[Delivery]] = {}
    for row in due:
        by_archive.setdefault(row.destination or "", []).append(row)
    calls = [
        partial(teller.deliver, name, rows)
        if is_message_address(name)
        else partial(courier.deliver, Archive.parse(name), rows)
        for name, rows in by_archive.items()
    ]
    if len(calls) == 1:  # the usual case needs no thread
        calls[0]()
        return
    with ThreadPoolExecutor(max_workers=len(calls)) as pool:
        rounds = [pool.submit(call) for call in calls]
    for done in rounds:
        done.result()


def _syncing(layout: Layout, item: WorkItem, rows: tuple[Delivery, ...]) -> Future[None]:
    """Begin to make the kept objects durable: the report step waits for no disk, the first object to leave does."""
    pool = ThreadPoolExecutor(1, thread_name_prefix="sync")
    synced = pool.submit(sync_objects, layout, item.result_key, {row.sop_instance_uid for row in rows})
    pool.shutdown(wait=False)
    return synced


def _settle(
    ledger: Ledger, item: WorkItem, owner: str, now: Callable[[], float], synced: Future[None], *, earliest: float
) -> DeliveryOutcome:
    rows = outbox.deliveries(ledger, item.id)
    open_rows = [row for row in rows if outbox.is_open(row)]
    if open_rows:
        first = min(open_rows, key=lambda row: row.not_before)
        retry_at = max(first.not_before, earliest)
        work_items.give_back(ledger, item.id, owner, now=now(), not_before=retry_at, error=first.last_error)
        if earliest <= now():  # nothing was left alone
            commitments.hasten(ledger, item.id, now())
        return DeliveryOutcome(retry_at=retry_at)
    _require(synced)
    failure = _failure(rows)
    if failure is None and any(row.state is DeliveryState.WITHHELD for row in rows):
        return _withhold(ledger, item, owner, now)
    state, reason = results.finish_delivery(ledger, item, owner, failed_because=failure, now=now())
    return DeliveryOutcome(state=state, reason=reason)


def _require(synced: Future[None]) -> None:
    try:
        synced.result()
    except OSError as error:
        raise KeptBytesError(f"the kept result objects cannot be made durable: {error.strerror}") from error


def _withhold(ledger: Ledger, item: WorkItem, owner: str, now: Callable[[], float]) -> DeliveryOutcome:
    if blinding.withhold(ledger, item, owner, now()):
        return DeliveryOutcome(state=State.SCHEDULED, reason=WITHHELD)
    work_items.give_back(ledger, item.id, owner, now=now(), not_before=now(), error=None)
    return DeliveryOutcome(retry_at=now())


def _failure(rows: tuple[Delivery, ...]) -> str | None:
    """Name the first cause at each archive that failed for good."""
    causes: dict[str, str] = {}
    for row in rows:
        if row.state is DeliveryState.FAILED:
            destination = row.destination or ""
            causes.setdefault(destination, (row.last_error or "").removeprefix(f"{destination} "))
    return "; ".join(f"{destination}: {cause}" for destination, cause in causes.items()) or None
