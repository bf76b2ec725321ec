"""`agent serve`: prepare the data folder, then keep every process of the role running."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Final

import structlog

from agent.domain.errors import LedgerError, SettingsError
from agent.observe.audit.messages import START, STOP
from agent.serve.auditing import note_activity
from agent.serve.bundles import bundle_digest_of, shadow_of
from agent.serve.children import children_of
from agent.serve.context import check_tls, installation_of, layout_of, ledger_of
from agent.serve.housekeeping import collect_temporaries
from agent.serve.supervisor import Supervisor, lock_folder
from agent.serve.tracing import check_tracing
from agent.settings import Settings
from agent.worklist import arrivals, work_items
from agent.worklist.ledger import Ledger

_LEDGER_WAIT_SECONDS: Final = 120.0
_LEDGER_LOOK_SECONDS: Final = 2.0


def serve(settings: Settings, role: str, config: Path | None) -> int:
    """Run until SIGTERM; returns the exit status.

    Raises
    ------
    SettingsError
        Something is set so that it cannot run: another `serve` has the folder, the port is taken, …
    """
    log = structlog.get_logger("serve")
    specs = children_of(settings, role, config)
    check_tls(settings)
    bundle_digest_of(settings.model.bundle)
    shadow_of(settings)
    check_tracing(settings)
    layout = layout_of(settings)
    lock = lock_folder(layout.lock, alone=role == "all")
    if role in ("all", "listener"):
        check_port(settings.dicom.host, settings.dicom.port)
    ledger = _ledger_once_it_answers(settings)
    if role == "all":
        _take_back(settings, ledger)
    log.info(
        "serving",
        role=role,
        ae_title=settings.dicom.ae_title,
        dicom=f"{settings.dicom.host}:{settings.dicom.port}",
        page=f"http://{settings.web.host}:{settings.web.port}/",
        data=str(layout.data_dir),
        notice="for research use only",
    )
    note_activity(settings, ledger, START)
    if os.geteuid() == 0:
        log.warning("running as root", remedy="give the agent a user of its own: see deploy/systemd")
    try:
        return Supervisor(specs, lambda: _rebuild(settings, ledger, role)).run()
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


def _rebuild(settings: Settings, ledger: Ledger, role: str) -> None:
    """Make rows again for files that a power cut left without one; listeners may receive meanwhile."""
    from agent.receive.rebuild import rebuild  # slow to load: the listeners have been started before
    from agent.serve.dicom import files_of

    if role == "all":
        rebuilt = rebuild(ledger, files_of(settings), group_by=settings.study.group_by, now=time.time())
        if rebuilt.rows or rebuilt.unreadable:
            structlog.get_logger("serve").warning(
                "rows rebuilt from files", rows=rebuilt.rows, unreadable=rebuilt.unreadable
            )
    ledger.close()


def check_port(host: str, port: int) -> None:
    """Refuse a port that somebody else listens on: listeners share theirs, and would share it with a stranger too.

    Raises
    ------
    SettingsError
        The port is taken or the address is not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise SettingsError(
                f"cannot listen on {host}:{port}: {error.strerror or error}",
                remedy="choose a free port with dicom.port, or stop what uses it",
            ) from error
