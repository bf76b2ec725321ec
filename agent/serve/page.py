"""The web process."""

from __future__ import annotations

import errno
import os
import socket
import threading
from functools import partial

import structlog
import uvicorn

from agent import __version__
from agent.domain.errors import AgentError
from agent.serve.commands.acting import act
from agent.serve.commands.pushing import own_listener, push_file
from agent.serve.commands.releasing import SEEN, note
from agent.serve.composition.auditing import note_operator
from agent.serve.composition.context import GIGABYTE, layout_of, ledger_of
from agent.serve.composition.watching import watching_of
from agent.serve.readiness import readiness
from agent.settings import Settings
from agent.web.app import WebContext, make_app
from agent.web.uploads import Inlet


def run_page(settings: Settings, stop: threading.Event) -> None:
    """Serve the page and the API until `stop` is set.

    Raises
    ------
    AgentError
        The address cannot be listened on. Images are received without the page, so this ends the page alone.
    """
    sockets = bound(settings.web.host, settings.web.port)
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
        entity=str(own_listener(settings)),
        unblinded_token=settings.web.unblinded_token,
        on_unblinded=lambda study, peer: note(settings, ledger, study, by=f"page, {peer}", what=SEEN),
        act=lambda action, study, dry_run: act(settings, action, study, dry_run=dry_run),
        watching=watching_of(settings, ledger),
        note=partial(note_operator, settings, ledger),
        inlet=_inlet_of(settings),
    )
    config = uvicorn.Config(
        make_app(context),
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=2,
        server_header=False,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": sockets}, daemon=True)
    thread.start()
    while thread.is_alive() and not stop.wait(0.2):
        pass
    server.should_exit = True
    thread.join(3.0)
    structlog.get_logger("web").info("page ended")


def bound(host: str, port: int) -> list[socket.socket]:
    """Open what the page listens on: one socket for each address of the host.

    Raises
    ------
    AgentError
        One of them cannot be opened.
    """
    opened: list[socket.socket] = []
    try:
        for family, *_, address in dict.fromkeys(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)):
            opened.append(socket.create_server(address[:2], family=family))
    except OSError as error:
        for one in opened:
            one.close()
        remedy = "choose a free port with web.port, or stop what uses it"
        if error.errno != errno.EADDRINUSE:
            remedy = "set web.host to an address of this machine, and web.port to one that this user may open"
        # Python's own text repeats the address
        why = os.strerror(error.errno) if error.errno is not None and error.errno > 0 else error.strerror or error
        raise AgentError(f"cannot serve the page on {host}:{port}: {why}", remedy=remedy) from error
    return opened


def _inlet_of(settings: Settings) -> Inlet | None:
    """Make what takes uploads, where they are wanted."""
    to = settings.web.upload_to
    if to is None:
        return None
    return Inlet(
        folder=layout_of(settings).incoming,
        max_bytes=int(settings.dicom.max_object_gb * GIGABYTE),
        least_free_bytes=settings.storage.min_free_gb * GIGABYTE,
        push=lambda path: push_file(settings, to, path),
    )
