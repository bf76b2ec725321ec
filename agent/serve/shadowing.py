"""The shadow's process: the other bundle on one thread, behind everything else that this machine does."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from typing import Final

import structlog

from agent.domain.errors import AgentError, SettingsError
from agent.score.score_study import ScoreLimits
from agent.serve.composition.bundles import bundle_digest_of, shadow_of
from agent.serve.composition.context import layout_of, ledger_of, owner_of
from agent.settings import Settings
from agent.tasks.shadow import ShadowScoring
from agent.worklist import leases
from agent.worklist.ledger import Ledger
from inference.backends.interface import BackendError
from inference.backends.registry import LAST_RESORT
from inference.description import BundleError
from inference.predictor import Predictor

_LEASE: Final = "shadow"
_LEASE_SECONDS: Final = 60.0
_LOOK_SECONDS: Final = 1.0
_NICEST: Final = 19


def run_shadow(settings: Settings, stop: threading.Event) -> None:
    """Score beside the live bundle until `stop` is set; whatever is wrong with the shadow, live work goes on."""
    log = structlog.get_logger("shadow")
    with contextlib.suppress(OSError):
        os.nice(_NICEST)
    ledger, owner = ledger_of(settings), owner_of(settings, "shadow")
    try:
        scoring = _scoring(settings, ledger)
    except (SettingsError, BundleError, BackendError) as error:
        log.error("no shadow: the bundle cannot be used", cause=str(error))  # noqa: TRY400 - the cause says it all
        stop.wait()
        return
    log.info("shadow ready", bundle=scoring.predictor.identity.digest[:12])
    while not stop.is_set():
        try:
            held = leases.hold(ledger, _LEASE, owner, now=time.time(), seconds=_LEASE_SECONDS)
            did = held and scoring.once()
        except AgentError as error:
            log.warning("shadow waits", cause=error.cause)
            did = False
        if not did:
            stop.wait(_LOOK_SECONDS)
    ledger.close()


def _scoring(settings: Settings, ledger: Ledger) -> ShadowScoring:
    """Open the bundle on one thread of the processor: a GPU is the live bundle's alone."""
    folder = settings.model.shadow_bundle
    if folder is None or shadow_of(settings) is None:
        raise SettingsError("no bundle is set", remedy="set model.shadow_bundle")
    predictor = Predictor.open(folder, backend=LAST_RESORT, threads=1)
    predictor.warm_up()
    return ShadowScoring(
        ledger=ledger,
        layout=layout_of(settings),
        limits=ScoreLimits(min_views=settings.study.min_views, max_views=settings.study.max_views),
        live=bundle_digest_of(settings.model.bundle),
        predictor=predictor,
        now=time.time,
        log=structlog.get_logger("shadow"),
    )
