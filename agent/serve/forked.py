"""A child that is forked from the supervisor instead of started anew.

What it needs is loaded already, once for all such children: one that is started again works within tens of
milliseconds, where an interpreter with our libraries takes most of a second of processor time, and memory is shared.
Only a supervisor with one thread may fork, and none of its connections may be open meanwhile.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NoReturn

import structlog

_PR_SET_PDEATHSIG: Final = 1  # prctl(2)
_PR_SET_NAME: Final = 15
_ARG_START, _ARG_END = 45, 46  # proc_pid_stat(5), fields 48 and 49, counted from field 3
_LOOK_SECONDS: Final = 0.01
_ENDING: Final = (signal.SIGTERM, signal.SIGINT)


class Forked:
    """A forked process, with the methods of a `subprocess.Popen` that a supervisor needs.

    Parameters
    ----------
    words
        What it is called, in place of a command line.
    run
        What it does; returns its exit code, None for 0.
    """

    def __init__(self, words: list[str], run: Callable[[], int | None], environment: Mapping[str, str]) -> None:
        self._words, parent = words, os.getpid()
        self._code: int | None = None
        sys.stdout.flush()
        sys.stderr.flush()
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)  # the child's until it has handlers of its own
        self.pid = os.fork()
        if self.pid == 0:
            _live(parent, words, run, environment)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

    def poll(self) -> int | None:
        """Exit code, negative for a signal; None while it runs."""
        if self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._code = os.waitstatus_to_exitcode(status) if pid else None
        return self._code

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end.

        Raises
        ------
        subprocess.TimeoutExpired
            It runs on.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(self._words, timeout or 0.0)
            time.sleep(_LOOK_SECONDS)
        return code

    def terminate(self) -> None:
        """Ask it to end."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        if self.poll() is None:  # until it is waited for, its number is nobody else's
            os.kill(self.pid, number)


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent dies; to be called in the child."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _live(parent: int, words: list[str], run: Callable[[], int | None], environment: Mapping[str, str]) -> NoReturn:
    """Be the child, to its end: nothing of the supervisor's own is ever done in it."""
    code = 1
    try:
        _become(parent, words, environment)
        code = run() or 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 0
    except BaseException:  # noqa: BLE001 - it would go on as a second supervisor
        structlog.get_logger("serve").exception("ended", child=words[-1])
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()
        os._exit(code)


def _become(parent: int, words: list[str], environment: Mapping[str, str]) -> None:
    """Become a process like one that was started anew: its own signals, its own name, no standard output."""
    die_with_parent()
    if os.getppid() != parent:
        os._exit(1)  # it died before it could be said
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, *_ENDING):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
    os.dup2(2, 1)  # standard output is for data, and `serve` has none
    os.environ.update(environment)
    name_process(words)


def name_process(words: list[str]) -> None:
    """Show words in place of the command line that this process was forked with, as far as there is room for them."""
    libc, title = ctypes.CDLL(None), b"\0".join(word.encode() for word in words)
    libc.prctl(_PR_SET_NAME, words[-1].encode()[:15], 0, 0, 0)
    try:
        fields = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:  # hidden; it works without a name
        return
    start, end = int(fields[_ARG_START]), int(fields[_ARG_END])
    if 0 < len(title) < end - start:
        ctypes.memmove(start, title.ljust(end - start, b"\0"), end - start)
