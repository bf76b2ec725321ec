"""pynetdicom's server on the port that all listener processes share."""

from __future__ import annotations

import gc
import select
import socket
import socketserver
import ssl
import sys
import time
from typing import Any, Final, cast

import structlog
from pynetdicom.transport import ThreadedAssociationServer

from agent.receive.bounds import AlertHandler, Doorkeeper
from agent.receive.sharing import Seat

_HANDSHAKE_SECONDS: Final = 10.0
_YIELD_SECONDS: Final = 0.001
_LONGEST_YIELD_SECONDS: Final = 0.1
"""For so long a connection is left to a listener with fewer; it may be stuck, or dying."""
_PAUSE_SECONDS: Final = 0.05
_COLLECT_SECONDS: Final = 6.0


class Server(ThreadedAssociationServer):
    """Accepts from a socket that others accept from, too.

    Parameters
    ----------
    seat
        This listener's place at the port.
    doorkeeper
        Turns away whoever would only hold a thread.
    """

    request_queue_size = 128
    daemon_threads = True

    def __init__(self, *told: Any, seat: Seat, doorkeeper: Doorkeeper, on_alert: AlertHandler, **more: Any) -> None:
        self._seat, self._doorkeeper, self._on_alert = seat, doorkeeper, on_alert
        self._connections: list[socket.socket] = []
        self._collected_at = time.monotonic()
        super().__init__(*told, **more)

    def server_bind(self) -> None:
        """Take the socket that listens already, in place of the one that was made for it."""
        if self.socket is not None:
            self.socket.close()
        self.socket = self._seat.listen()
        self.server_address = self.socket.getsockname()

    def server_activate(self) -> None:
        """Say that somebody accepts here; connections may have been waiting for it."""
        self._publish()

    def get_request(self) -> Any:
        """Accept a connection, and leave its TLS handshake to its own thread: a silent caller must not stop others.

        Raises
        ------
        OSError
            None was there any more, or another listener is to have it; the server goes on.
        """
        if self._is_taken_by_others():
            raise BlockingIOError
        try:
            connection, address = cast(socket.socket, self.socket).accept()
        except BlockingIOError:
            raise
        except OSError:
            time.sleep(_PAUSE_SECONDS)  # out of descriptors, mostly: the next look must not come at once
            raise
        self._connections.append(connection)
        self._publish()
        if self.ssl_context is not None:
            connection = self.ssl_context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
            self._connections[-1] = connection
        return connection, address

    def verify_request(self, _request: Any, client_address: Any) -> bool:
        """Turn away whoever would only hold a thread."""
        host, port = client_address[:2]
        cause = self._doorkeeper.arrive(host, port)
        if cause is not None:
            structlog.get_logger("receive").warning("connection dropped", host=host, cause=cause)
            self._on_alert("", host, "too many connections that do not ask for an association")
        return cause is None

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Shake hands and hand over to pynetdicom."""
        if isinstance(request, ssl.SSLSocket):
            request.settimeout(_HANDSHAKE_SECONDS)
            request.do_handshake()
        super().finish_request(request, client_address)

    def handle_error(self, _request: Any, client_address: Any) -> None:
        """Say why a connection did not become an association."""
        cause = repr(sys.exception())
        self._on_alert("", client_address[0], f"connection dropped: {cause}")
        self._doorkeeper.leave(*client_address[:2])
        structlog.get_logger("receive").warning("connection dropped", host=client_address[0], cause=cause)

    def service_actions(self) -> None:
        """Between two looks: say how busy this listener is; collect dead associations, which are cycles."""
        self._publish()
        if time.monotonic() - self._collected_at > _COLLECT_SECONDS:
            gc.collect()
            self._collected_at = time.monotonic()

    def server_close(self) -> None:
        """Close this process's end: pynetdicom's own would end the port for all listeners."""
        cast(socket.socket, self.socket).close()

    def shutdown(self) -> None:
        """Stop accepting and close the port; pynetdicom's own expects a server that its AE keeps."""
        socketserver.BaseServer.shutdown(self)
        self._seat.leave()
        self.server_close()

    def _publish(self) -> None:
        self._connections = [connection for connection in self._connections if connection.fileno() >= 0]
        self._seat.publish(len(self._connections))

    def _is_taken_by_others(self) -> bool:
        """Leave a connection that waits to a less busy listener for a moment; says whether one took it."""
        until, waiting = time.monotonic() + _LONGEST_YIELD_SECONDS, select.poll()
        waiting.register(cast(socket.socket, self.socket), select.POLLIN)
        self._publish()
        while not self._seat.is_least_busy and time.monotonic() < until:
            time.sleep(_YIELD_SECONDS)
            if not waiting.poll(0):
                return True
            self._publish()
        return False
