"""Sending HL7 v2 over MLLP and judging the acknowledgement (HL7 v2.5.1 chapter 2.9, MLLP release 1)."""

from __future__ import annotations

import errno
import re
import socket
import ssl
import time
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from agent.domain.errors import ArchiveError, ArchiveRefusedError
from agent.messaging.oru import OruProfile, control_id, oru
from agent.messaging.result import ResultMessage

_START, _END = b"\x0b", b"\x1c\r"
_BLOCK_END: Final = _END[:1]
"""Ends an answer: no text holds it, and some engines leave out the carriage return behind it."""
_SEGMENT_ENDS: Final = re.compile(r"[\r\n]+")
"""Of an answer: a carriage return (chapter 2.5.4), or what the engine's system ends lines with."""
_CONNECT_SECONDS: Final = 5.0
_ANSWER_SECONDS: Final = 30.0
_MOST_BYTES: Final = 1 << 16
ACCEPTED: Final = frozenset({"AA", "CA"})
"""Acknowledgment Code (table 0008)."""
MAY_PASS: Final = {
    "204": "unknown key identifier",
    "206": "application record locked",
    "207": "application internal error",
}
STAYS: Final = {
    "100": "segment sequence error",
    "101": "required field missing",
    "102": "data type error",
    "103": "table value not found",
    "200": "unsupported message type",
    "201": "unsupported event code",
    "202": "unsupported processing id",
    "203": "unsupported version id",
}
DUPLICATE: Final = "205"
"""Message error condition codes (table 0357). A duplicate key identifier says that the receiver has it."""


@dataclass(frozen=True, kw_only=True)
class Hl7Receiver:
    """One receiver.

    Parameters
    ----------
    address
        `mllp://host:port`, or `mllps://` for TLS.
    tls
        How its certificate is judged; needed for `mllps` only.
    """

    address: str
    profile: OruProfile
    tls: ssl.SSLContext | None = field(default=None, repr=False)

    def tell(self, message: ResultMessage) -> str:
        """Send a result and wait for the acknowledgement; returns its code.

        Raises
        ------
        ArchiveError
            The receiver is away, or says what may pass.
        ArchiveRefusedError
            It refuses, and will refuse again.
        """
        encoded = _START + oru(message, self.profile).encode() + _END
        try:
            with self._connected() as connection:
                connection.sendall(encoded)
                answer = _answer(connection)
        except ssl.SSLError as error:
            cause = f"TLS with {self.address} failed ({error.reason})"
            raise ArchiveError(cause, remedy="check messages.tls_ca") from error
        except OSError as error:
            raise self._away(error) from error
        return self._judged(answer, control_id(message))

    def probe(self) -> str:
        """Connect and say nothing."""
        try:
            with self._connected():
                return "connects"
        except OSError as error:
            raise self._away(error) from error

    def _away(self, error: OSError) -> ArchiveError:
        told = error.strerror or type(error).__name__
        return ArchiveError(f"{self.address}: {told}", remedy="is the HL7 receiver running?")

    def _connected(self) -> socket.socket:
        parts = urlsplit(self.address)
        host = parts.hostname or ""
        connection = socket.create_connection((host, parts.port or 0), _CONNECT_SECONDS)
        if parts.scheme == "mllps":
            context = self.tls or ssl.create_default_context()
            try:
                connection = context.wrap_socket(connection, server_hostname=host)
            except OSError:
                connection.close()
                raise
        return connection

    def _judged(self, answer: bytes, sent: str) -> str:
        lines = _SEGMENT_ENDS.split(answer.decode("utf-8", "replace"))
        segments = {line[:3]: [part.strip() for part in line.split("|")] for line in lines if line}
        msa, err = segments.get("MSA", []), segments.get("ERR", [])
        code, about = ([*msa, "", "", ""])[1:3]
        if not code or about != sent:
            raise ArchiveError(
                f"{self.address} sent no acknowledgement of this message", remedy="is it an HL7 receiver?"
            )
        condition = ([*err, "", "", "", ""])[3].split("^")[0]
        if code in ACCEPTED or condition == DUPLICATE:
            return code
        words = MAY_PASS.get(condition) or STAYS.get(condition) or "no coded reason"
        cause, remedy = f"{self.address} answered {_shown(code)}: {words}", "see the receiver's own log"
        if condition in MAY_PASS or (condition not in STAYS and code in ("AR", "CR")):
            raise ArchiveError(cause, remedy=remedy)
        raise ArchiveRefusedError(cause, remedy=remedy)


def _answer(connection: socket.socket) -> bytes:
    """Read one framed message, within bounds of size and time."""
    deadline, received = time.monotonic() + _ANSWER_SECONDS, b""
    while _BLOCK_END not in received and len(received) < _MOST_BYTES:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError(errno.ETIMEDOUT, "no whole acknowledgement in time")
        connection.settimeout(left)
        part = connection.recv(4096)
        if not part:
            break
        received += part
    return received.partition(_START)[2].partition(_BLOCK_END)[0]


def _shown(code: str) -> str:
    return code[:2] if code[:2].isalpha() and code.isascii() else "an unknown code"
