"""What keeps the data folder in order while running: retention and the watermark."""

from __future__ import annotations

import shutil
import time
from dataclasses import asdict
from typing import Final

import sqlalchemy as sa
import structlog

from agent.observe.audit import messages as m
from agent.serve.composition.auditing import scribe_of
from agent.serve.composition.context import GIGABYTE, layout_of
from agent.serve.composition.dicom import scu_of
from agent.settings import Settings
from agent.tasks.retention import Retention
from agent.worklist import history, leases
from agent.worklist import tables as t
from agent.worklist.ledger import Ledger
from agent.worklist.retention import Removable

RETENTION_SECONDS: Final = 60.0
_LEASE: Final = "retention"
_DAY: Final = 86_400.0
_HISTORY: Final = "history"
_HISTORY_SECONDS: Final = 3600.0
_PAUSE_SECONDS: Final = 0.05


def make_room(settings: Settings, ledger: Ledger, owner: str) -> None:
    """Warn below the watermark and remove what may go, one process at a time; raises LedgerError."""
    _forget(settings, ledger, owner)
    log, storage = structlog.get_logger("store"), settings.storage
    if not leases.hold(ledger, _LEASE, owner, now=time.time(), seconds=RETENTION_SECONDS * 5):
        return
    free = shutil.disk_usage(storage.data_dir).free / GIGABYTE
    if free < storage.warn_free_gb:
        log.warning("little room", free_gb=round(free, 2), refused_below_gb=storage.min_free_gb)
    if settings.archive.query is None or (storage.keep_days is None and storage.keep_gb is None):
        return
    Retention(
        ledger=ledger,
        layout=layout_of(settings),
        archive=settings.archive.query,
        scu=scu_of(settings),
        keep_seconds=None if storage.keep_days is None else storage.keep_days * _DAY,
        keep_bytes=None if storage.keep_gb is None else int(storage.keep_gb * GIGABYTE),
        audit=lambda study: _audit(settings, ledger, study),
        log=log,
    ).look(time.time())


def _forget(settings: Settings, ledger: Ledger, owner: str) -> None:
    """Remove rows of what ended long ago, once an hour over all processes."""
    now = time.time()
    if not leases.hold(ledger, _HISTORY, f"{owner}@{now!r}", now=now, seconds=_HISTORY_SECONDS):
        return
    before = now - settings.storage.history_days * _DAY
    gone = history.forget(
        ledger, before=before, audited=settings.audit.enabled, pause=lambda: time.sleep(_PAUSE_SECONDS)
    )
    if gone:
        structlog.get_logger("store").info("history removed from the ledger", **asdict(gone))


def _audit(settings: Settings, ledger: Ledger, study: Removable) -> None:
    """Write who was removed before it is; raises OSError, and then nothing is removed."""
    if not settings.audit.enabled:
        return
    query = sa.select(t.studies).where(t.studies.c.study_instance_uid == study.study_instance_uid)
    with ledger.read() as connection:
        row = connection.execute(query).one()
    scribe = scribe_of(settings, ledger)
    event = scribe.study_deleted(row._mapping, len(study.digests), time.time())
    scribe.trail.append([m.xml_of(event)])
