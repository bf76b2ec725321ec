"""The processes that `serve` is made of, and the entry point of each: `python -m agent.serve.children NAME`."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Final

import structlog

from agent.domain.errors import AgentError, LedgerError, SettingsError
from agent.observe.logs import set_up_logging
from agent.serve.composition.context import broker_of, layout_of, ledger_of, owner_of
from agent.serve.supervisor import WRONG_SETTINGS, ChildSpec
from agent.settings import Settings, load_settings

ROLES: Final = ("all", "listener", "worker", "web")
_QUEUES: Final = ("score", "deliver", "retrieve")
_SHADOW: Final = "shadow"


def children_of(settings: Settings, role: str, config: Path | None) -> list[ChildSpec]:
    """List the processes of a role.

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
    listeners = [f"listener-{number}" for number in range(1, settings.dicom.listeners + 1)]
    workers = [*_QUEUES, *([_SHADOW] if settings.model.shadow_bundle is not None else [])]
    names = {"listener": listeners, "worker": workers, "web": ["web"]}
    wanted = [name for of_role, some in names.items() if role in ("all", of_role) for name in some]
    shared = {"AGENT_BROKER__URL": broker_of(settings)}
    arguments = [] if config is None else [str(config)]
    specs = [
        ChildSpec(
            name=name,
            command=[sys.executable, "-P", "-m", "agent.serve.children", name, *arguments],
            environment=shared,
            first=name in listeners,
        )
        for name in wanted
    ]
    return specs if settings.broker.url is not None else [_broker(settings), *specs]


def _broker(settings: Settings) -> ChildSpec:
    from agent.serve.composition.broker import broker_command, socket_path

    folder = layout_of(settings).broker
    return ChildSpec(
        name="broker", command=broker_command(folder), first=True, last=True, must_exist=socket_path(folder)
    )


def main() -> int:
    """Run one child; its exit code tells the supervisor whether a restart can help."""
    name, config = sys.argv[1], Path(sys.argv[2]) if len(sys.argv) > 2 else None
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the supervisor decides
    settings = load_settings(config, os.environ)
    set_up_logging(settings.log.format or "auto", role=name)
    log = structlog.get_logger("serve")
    try:
        _run(settings, name)
    except SettingsError as error:
        log.error("cannot run", child=name, cause=str(error))  # noqa: TRY400 - the cause says it all
        return WRONG_SETTINGS
    except AgentError as error:
        log.error("ended", child=name, cause=str(error))  # noqa: TRY400 - the cause says it all
        return 1
    return 0


def _run(settings: Settings, name: str) -> None:
    if name.startswith("listener"):
        _run_listener(settings, name)
    elif name == "web":
        _run_web(settings)
    elif name == _SHADOW:
        from agent.serve.shadowing import run_shadow

        run_shadow(settings, _stopped_by_sigterm())
    else:
        from agent.serve.worker import run_worker

        run_worker(settings, name)


def _run_listener(settings: Settings, name: str) -> None:
    from agent.receive.listener import Listener
    from agent.serve.composition.auditing import alerts_of, write_alerts
    from agent.serve.composition.dicom import commitments_of, files_of, listener_of
    from agent.serve.composition.standards import services_of
    from agent.serve.readiness import READY_SECONDS, say_ready

    stop = _stopped_by_sigterm()
    ledger, owner = ledger_of(settings), owner_of(settings, name)
    alerts = alerts_of(settings)
    listener = Listener(
        listener_of(settings, owner),
        ledger,
        files_of(settings),
        commitments_of(ledger),
        on_alert=alerts.note,
        services=services_of(settings, ledger),
    )
    listener.start()
    gc.collect()
    gc.freeze()  # what stands now stays: pynetdicom collects every six seconds, which held all threads up for 70 ms
    while not stop.wait(READY_SECONDS / 4):
        try:
            say_ready(ledger, "listener", owner)
        except LedgerError as error:  # it comes back; ending here would cut every association
            structlog.get_logger("listener").warning("not told that we are ready", cause=error.cause)
        write_alerts(alerts)
    listener.stop(timeout=5.0)
    write_alerts(alerts)
    ledger.close()


def _run_web(settings: Settings) -> None:
    from agent.serve.page import run_page

    run_page(settings, _stopped_by_sigterm())


def _stopped_by_sigterm() -> threading.Event:
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    return stop


if __name__ == "__main__":
    sys.exit(main())
