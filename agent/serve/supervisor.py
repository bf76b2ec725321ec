"""The supervisor: starts every process of `serve`, restarts what dies, and ends them all together.

All children stay in its process group and die with it (PR_SET_PDEATHSIG), so nothing outlives a killed `serve`. It has
one thread, and learns of a death from the kernel (SIGCHLD) at once.
"""

from __future__ import annotations

import fcntl
import os
import select
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
from agent.serve.forked import Forked, die_with_parent

_POLL_SECONDS: Final = 0.1
_LOOK_SECONDS: Final = 0.01
_AWAIT_SECONDS: Final = 2.0
_STOP_SECONDS: Final = 7.0
"""Within these a child finishes or gives back its work; then it is killed, and leases bring the work back."""
_FIRST_RESTART_SECONDS: Final = 0.5
_FIRST_FORK_SECONDS: Final = 0.05
"""The same for a forked child, which costs next to nothing to start."""
_LONGEST_RESTART_SECONDS: Final = 10.0
_STEADY_SECONDS: Final = 30.0
"""A child that ran for this long is restarted without a growing delay."""
FORKED_NAME: Final = ("agent.serve.children",)
"""What forked children are called first, as those are that were started anew."""
WRONG_SETTINGS: Final = 2
"""Exit code of a child that no restart can help (wrong use or settings, as for commands)."""


@dataclass(frozen=True, kw_only=True)
class ChildSpec:
    """One process to keep running.

    Parameters
    ----------
    command
        What to run, or what says so when it is to be started; for a forked child what it is called.
    run
        Done in a child that is forked instead; returns its exit code.
    was_at_work
        Asked when it has ended: one that had come to work is started again at once.
    is_at_work
        Asked of the first: whether it has come to work.
    first
        Started before the others, which wait until it is at work: who must answer soonest after a restart.
    last
        Ended after all others: the broker, on which the others lean while they finish.
    must_exist
        The child is restarted when this file disappears.
    """

    name: str
    command: list[str] | Callable[[], list[str]]
    environment: Mapping[str, str] = field(default_factory=dict)
    run: Callable[[], int | None] | None = None
    was_at_work: Callable[[], bool] = lambda: False
    is_at_work: Callable[[], bool] = lambda: True
    first: bool = False
    last: bool = False
    must_exist: Path | None = None


@dataclass
class _Child:
    spec: ChildSpec
    process: subprocess.Popen[bytes] | Forked | None = None
    started_at: float = 0.0
    restart_at: float = 0.0
    delay: float = 0.0

    def __post_init__(self) -> None:
        self.calm()

    def calm(self) -> None:
        """Start again with the shortest delay."""
        self.delay = _FIRST_RESTART_SECONDS if self.spec.run is None else _FIRST_FORK_SECONDS


class Supervisor:
    """Keeps children running until it is told to stop.

    Parameters
    ----------
    meanwhile
        Done once in a process of its own, when the first children are at work and before the others are started; its
        exit code, unless 0, ends `serve`.
    at_end
        Done before the children are asked to end.
    """

    def __init__(
        self, specs: list[ChildSpec], meanwhile: Callable[[], int | None], at_end: Callable[[], None] = lambda: None
    ) -> None:
        self._at_end = at_end
        self._meanwhile = ChildSpec(name="rebuild", command=[*FORKED_NAME, "rebuild"], run=meanwhile)
        self._children = [_Child(spec) for spec in specs]
        self._stopping = False
        self._log = structlog.get_logger("serve")

    def run(self) -> int:
        """Run until SIGTERM or SIGINT; returns the exit status of `serve`."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, self._on_signal)
        woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        try:
            status = self._keep_running(woken)
            self._stop()
        finally:
            signal.set_wakeup_fd(-1)
            os.close(woken)
            os.close(wake)
        return status

    def _keep_running(self, woken: int) -> int:
        poll = select.poll()
        poll.register(woken, select.POLLIN)
        first = [child for child in self._children if child.spec.first]
        meanwhile, status = _Child(self._meanwhile), 0
        for child in first:
            self._start(child)
        self._await_work(first)
        self._start(meanwhile)
        while not self._stopping and status == 0:
            if meanwhile.process is not None:
                status = self._look_after_meanwhile(meanwhile)
            for child in self._children if meanwhile.process is None else first:
                status = status or self._look_after(child)
            if poll.poll(_POLL_SECONDS * 1000):
                os.read(woken, 4096)
        if meanwhile.process is not None:
            _end([meanwhile])
        return status

    def _await_work(self, first: list[_Child]) -> None:
        """Leave the cores to the first children until they are at work, but for no longer than that should take."""
        until = time.monotonic() + _AWAIT_SECONDS
        while not self._stopping and time.monotonic() < until and not all(one.spec.is_at_work() for one in first):
            time.sleep(_LOOK_SECONDS)

    def _look_after_meanwhile(self, child: _Child) -> int:
        """See whether what is done first is done; a signal that ended it was not its fault."""
        code = None if child.process is None else child.process.poll()
        if code is not None and code < 0 and not self._stopping:
            self._start(child)
        elif code is not None:
            child.process = None
        return max(0, code or 0)

    def _on_signal(self, number: int, _frame: object) -> None:
        self._stopping = self._stopping or number != signal.SIGCHLD

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
        if child.spec.was_at_work():
            self._log.warning("child ended: started again", child=child.spec.name, code=code)
            child.calm()
            self._start(child)
            return 0
        if now - child.started_at > _STEADY_SECONDS:
            child.calm()
        child.restart_at = now + child.delay
        self._log.warning("child ended: restarting", child=child.spec.name, code=code, seconds=child.delay)
        child.delay = min(child.delay * 2, _LONGEST_RESTART_SECONDS)
        return 0

    def _start(self, child: _Child) -> None:
        child.process = _forked(child.spec) or _executed(child.spec)
        child.started_at = time.monotonic()
        self._log.info("child started", child=child.spec.name, pid=child.process.pid)

    def _stop(self) -> None:
        self._log.info("stopping")
        self._at_end()
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


def _forked(spec: ChildSpec) -> Forked | None:
    return None if spec.run is None else Forked(_words(spec), spec.run, spec.environment)


def _words(spec: ChildSpec) -> list[str]:
    return spec.command() if callable(spec.command) else spec.command


def _executed(spec: ChildSpec) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - our own commands, no shell
        _words(spec),
        env={**os.environ, **spec.environment},
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,  # standard output is for data, and `serve` has none
        preexec_fn=die_with_parent,  # safe: the supervisor has one thread
    )


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
