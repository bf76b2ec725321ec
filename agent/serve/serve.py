"""`agent serve`: prepare the data folder, then keep every process of the role running.

Callers wait for what comes before the first listener, so it is as little as it can be: the settings are checked, the
port is opened, and only then libraries are loaded, the fewest that a listener needs. What is imported here on top is
what comes before the port; `tests/unit/serve/test_lean.py` holds what must not be loaded.
"""

from __future__ import annotations

import functools
import gc
import importlib
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from agent.domain.errors import LedgerError
from agent.observe.logs import set_up_logging
from agent.receive.sharing import SharedPort
from agent.serve.aside import SettingsAside
from agent.serve.children import children_of, load_listeners, told_end
from agent.serve.composition.bundles import bundle_digest_of, shadow_of
from agent.serve.composition.context import check_tls, installation_of, layout_of, ledger_of
from agent.serve.lean import load_pydicom
from agent.serve.supervisor import Supervisor, lock_folder
from agent.store.temporaries import collect_of_listeners, collect_of_workers

if TYPE_CHECKING:
    from agent.settings import Settings
    from agent.worklist.ledger import Ledger

_LISTENING: Final = ("all", "listener")
LOADED: Final = (
    load_pydicom,  # before whatever else would load all of it
    functools.partial(importlib.import_module, "pynetdicom"),
    functools.partial(importlib.import_module, "sqlalchemy.sql"),
    load_listeners,
)
"""What listeners need, in portions, between which it is seen whether the port can be opened."""
_LEDGER_WAIT_SECONDS: Final = 120.0
_LEDGER_LOOK_SECONDS: Final = 2.0
_PORT_SECONDS: Final = 2.0
"""Listeners of a `serve` that was just killed need a moment to end."""


@dataclass(frozen=True)
class _Place:
    """What a `serve` holds while it runs."""

    settings: Settings
    lock: int
    port: SharedPort | None


def serve(role: str, config: Path | None) -> int:
    """Run until SIGTERM; returns the exit status.

    Raises
    ------
    SettingsError
        Something is set so that it cannot run: another `serve` has the folder, the port is taken, …
    """
    place = _taken(role, config)
    settings, port = place.settings, place.port
    ledger = _ledger_once_it_answers(settings)
    if role == "all":
        _make_way(settings, ledger)
    if port is not None:
        _prepare_folders(settings)
    ledger.close()  # a connection must not be open while the supervisor forks
    os.register_at_fork(after_in_child=functools.partial(os.close, place.lock))
    gc.freeze()  # and what is loaded stays, and shared
    gc.enable()
    _tell(settings, role)
    try:
        specs = children_of(settings, role, config, port)
        return Supervisor(
            specs,
            meanwhile=lambda: told_end("rebuild", lambda: _take_back(settings, role)),
            at_end=(lambda: None) if port is None else port.close,
        ).run()
    finally:
        _note_end(settings, ledger)
        ledger.close()
        os.close(place.lock)


def _taken(role: str, config: Path | None) -> _Place:
    """Load what is needed, and take the place as soon as the settings are known to be right."""
    aside, place = SettingsAside(config, functools.partial(_check, role=role, config=config)), None
    for load in LOADED if role in _LISTENING else ():
        load()
        if place is None and aside.are_there:
            place = _take_place(aside.take(), role)
    return place or _take_place(aside.take(), role)


def _take_place(settings: Settings, role: str) -> _Place:
    """Lock the data folder and open the port, where callers wait from then on."""
    set_up_logging(settings.log.format or "auto", role="serve")
    lock, dicom = lock_folder(layout_of(settings).lock, alone=role == "all"), settings.dicom
    if role not in _LISTENING:
        return _Place(settings, lock, None)
    at = (dicom.host, dicom.port, dicom.listeners)
    return _Place(settings, lock, SharedPort.passed(*at) or SharedPort.open(*at, patience=_PORT_SECONDS))


def _tell(settings: Settings, role: str) -> None:
    log, dicom = structlog.get_logger("serve"), settings.dicom
    log.info(
        "serving",
        role=role,
        ae_title=dicom.ae_title,
        dicom=f"{dicom.host}:{dicom.port}",
        page=f"http://{settings.web.host}:{settings.web.port}/",
        data=str(settings.storage.data_dir),
        notice="for research use only",
    )
    if os.geteuid() == 0:
        log.warning("running as root", remedy="give the agent a user of its own: see deploy/systemd")


def _check(settings: Settings, role: str, config: Path | None) -> None:
    """Refuse what cannot run, before anybody can call."""
    children_of(settings, role, config)
    check_tls(settings)
    bundle_digest_of(settings.model.bundle)
    shadow_of(settings)
    if settings.tracing.otlp is not None:
        from agent.serve.composition.tracing import check_tracing

        check_tracing(settings)


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


def _make_way(settings: Settings, ledger: Ledger) -> None:
    """Take away what listeners of a killed `serve` left; the folder's lock says that they are dead."""
    from agent.worklist import arrivals

    lost = arrivals.close_lost_associations(ledger, time.time(), owner_prefix=installation_of(settings))
    removed = collect_of_listeners(layout_of(settings))
    structlog.get_logger("serve").info("way made for listeners", lost_associations=lost, temporaries=removed)


def _prepare_folders(settings: Settings) -> None:
    from agent.serve.composition.dicom import files_of

    files_of(settings).prepare()


def _take_back(settings: Settings, role: str) -> None:
    """Free what workers of a killed `serve` held, and make rows again for files that a power cut left without one.

    Listeners may receive meanwhile; workers start after it.
    """
    from agent.observe.audit.messages import START
    from agent.receive.rebuild import rebuild
    from agent.serve.composition.auditing import note_activity
    from agent.serve.composition.dicom import files_of
    from agent.worklist import work_items

    log, ledger = structlog.get_logger("serve"), ledger_of(settings)
    note_activity(settings, ledger, START)
    if role == "all":
        freed = work_items.release_leases(ledger, installation_of(settings), time.time())
        log.info("taken back", work_items=freed, temporaries=collect_of_workers(layout_of(settings)))
        rebuilt = rebuild(ledger, files_of(settings), group_by=settings.study.group_by, now=time.time())
        if rebuilt.rows or rebuilt.unreadable:
            log.warning("rows rebuilt from files", rows=rebuilt.rows, could_not_be_read=rebuilt.unreadable)
    ledger.close()


def _note_end(settings: Settings, ledger: Ledger) -> None:
    from agent.observe.audit.messages import STOP
    from agent.serve.composition.auditing import note_activity

    note_activity(settings, ledger, STOP)
