"""`agent serve`: prepare the data folder, then keep every process of the role running."""

from __future__ import annotations

import os
import time
from pathlib import Path

import structlog

from agent.serve.bundles import bundle_of
from agent.serve.children import children_of
from agent.serve.context import check_tls, installation_of, layout_of, ledger_of
from agent.serve.supervisor import Supervisor, lock_folder
from agent.settings import Settings
from agent.worklist import arrivals, work_items
from agent.worklist.ledger import Ledger


def serve(settings: Settings, role: str, config: Path | None) -> int:
    """Run until SIGTERM; returns the exit status.

    Raises
    ------
    SettingsError
        Something is set so that it cannot run: another `serve` has the folder, the bundle is not whole, …
    """
    log = structlog.get_logger("serve")
    specs = children_of(settings, role, config)
    check_tls(settings)
    bundle_of(settings.model.bundle)
    layout = layout_of(settings)
    lock = lock_folder(layout.lock, alone=role == "all")
    ledger = ledger_of(settings)
    if role == "all":
        _recover(settings, ledger)
    ledger.close()
    log.info(
        "serving",
        role=role,
        ae_title=settings.dicom.ae_title,
        dicom=f"{settings.dicom.host}:{settings.dicom.port}",
        page=f"http://{settings.web.host}:{settings.web.port}/",
        data=str(layout.data_dir),
        notice="for research use only",
    )
    try:
        return Supervisor(specs).run()
    finally:
        os.close(lock)


def _recover(settings: Settings, ledger: Ledger) -> None:
    """Take back what processes of a killed `serve` still held; the folder's lock says that they are dead."""
    from agent.receive.rebuild import rebuild
    from agent.serve.dicom import files_of

    log, ours, now = structlog.get_logger("serve"), installation_of(settings), time.time()
    freed = work_items.release_leases(ledger, ours, now)
    lost = arrivals.close_lost_associations(ledger, now, owner_prefix=ours)
    rebuilt = rebuild(ledger, files_of(settings), group_by=settings.study.group_by, now=now)
    log.info("recovered", work_items=freed, lost_associations=lost, rebuilt=str(rebuilt))
