"""The processes that `serve` is made of, and their entry points.

Listeners are forked from the supervisor, so that one that died is replaced at once; every other process is started anew
as `python -m agent.serve.children NAME`.
"""

from __future__ import annotations

import functools
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from agent.domain.errors import AgentError, LedgerError, SettingsError
from agent.observe.logs import set_up_logging
from agent.serve.composition.context import broker_of, layout_of, owner_of, prepared_ledger_of
from agent.serve.supervisor import FORKED_NAME, WRONG_SETTINGS, ChildSpec

if TYPE_CHECKING:  # each process loads what it needs
    from agent.receive.services import Services
    from agent.receive.sharing import Seat, SharedPort
    from agent.settings import Settings
    from agent.worklist.ledger import Ledger

_QUEUES: Final = ("score", "deliver", "retrieve")
_SHADOW: Final = "shadow"


def children_of(settings: Settings, role: str, config: Path | None, port: SharedPort | None = None) -> list[ChildSpec]:
    """List the processes of a role.

    Parameters
    ----------
    port
        What the listeners accept from.

    Raises
    ------
    SettingsError
        A split role has no broker to share with the others.
    """
    if role != "all" and settings.broker.url is None:
        raise SettingsError(
            f"`serve --role {role}` needs a broker that all roles share",
            remedy="set broker.url to a Redis or Valkey, or run `agent serve` with every role",
        )
    workers = [*_QUEUES, *([_SHADOW] if settings.model.shadow_bundle is not None else [])]
    names = {"worker": workers, "web": ["web"]}
    wanted = [name for of_role, some in names.items() if role in ("all", of_role) for name in some]
    shared = {"AGENT_BROKER__URL": broker_of(settings)}
    arguments = [] if config is None else [str(config)]
    module = [sys.executable, "-P", "-m", "agent.serve.children"]
    specs = _listeners(settings, port) if role in ("all", "listener") else []
    specs += [ChildSpec(name=name, command=[*module, name, *arguments], environment=shared) for name in wanted]
    return specs if settings.broker.url is not None else [_broker(settings), *specs]


def _listeners(settings: Settings, port: SharedPort | None) -> list[ChildSpec]:
    specs = []
    for number in range(settings.dicom.listeners):
        name, seat = f"listener-{number + 1}", None if port is None else port.seat(number)
        specs.append(
            ChildSpec(
                name=name,
                command=[*FORKED_NAME, name],
                run=functools.partial(run_listener, name, settings, seat),
                was_at_work=(lambda: False) if seat is None else seat.leave,
                is_at_work=functools.partial(_is_taken, seat),
                first=True,
            )
        )
    return specs


def _is_taken(seat: Seat | None) -> bool:
    return seat is None or seat.is_taken


def _broker(settings: Settings) -> ChildSpec:
    from agent.serve.composition.broker import broker_command, socket_path

    folder = layout_of(settings).broker
    return ChildSpec(
        name="broker",
        command=functools.partial(broker_command, folder),  # what says it takes a while to load
        last=True,
        must_exist=socket_path(folder),
    )


def main() -> int:
    """Run one child; its exit code tells the supervisor whether a restart can help."""
    name, config = sys.argv[1], Path(sys.argv[2]) if len(sys.argv) > 2 else None
    from agent.settings import load_settings

    return _run(name, load_settings(config, os.environ), _worker)


def load_listeners() -> None:
    """Load what listeners need, once, before they are forked."""
    from agent.receive.listener import load
    from agent.serve import readiness  # noqa: F401
    from agent.serve.composition import alerting, dicom  # noqa: F401

    load()


def run_listener(name: str, settings: Settings, seat: Seat | None) -> int:
    """Run a listener, which was forked; returns its exit code."""
    return _run(name, settings, functools.partial(_listener, seat=seat))


def told_end(name: str, run: Callable[[], None]) -> int:
    """Do what a child does, and say why where it fails; returns its exit code."""
    log = structlog.get_logger("serve")
    try:
        run()
    except SettingsError as error:
        log.error("cannot run", child=name, cause=str(error))  # noqa: TRY400 - the cause says it all
        return WRONG_SETTINGS
    except AgentError as error:
        log.error("ended", child=name, cause=str(error))  # noqa: TRY400 - the cause says it all
        return 1
    return 0


def _run(name: str, settings: Settings, run: Callable[[Settings, str], None]) -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the supervisor decides
    set_up_logging(settings.log.format or "auto", role=name)
    return told_end(name, lambda: run(settings, name))


def _worker(settings: Settings, name: str) -> None:
    if name == "web":
        _run_web(settings)
    elif name == _SHADOW:
        from agent.serve.shadowing import run_shadow

        run_shadow(settings, _stopped_by_sigterm())
    else:
        from agent.serve.worker import run_worker

        run_worker(settings, name)


def _listener(settings: Settings, name: str, seat: Seat | None) -> None:
    from pydicom import config as of_pydicom

    from agent.receive.listener import Listener
    from agent.serve.composition.alerting import alerts_of, write_alerts
    from agent.serve.composition.dicom import commitments_of, files_of, listener_of
    from agent.serve.readiness import READY_SECONDS, say_ready

    # it would look whether to warn of each UID that is read: 2,000 in an association, and nobody is told
    of_pydicom.settings.reading_validation_mode = of_pydicom.IGNORE
    stop = _stopped_by_sigterm()
    ledger, owner = prepared_ledger_of(settings), owner_of(settings, name)  # by whom this was forked from
    alerts = alerts_of(settings)
    listener = Listener(
        listener_of(settings, owner),
        ledger,
        files_of(settings),
        commitments_of(ledger),
        on_alert=alerts.note,
        services=_services(settings, ledger),
        seat=seat,
    )
    listener.start()
    if seat is not None:
        seat.let_go()  # else the port would stay open while this listener stops
    gc.collect()
    gc.freeze()  # what stands now stays: a collection of it all held all threads up for 70 ms
    while not stop.wait(READY_SECONDS / 4):
        try:
            say_ready(ledger, "listener", owner)
        except LedgerError as error:  # it comes back; ending here would cut every association
            structlog.get_logger("listener").warning("not told that we are ready", cause=error.cause)
        write_alerts(alerts)
    listener.stop(timeout=5.0)
    write_alerts(alerts)
    ledger.close()


def _services(settings: Settings, ledger: Ledger) -> Services:
    from agent.receive.services import Services

    if not (settings.archive.notifications or settings.worklist.offer):
        return Services()  # what makes others takes a while to load
    from agent.serve.composition.standards import services_of

    return services_of(settings, ledger)


def _run_web(settings: Settings) -> None:
    from agent.serve.page import run_page

    run_page(settings, _stopped_by_sigterm())


def _stopped_by_sigterm() -> threading.Event:
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    return stop


if __name__ == "__main__":
    sys.exit(main())
