"""`agent serve`: prepare the data folder, then keep every process of the role running."""

from __future__ import annotations

import functools
import gc
import os
import time
from pathlib import Path
from typing import Final

import structlog

from agent.domain.errors import LedgerError
from agent.observe.audit.messages import START, STOP
from agent.receive.rebuild import rebuild
from agent.receive.sharing import SharedPort
from agent.serve.children import children_of, load_listeners, told_end
from agent.serve.composition.auditing import note_activity
from agent.serve.composition.bundles import bundle_digest_of, shadow_of
from agent.serve.composition.context import check_tls, installation_of, layout_of, ledger_of
from agent.serve.composition.dicom import files_of
from agent.serve.composition.tracing import check_tracing
from agent.serve.housekeeping import collect_temporaries
from agent.serve.supervisor import Supervisor, lock_folder
from agent.settings import Settings
from agent.worklist import arrivals, work_items
from agent.worklist.ledger import Ledger

_LEDGER_WAIT_SECONDS: Final = 120.0
_LEDGER_LOOK_SECONDS: Final = 2.0
_PORT_SECONDS: Final = 2.0
"""Listeners of a `serve` that was just killed need a moment to end."""


def serve(settings: Settings, role: str, config: Path | None) -> int:
    """Run until SIGTERM; returns the exit status.

    Raises
    ------
    SettingsError
        Something is set so that it cannot run: another `serve` has the folder, the port is taken, …
    """
    log, dicom = structlog.get_logger("serve"), settings.dicom
    children_of(settings, role, config)
    check_tls(settings)
    bundle_digest_of(settings.model.bundle)
    shadow_of(settings)
    check_tracing(settings)
    layout = layout_of(settings)
    lock = lock_folder(layout.lock, alone=role == "all")
    listens = role in ("all", "listener")
    port = SharedPort.open(dicom.host, dicom.port, dicom.listeners, patience=_PORT_SECONDS) if listens else None
    ledger = _ledger_once_it_answers(settings)
    if role == "all":
        _take_back(settings, ledger)
    if port is not None:
        files_of(settings).prepare()
        load_listeners()
    ledger.close()  # a connection must not be open while the supervisor forks
    os.register_at_fork(after_in_child=functools.partial(os.close, lock))
    gc.freeze()  # and what is loaded stays, and shared
    gc.enable()
    log.info(
        "serving",
        role=role,
        ae_title=dicom.ae_title,
        dicom=f"{dicom.host}:{dicom.port}",
        page=f"http://{settings.web.host}:{settings.web.port}/",
        data=str(layout.data_dir),
        notice="for research use only",
    )
    if os.geteuid() == 0:
        log.warning("running as root", remedy="give the agent a user of its own: see deploy/systemd")
    try:
        specs = children_of(settings, role, config, port)
        return Supervisor(
            specs,
            meanwhile=lambda: told_end("rebuild", lambda: _rebuild(settings, role)),
            at_end=(lambda: None) if port is None else port.close,
        ).run()
    finally:
        note_activity(settings, ledger, STOP)
        ledger.close()
        os.close(lock)


def _ledger_once_it_answers(settings: Settings) -> Ledger:
    """Open the ledger; a database of another machine may still be starting, or be restarted just now."""
    until = time.monotonic() + (0 if settings.database.url is None else _LEDGER_WAIT_SECONDS)
    while True:
        try:
            return ledger_of(settings)
        except LedgerError as error:
            if time.monotonic() > until:
                raise
            structlog.get_logger("serve").warning("waiting for the ledger", cause=error.cause)
            time.sleep(_LEDGER_LOOK_SECONDS)


def _take_back(settings: Settings, ledger: Ledger) -> None:
    """Free what processes of a killed `serve` still held; the folder's lock says that they are dead."""
    ours, now = installation_of(settings), time.time()
    freed = work_items.release_leases(ledger, ours, now)
    lost = arrivals.close_lost_associations(ledger, now, owner_prefix=ours)
    removed = collect_temporaries(layout_of(settings))
    structlog.get_logger("serve").info("taken back", work_items=freed, lost_associations=lost, temporaries=removed)


def _rebuild(settings: Settings, role: str) -> None:
    """Make rows again for files that a power cut left without one; listeners may receive meanwhile."""
    ledger = ledger_of(settings)
    note_activity(settings, ledger, START)
    if role == "all":
        rebuilt = rebuild(ledger, files_of(settings), group_by=settings.study.group_by, now=time.time())
        if rebuilt.rows or rebuilt.unreadable:
            structlog.get_logger("serve").warning(
                "rows rebuilt from files", rows=rebuilt.rows, unreadable=rebuilt.unreadable
            )
    ledger.close()
