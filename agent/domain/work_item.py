"""The states of a work item, in the words of the Unified Procedure Step (PS3.4 CC.1.1), and the moves between them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class State(StrEnum):
    """PS3.4 Table CC.1.1-2."""

    SCHEDULED = "SCHEDULED"
    IN_PROGRESS = "IN PROGRESS"
    COMPLETED = "COMPLETED"
    CANCELED = "CANCELED"


RECEIVING: Final = "RECEIVING"
"""What `show` says of a study whose group has not closed yet; no state of a work item."""


class Step(StrEnum):
    """What a work item needs next. A step may run twice; it moves on in one transaction with its outcome."""

    RETRIEVE = "retrieve"
    SCORE = "score"
    REPORT = "report"
    DELIVER = "deliver"


QUEUES: Final = {Step.RETRIEVE: "retrieve", Step.SCORE: "score", Step.REPORT: "score", Step.DELIVER: "deliver"}
"""Which Celery queue wakes which step. Reports are built where the views were just decoded."""


class Cause(StrEnum):
    """Why a work item exists."""

    NEW = "new"
    ADDENDUM = "addendum"
    REPLAY = "replay"
    RETRY = "retry"


LIVE_CAUSES: Final = (Cause.NEW, Cause.ADDENDUM)
"""What a clinic waits for; everything else is done when none of this is due."""

SUPERSEDED: Final = "superseded"
CANCELED_BY_OPERATOR: Final = "canceled-by-operator"
CANCELED_BY_PEER: Final = "canceled-by-peer"
DELIVERY_FAILED: Final = "delivery-failed"
FAULT: Final = "fault"
NOT_RETRIEVED: Final = "not-retrieved"
DEAD_LETTERS: Final = (DELIVERY_FAILED, FAULT, NOT_RETRIEVED)
"""Beginnings of the reason of a work item that ended neither proved, nor refused, superseded or canceled by hand."""
HELD: Final = "held"
HELD_PATIENT_ID: Final = "held:patient-id-differs-within-study"
HELD_ORDER: Final = "held:order-is-another-patients"
RELEASED: Final = "released"
"""Reason of a held work item that a person let go on: another one stands for it."""
WITHHELD: Final = "withheld"
"""Reason of a SCHEDULED work item whose results are made and wait, blinded, for `agent release`."""


@dataclass(frozen=True, kw_only=True)
class WorkItem:
    """One attempt to score one group with one bundle."""

    id: int
    group_id: str
    study_instance_uid: str
    """The study in which the report is filed: the newest of the group."""
    result_key: str
    bundle_digest: str
    cause: Cause
    state: State
    reason: str | None
    step: Step
    created_at: float
    attempts: int
    bundle_path: str | None = None
    """Folder of the bundle where it is not the configured one."""
    replaces_key: str | None = None
    """Result key whose report this one replaces."""

    @property
    def held(self) -> bool:
        """Whether somebody must decide before it may run."""
        return self.state is State.SCHEDULED and (self.reason or "").startswith(HELD)

    @property
    def withheld(self) -> bool:
        """Whether its results are made and wait to be released."""
        return self.state is State.SCHEDULED and self.reason == WITHHELD

    @property
    def failed(self) -> bool:
        """Whether it is a dead letter: neither a refusal nor superseded nor canceled by hand."""
        kind = (self.reason or "").split(":")[0]
        return self.state is State.CANCELED and kind in DEAD_LETTERS
