"""The web process."""

from __future__ import annotations

import threading
from functools import partial

import structlog
import uvicorn

from agent import __version__
from agent.serve.acting import act
from agent.serve.auditing import note_operator
from agent.serve.context import GIGABYTE, layout_of, ledger_of
from agent.serve.readiness import readiness
from agent.serve.releasing import SEEN, note
from agent.serve.watching import watching_of
from agent.settings import Settings
from agent.web.app import WebContext, make_app


def run_page(settings: Settings, stop: threading.Event) -> None:
    """Serve the page and the API until `stop` is set."""
    ledger = ledger_of(settings)
    context = WebContext(
        ledger=ledger,
        layout=layout_of(settings),
        token=settings.web.token,
        version=__version__,
        patient=settings.web.patient,
        quiet_seconds=settings.study.quiet_seconds,
        least_free_bytes=settings.storage.min_free_gb * GIGABYTE,
        ready=lambda: readiness(settings, ledger),
        entity=f"{settings.dicom.ae_title}@{_of_this_machine(settings.dicom.host)}:{settings.dicom.port}",
        unblinded_token=settings.web.unblinded_token,
        on_unblinded=lambda study, peer: note(settings, ledger, study, by=f"page, {peer}", what=SEEN),
        act=lambda action, study, dry_run: act(settings, action, study, dry_run=dry_run),
        watching=watching_of(settings, ledger),
        note=partial(note_operator, settings, ledger),
    )
    config = uvicorn.Config(
        make_app(context),
        host=settings.web.host,
        port=settings.web.port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=2,
        server_header=False,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while thread.is_alive() and not stop.wait(0.2):
        pass
    server.should_exit = True
    thread.join(3.0)
    structlog.get_logger("web").info("page ended")


def _of_this_machine(host: str) -> str:
    """Say how this machine calls an address that it listens on."""
    every = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - compared with, not listened on
    return every.get(host, f"[{host}]" if ":" in host else host)
