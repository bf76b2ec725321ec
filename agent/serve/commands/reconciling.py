"""`agent reconcile`: every ultrasound study that the archive lists, against what became of it here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from agent.domain.errors import NotFoundError, SettingsError
from agent.domain.identifiers import Archive
from agent.domain.score import Refusal
from agent.domain.work_item import WITHHELD
from agent.retrieve.query_retrieve import images_at, list_studies
from agent.scu.config import ScuConfig
from agent.serve.composition.context import kept_ledger_of
from agent.serve.composition.dicom import scu_of
from agent.settings import Settings
from agent.worklist import reading
from agent.worklist.ledger import Ledger

SCORED: Final = "scored"
REFUSED: Final = "refused"
PENDING: Final = "pending"
NO_IMAGES: Final = "not eligible"
MISSED: Final = "missed"
"""What can have become of a study. Only a missed one is a fault: a refusal has its own report."""
_UNFINISHED: Final = ("RECEIVING", "SCHEDULED", "IN PROGRESS")


@dataclass(frozen=True, kw_only=True)
class Reconciled:
    """One study of the archive, and what became of it."""

    study_instance_uid: str
    study_date: str
    outcome: str
    reason: str | None = None
    """Why it was missed or refused, or what is awaited."""

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return dict(vars(self))


def reconcile(settings: Settings, since: date) -> Iterator[Reconciled]:
    """Ask the archive for its ultrasound studies and say of each what became of it.

    Raises
    ------
    SettingsError
        There is no archive that may be asked.
    ArchiveError, ArchiveRefusedError
        It cannot be asked.
    """
    archive = settings.archive.query
    if archive is None:
        raise SettingsError("there is no archive to compare with", remedy="set archive.query")
    ledger, scu = kept_ledger_of(settings), scu_of(settings)
    for listed in list_studies(archive, scu, since=since):
        uid = listed.study_instance_uid
        outcome, reason = _compared(ledger, archive, scu, uid)
        yield Reconciled(study_instance_uid=uid, study_date=listed.study_date, outcome=outcome, reason=reason)


def _compared(ledger: Ledger, archive: Archive, scu: ScuConfig, uid: str) -> tuple[str, str | None]:
    images = images_at(archive, uid, scu)
    if not images:
        return NO_IMAGES, "the archive lists no ultrasound image of it"
    try:
        shown = reading.show(ledger, uid)
    except NotFoundError:
        return MISSED, "never received: is the modality or the archive's routing set to send to us?"
    have = {instance["sop_instance_uid"] for instance in shown["instances"]}
    absent = len(images - have)
    if shown["state"] in _UNFINISHED:
        return _unfinished(shown)
    if absent:
        return MISSED, f"{absent} of the archive's {len(images)} ultrasound images never came"
    return _finished(shown)


def _unfinished(shown: dict[str, Any]) -> tuple[str, str | None]:
    if (shown["reason"] or "").startswith("held:"):
        return MISSED, f"{shown['reason']}: somebody must decide (agent retry or cancel)"
    if shown["reason"] == WITHHELD:
        return SCORED, "withheld: blinded until agent release"
    return PENDING, shown["state"].lower()


def _finished(shown: dict[str, Any]) -> tuple[str, str | None]:
    reason = shown["reason"] or ""
    if shown["state"] == "COMPLETED":
        return SCORED, None
    if reason in set(Refusal):
        return REFUSED, reason
    if shown["state"] == "CANCELED":
        return MISSED, reason or "canceled"
    return MISSED, "received, but no work item was made of it"
