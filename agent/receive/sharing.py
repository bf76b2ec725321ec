"""One port for all listener processes: one socket that they accept from, the least busy first.

Whoever supervises them opens it and keeps it open, so that a connection waits for the next listener where it would be
refused, and none is lost with a listener that has not accepted it yet. A port for each (SO_REUSEPORT) would be spread
by a hash: of four senders, all come to one of two listeners in one case of eight.
"""

from __future__ import annotations

import errno
import mmap
import os
import socket
import time
from typing import Any, Final

from agent.domain.errors import SettingsError

_BACKLOG: Final = 512
_LOOK_SECONDS: Final = 0.02
_COUNT_BYTES: Final = 4
_NOBODY: Final = -1
_FIRST_PASSED: Final = 3
"""SD_LISTEN_FDS_START (sd_listen_fds(3))."""
_PASSED_REMEDY: Final = "let the one ListenStream= of the socket unit name dicom.host and dicom.port"


class Seat:
    """One listener's place at the port. What it publishes lies in memory that all of them share.

    Parameters
    ----------
    counts
        Open connections of each listener; negative where nobody listens.
    """

    def __init__(self, listening: socket.socket, counts: memoryview, number: int) -> None:
        self._listening, self._counts, self._number = listening, counts, number

    def listen(self) -> socket.socket:
        """Return a socket to accept from, for the caller to close. It never blocks: another may have been first."""
        return self._listening.dup()

    def let_go(self) -> None:
        """Close what this process was forked with; what it accepts from stays open."""
        self._listening.close()

    def publish(self, connections: int) -> None:
        """Say how many connections this listener has; from the first time on, that it listens."""
        self._counts[self._number] = connections

    @property
    def is_taken(self) -> bool:
        """Whether somebody listens here."""
        return self._counts[self._number] != _NOBODY

    def leave(self) -> bool:
        """Say that nobody listens here any more; returns whether somebody did."""
        was_taken = self.is_taken
        self._counts[self._number] = _NOBODY
        return was_taken

    @property
    def is_least_busy(self) -> bool:
        """Whether no other listener has fewer connections."""
        mine = self._counts[self._number]
        return all(mine <= count for count in self._counts if count != _NOBODY)


class SharedPort:
    """A listening socket, and the seats at it.

    Parameters
    ----------
    seats
        Listener processes, which are forked after it is made.
    """

    def __init__(self, listening: socket.socket, seats: int = 1) -> None:
        self._listening = listening
        self._counts = memoryview(mmap.mmap(-1, seats * _COUNT_BYTES)).cast("i")
        for number in range(seats):
            self._counts[number] = _NOBODY

    @classmethod
    def open(cls, host: str, port: int, seats: int = 1, *, patience: float = 0.0) -> SharedPort:
        """Bind and listen; until somebody sits down, connections wait.

        Parameters
        ----------
        patience
            So many seconds a taken port is waited for: listeners of a killed `serve` may still be ending.

        Raises
        ------
        SettingsError
            The port is taken or the address is not ours; names both and the remedy.
        """
        deadline = time.monotonic() + patience
        while True:
            try:
                return cls(_listening(host, port), seats)
            except OSError as error:
                if error.errno != errno.EADDRINUSE or time.monotonic() >= deadline:
                    cause = f"cannot listen on {host}:{port}: {error.strerror or error}"
                    raise SettingsError(cause, remedy=_remedy(error)) from error
            time.sleep(_LOOK_SECONDS)

    @classmethod
    def passed(cls, host: str, port: int, seats: int = 1) -> SharedPort | None:
        """Take the listening socket that systemd has opened and keeps open over a restart; None where it has not.

        Raises
        ------
        SettingsError
            It is not the one that the settings name: who may call was judged by that.
        """
        if os.environ.pop("LISTEN_PID", "") != str(os.getpid()):
            return None
        count = os.environ.pop("LISTEN_FDS", "")
        os.environ.pop("LISTEN_FDNAMES", None)
        if count != "1":
            raise SettingsError(f"systemd has passed {count} sockets instead of one", remedy=_PASSED_REMEDY)
        passed = socket.socket(fileno=_FIRST_PASSED)
        address = passed.getsockname()[:2]
        if not _is_listening(passed) or address not in _addresses(host, port):
            passed.close()
            told = "{}:{}".format(*address)
            raise SettingsError(f"systemd listens on {told} for us, not on {host}:{port}", remedy=_PASSED_REMEDY)
        passed.set_inheritable(False)
        passed.setblocking(False)
        return cls(passed, seats)

    def seat(self, number: int) -> Seat:
        """Give a listener its place, counted from 0."""
        return Seat(self._listening, self._counts, number)

    def close(self) -> None:
        """Let go of the port; it stays open for as long as any listener accepts from it."""
        self._listening.close()


def _remedy(error: OSError) -> str:
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return "set dicom.host to an address of this machine, or to 0.0.0.0 for all of them"
    if error.errno in (errno.EACCES, errno.EPERM):
        return "choose a port above 1023 with dicom.port, or let the unit bind lower ones (CAP_NET_BIND_SERVICE)"
    return "choose a free port with dicom.port, or stop what uses it"


def _is_listening(opened: socket.socket) -> bool:
    return bool(opened.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def _addresses(host: str, port: int) -> set[tuple[Any, ...]]:
    try:
        return {found[4][:2] for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    except OSError:
        return set()


def _listening(host: str, port: int) -> socket.socket:
    opened = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((host, port))
        opened.listen(_BACKLOG)
        opened.setblocking(False)
    except OSError:
        opened.close()
        raise
    return opened
