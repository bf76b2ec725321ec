"""A network between two programs that a test may cut: everything passes, nothing passes, or every connection breaks."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
from types import TracebackType
from typing import Final, Self

_PIECE: Final = 65_536
_CONNECT_SECONDS: Final = 5.0


class Wire:
    """Forwards a TCP port of this machine to another.

    Parameters
    ----------
    tls
        Server context: callers speak TLS to the wire, which ends here; beyond it goes the plain protocol, as with
        stunnel.
    """

    def __init__(self, port: int, to: int, *, tls: ssl.SSLContext | None = None) -> None:
        self.port, self._to, self._tls = port, to, tls
        self.connections = 0
        self._passing = threading.Event()
        self._passing.set()
        self._is_cut = False
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listening = socket.create_server(("127.0.0.1", port), backlog=64)

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.mend()
        self.cut()
        self._listening.close()

    def swallow(self) -> None:
        """Let nothing through, and tell nobody: as when packets are dropped."""
        self._passing.clear()

    def cut(self) -> None:
        """Break every connection, and every new one at once: as when a host is gone and its network says so."""
        self._is_cut = True
        with self._lock:
            broken, self._open = self._open, set()
        for one in broken:
            _close(one)

    def mend(self) -> None:
        """Let everything through again; what was swallowed goes on where it stopped, as TCP does."""
        self._is_cut = False
        self._passing.set()

    def _accept(self) -> None:
        while True:
            try:
                caller, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(caller,), daemon=True).start()

    def _serve(self, caller: socket.socket) -> None:
        self._passing.wait()
        if self._is_cut:
            _close(caller)
            return
        try:
            if self._tls is not None:
                caller = self._tls.wrap_socket(caller, server_side=True)
            called = socket.create_connection(("127.0.0.1", self._to), timeout=_CONNECT_SECONDS)
        except OSError:
            _close(caller)
            return
        called.settimeout(None)
        with self._lock:
            self._open |= {caller, called}
        with contextlib.suppress(OSError, ValueError):  # ValueError: closed by `cut`
            self._exchange(caller, called)
        for one in (caller, called):
            _close(one)
        with self._lock:
            self._open -= {caller, called}

    def _exchange(self, caller: socket.socket, called: socket.socket) -> None:
        """Forward both ways in one thread, since a TLS connection bears no more; until one side ends."""
        while True:
            waiting = isinstance(caller, ssl.SSLSocket) and caller.pending()
            ready = [caller] if waiting else select.select([caller, called], [], [])[0]
            self._passing.wait()
            for one in ready:
                piece = one.recv(_PIECE)
                if not piece:
                    return
                (called if one is caller else caller).sendall(piece)


def _close(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    with contextlib.suppress(OSError):
        one.close()
