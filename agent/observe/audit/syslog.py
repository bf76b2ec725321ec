"""Sending the audit trail on: RFC 5424 messages over UDP (RFC 5426) or TLS (RFC 5425), as PS3.15 section A.6 wants it.

The trail itself is the queue: what was not sent stays in it, and the number of the last record sent is kept beside it.
Neither transport acknowledges, so a record may be sent twice, and over UDP it may be lost on its way.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from agent.domain.errors import SettingsError
from agent.observe.audit.trail import AuditTrail, Record
from agent.store.durable import write_file

_FACILITY: Final = 10  # security and authorisation (RFC 5424 Table 1)
_SEVERITIES: Final = {"0": 5, "4": 4, "8": 3, "12": 2}
"""Severity (RFC 5424 Table 2) by Event Outcome Indicator."""
_MSGID: Final = "DICOM+RFC3881"
_BOM: Final = b"\xef\xbb\xbf"
_PORTS: Final = {"udp": 514, "tls": 6514}
_TIMEOUT: Final = 5.0
_BATCH: Final = 500
_LONGEST_SECONDS: Final = 5.0
"""Sent in one go: who sends holds a lease, and others would begin with the same records once it has run out."""
_DATE: Final = re.compile(r'EventDateTime="([^"]+)"')
_OUTCOME: Final = re.compile(r'EventOutcomeIndicator="(\d+)"')


@dataclass(frozen=True, kw_only=True)
class Destination:
    """Where the trail is sent."""

    scheme: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Destination:
        """Read `udp://host:port` or `tls://host:port`.

        Raises
        ------
        SettingsError
            It is neither.
        """
        try:
            parts = urlsplit(text)
            port = parts.port or _PORTS.get(parts.scheme, 0)
        except ValueError:
            port = 0
        if not port or not parts.hostname or parts.scheme not in _PORTS or parts.path:
            raise SettingsError(f"audit.syslog = {text!r}: write udp://host:514 or tls://host:6514")
        return cls(scheme=parts.scheme, host=parts.hostname, port=port)


@dataclass(frozen=True, kw_only=True)
class Forwarder:
    """Sends what the trail holds and was not sent.

    Parameters
    ----------
    tls
        For `tls://`.
    """

    trail: AuditTrail
    destination: Destination
    tls: ssl.SSLContext | None
    process_id: int

    def forward(self) -> int:
        """Send what is new, at most a batch and for a few seconds; returns how many records.

        Raises
        ------
        OSError
            The destination cannot be reached; it is tried again from the same record.
        """
        after = self._sent()
        batch = [record for record, _ in zip(self.trail.records(after), range(_BATCH), strict=False)]
        if not batch:
            return 0
        sent, end = 0, time.monotonic() + _LONGEST_SECONDS
        with self._connection() as connection:
            while sent < len(batch) and (not sent or time.monotonic() < end):
                self._send(connection, batch[sent])
                sent += 1
        write_file(self._position, json.dumps({"sent": batch[sent - 1].number}).encode())
        return sent

    @property
    def _position(self) -> Path:
        return self.trail.folder / "forwarded.json"

    def _sent(self) -> int:
        try:
            return int(json.loads(self._position.read_bytes())["sent"])
        except FileNotFoundError:
            return 0

    def _send(self, connection: socket.socket, record: Record) -> None:
        message = syslog_message(record.message, socket.gethostname(), self.process_id)
        connection.sendall(message if self.tls is None else str(len(message)).encode() + b" " + message)

    @contextmanager
    def _connection(self) -> Iterator[socket.socket]:
        host, port = self.destination.host, self.destination.port
        if self.tls is None:
            family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
            with socket.socket(family, socket.SOCK_DGRAM) as datagrams:
                datagrams.connect(address)
                yield datagrams
            return
        with (
            socket.create_connection((host, port), timeout=_TIMEOUT) as plain,
            self.tls.wrap_socket(plain, server_hostname=host) as secured,
        ):
            yield secured
            with contextlib.suppress(ssl.SSLEOFError, ssl.SSLZeroReturnError, TimeoutError):
                secured.unwrap()  # its answer says that the receiver read to the end; many give none


def syslog_message(xml: str, host: str, process_id: int) -> bytes:
    """Write an audit message as RFC 5424 does."""
    outcome, date = _OUTCOME.search(xml), _DATE.search(xml)
    severity = _SEVERITIES.get(outcome.group(1) if outcome else "", 5)
    at = date.group(1) if date else "-"
    head = f"<{_FACILITY * 8 + severity}>1 {at} {host} steatosis-agent {process_id} {_MSGID} - "
    return head.encode() + _BOM + xml.encode()
