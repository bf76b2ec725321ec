"""The supervisor: starts every process of `serve`, restarts what dies, and ends them all together.

All children stay in its process group and die with it (PR_SET_PDEATHSIG), so nothing outlives a killed `serve`.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

from agent.domain.errors import SettingsError

_PR_SET_PDEATHSIG: Final = 1  # prctl(2)
_POLL_SECONDS: Final = 0.1
_STOP_SECONDS: Final = 7.0
"""Within these a child finishes or gives back its work; then it is killed, and leases bring the work back."""
_FIRST_RESTART_SECONDS: Final = 0.5
_LONGEST_RESTART_SECONDS: Final = 10.0
_STEADY_SECONDS: Final = 30.0
"""A child that ran for this long is restarted without a growing delay."""
WRONG_SETTINGS: Final = 2
"""Exit code of a child that no restart can help (design: wrong use or settings)."""


@dataclass(frozen=True, kw_only=True)
class ChildSpec:
    """One process to keep running.

    Parameters
    ----------
    first
        Started before the others: who must answer soonest after a restart.
    last
        Ended after all others: the broker, on which the others lean while they finish.
    must_exist
        The child is restarted when this file disappears.
    """

    name: str
    command: list[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    first: bool = False
    last: bool = False
    must_exist: Path | None = None


@dataclass
class _Child:
    spec: ChildSpec
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    restart_at: float = 0.0
    delay: float = _FIRST_RESTART_SECONDS


class Supervisor:
    """Keeps children running until it is told to stop.

    Parameters
    ----------
    meanwhile
        Done once, between the start of the first children and the start of the others.
    """

    def __init__(self, specs: list[ChildSpec], meanwhile: Callable[[], None]) -> None:
        self._meanwhile = meanwhile
        self._children = [_Child(spec) for spec in specs]
        self._stopping = False
        self._log = structlog.get_logger("serve")

    def run(self) -> int:
        """Run until SIGTERM or SIGINT; returns the exit status of `serve`."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        status = 0
        for child in self._children:
            if child.spec.first:
                self._start(child)
        self._meanwhile()
        while not self._stopping and status == 0:
            for child in self._children:
                status = status or self._look_after(child)
            time.sleep(_POLL_SECONDS)
        self._stop()
        return status

    def _on_signal(self, _number: int, _frame: object) -> None:
        self._stopping = True

    def _look_after(self, child: _Child) -> int:
        """Start, or restart with a growing delay; returns the exit status if the child says that none will help."""
        now = time.monotonic()
        if child.process is None:
            if now >= child.restart_at:
                self._start(child)
            return 0
        code = child.process.poll()
        missing = (
            child.spec.must_exist is not None and now - child.started_at > 1 and not child.spec.must_exist.exists()
        )
        if code is None and missing:
            self._log.warning("child lost its socket: restarted", child=child.spec.name)
            child.process.kill()
            child.process.wait()
            code = 0
        if code is None or self._stopping:
            return 0
        child.process = None
        if code == WRONG_SETTINGS:
            return code
        child.delay = _FIRST_RESTART_SECONDS if now - child.started_at > _STEADY_SECONDS else child.delay
        child.restart_at = now + child.delay
        self._log.warning("child ended: restarting", child=child.spec.name, code=code, seconds=child.delay)
        child.delay = min(child.delay * 2, _LONGEST_RESTART_SECONDS)
        return 0

    def _start(self, child: _Child) -> None:
        environment = {**os.environ, **child.spec.environment}
        child.process = subprocess.Popen(  # noqa: S603 - our own commands, no shell
            child.spec.command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,  # standard output is for data, and `serve` has none
            preexec_fn=die_with_parent,  # safe: the supervisor has one thread
        )
        child.started_at = time.monotonic()
        self._log.info("child started", child=child.spec.name, pid=child.process.pid)

    def _stop(self) -> None:
        self._log.info("stopping")
        for last in (False, True):
            _end([child for child in self._children if child.spec.last is last])
        self._log.info("stopped")


def _end(children: list[_Child]) -> None:
    running = [child.process for child in children if child.process is not None]
    for process in running:
        process.terminate()
    deadline = time.monotonic() + _STOP_SECONDS
    for process in running:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent dies; to be called in the child before it executes."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def lock_folder(path: Path, *, alone: bool) -> int:
    """Lock the data folder for as long as the returned descriptor is open.

    Parameters
    ----------
    alone
        True for `serve` with every role; split roles share the folder.

    Raises
    ------
    SettingsError
        Another `serve` uses it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise SettingsError(
            f"another `agent serve` uses the data folder {path.parent}",
            remedy="stop it, or give this one another storage.data_dir",
        ) from error
    return descriptor
