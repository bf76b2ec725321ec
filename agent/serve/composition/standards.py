"""What listeners offer, and what workers do, for other systems' worklists and notifications."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import structlog

from agent.domain.availability import AvailabilityNotice
from agent.domain.procedure_step import OfferedStep, WantedSteps
from agent.domain.result_uids import derived_uid
from agent.domain.work_item import CANCELED_BY_PEER
from agent.procedure.performer import Performer
from agent.procedure.provider import SOP_CLASSES, StepProvider
from agent.receive.availability import availability_service
from agent.receive.services import Services
from agent.serve.composition.bundles import bundle_digest_of
from agent.serve.composition.context import layout_of
from agent.serve.composition.dicom import scu_of
from agent.store.secret import installation_secret
from agent.worklist import fetching, leases, replay, step_outcomes
from agent.worklist.ledger import Ledger

if TYPE_CHECKING:
    from agent.settings import Settings

_LEASE: Final = "performer"
_LEASE_SECONDS: Final = 60.0


def services_of(settings: Settings, ledger: Ledger) -> Services:
    """List what the listeners of this configuration offer besides storage."""
    offered = Services()
    if settings.archive.notifications:
        offered += availability_service(_noting(settings, ledger))
    if settings.worklist.offer:
        provider = provider_of(settings, ledger)
        offered += Services(sop_classes=SOP_CLASSES, handlers=provider.handlers())
    return offered


def provider_of(settings: Settings, ledger: Ledger) -> StepProvider:
    """Make what answers questions about our own work items."""

    def steps(wanted: WantedSteps) -> list[OfferedStep]:
        return step_outcomes.offered(ledger, wanted)

    def cancel(number: int) -> bool:
        return replay.cancel(ledger, number, reason=CANCELED_BY_PEER, now=time.time())

    secret = installation_secret(layout_of(settings))
    return StepProvider(
        ae_title=settings.dicom.ae_title,
        root=derived_uid(secret.hex(), "procedure-steps"),
        steps=steps,
        cancel=cancel if settings.worklist.offer_cancel else None,
    )


def perform(settings: Settings, ledger: Ledger, owner: str) -> None:
    """Look at the worklist that we perform steps of, one process at a time; raises LedgerError."""
    provider, seconds = settings.worklist.perform, _LEASE_SECONDS + settings.worklist.perform_seconds
    if provider is None or not leases.hold(ledger, _LEASE, owner, now=time.time(), seconds=seconds):
        return
    archives = settings.results.destinations
    Performer(
        ledger=ledger,
        provider=provider,
        scu=scu_of(settings),
        archive=archives[0].ae_title if archives else None,
        code=settings.worklist.perform_code,
        label=settings.worklist.perform_label,
        bundle_digest=bundle_digest_of(settings.model.bundle),
        random=random.SystemRandom(),
        now=time.time,
        log=structlog.get_logger("procedure"),
    ).look()


def _noting(settings: Settings, ledger: Ledger) -> Callable[[AvailabilityNotice], None]:
    digest = bundle_digest_of(settings.model.bundle)

    def take(notice: AvailabilityNotice) -> None:
        quiet = settings.study.quiet_seconds
        fetching.note_availability(ledger, notice, bundle_digest=digest, quiet_seconds=quiet, now=time.time())

    return take
