"""Unified Procedure Steps (PS3.4 Annex CC, PS3.3 C.30) as plain values, whoever performs them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from agent.domain.work_item import State


@dataclass(frozen=True, kw_only=True)
class Reference:
    """An instance that goes in or comes out."""

    study_instance_uid: str
    series_instance_uid: str
    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a work item stands, in the words of a procedure step.

    Parameters
    ----------
    progress
        A short phrase; of a withheld result no more than that it is withheld.
    outputs
        Result objects; none before they are delivered.
    """

    state: State
    progress: str = ""
    reason: str = ""
    """Why it was canceled."""
    outputs: tuple[Reference, ...] = ()
    started_at: float | None = None
    ended_at: float | None = None


@dataclass(frozen=True, kw_only=True)
class OfferedStep:
    """A work item of ours as others may see it."""

    work_item_id: int
    study_instance_uid: str
    patient_id: str = field(repr=False)
    issuer_of_patient_id: str = field(repr=False)
    accession_number: str = field(repr=False)
    created_at: float
    outcome: Outcome
    inputs: tuple[Reference, ...]


@dataclass(frozen=True, kw_only=True)
class WantedSteps:
    """Which work items are asked for as steps; None: any.

    Parameters
    ----------
    numbers
        Rows of the ledger.
    with_references
        What went in and came out of each, and since when, is wanted, too: most of the work.
    """

    numbers: tuple[int, ...] | None = None
    state: State | None = None
    patient_id: str | None = field(default=None, repr=False)
    study_instance_uid: str | None = None
    with_references: bool = True


class Performing(StrEnum):
    """How far we are with a step of somebody else's worklist."""

    CLAIMING = "claiming"
    """Its Transaction UID is recorded; whether the claim arrived is not known yet."""
    PERFORMING = "performing"
    DONE = "done"
    LOST = "lost"
    """Another performer has it, or its provider ended it."""


@dataclass(frozen=True, kw_only=True)
class PerformedStep:
    """A step of somebody else's worklist that we perform."""

    id: int
    sop_instance_uid: str
    transaction_uid: str
    study_instance_uid: str
    state: Performing
    work_item_id: int | None
    progress: str | None
    attempts: int = 0
    not_before: float = 0.0
    """Seconds since 1970, after a fault that may pass."""
