"""Result objects and their deliveries."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Final


class ResultKind(StrEnum):
    """What an object of a result is."""

    STRUCTURED_REPORT = "structured-report"
    SUMMARY = "summary"
    HEATMAP = "heatmap"
    DOCUMENT = "document"
    REJECTION_NOTE = "rejection-note"
    COLOUR_STATE = "colour-state"
    GREY_STATE = "grey-state"


OPTIONAL_KINDS: Final = frozenset(
    {ResultKind.DOCUMENT, ResultKind.REJECTION_NOTE, ResultKind.COLOUR_STATE, ResultKind.GREY_STATE}
)
"""Made only where a destination is set to want them, and sent to no other."""

Extras = Mapping[ResultKind, frozenset[str]]
"""Optional kind → destinations (`AE@host:port`) that get it."""


@dataclass(frozen=True, kw_only=True)
class ResultObject:
    """One finished DICOM object: its identity and its bytes as a Part 10 file."""

    kind: ResultKind
    index: int
    """Which of several of its kind, from 0."""
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    study_instance_uid: str
    encoded: bytes

    @cached_property
    def sha256(self) -> str:
        """Of `encoded`, in hexadecimal digits."""
        return hashlib.sha256(self.encoded).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Predecessor:
    """An object that a new result replaces: its report (Predecessor Documents Sequence, PS3.3 C.17.2) or a picture."""

    study_instance_uid: str
    series_instance_uid: str
    sop_class_uid: str
    sop_instance_uid: str
    is_image: bool = False


class DeliveryState(StrEnum):
    """Of one object at one archive."""

    PENDING = "pending"
    SENT = "sent"
    PROVED = "proved"
    FAILED = "failed"
    KEPT = "kept"
    WITHHELD = "withheld"
    """Blinded: nothing leaves before `agent release`."""


class Proof(StrEnum):
    """How we know that the archive has the object."""

    STORAGE_COMMITMENT = "storage-commitment"
    C_FIND = "c-find"
    KEPT = "kept"
    FHIR_READ = "fhir-read"
    """The server returned the report when it was asked for it."""
    HL7_ACK = "hl7-ack"
    """The receiver acknowledged: HL7 v2 has nothing stronger."""


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """One row of the outbox: one object, one archive."""

    id: int
    work_item_id: int
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    study_instance_uid: str
    sha256: str
    destination: str | None
    """`AE@host:port`; None where results are only kept."""
    state: DeliveryState
    proof: Proof | None
    attempts: int
    not_before: float
    look_first: bool
    """A replay: ask the archive before sending, and send only what it lacks."""
    last_error: str | None = None
    transaction_uid: str | None = None
    """Of the newest request for storage commitment since the object was sent."""
    commitment_status: int | None = None
    """What was reported of it: 0 committed, else Failure Reason (0008,1197); None while nothing was."""

    @property
    def committed(self) -> bool:
        """Whether the archive says that it took responsibility."""
        return self.commitment_status == 0
