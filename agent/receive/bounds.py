"""How much of our time and space a peer gets: what pynetdicom leaves to whoever connects."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

PDU_SECONDS: Final = 60.0
"""A PDU takes no longer than this from its first byte to its last."""
_GRACE_SECONDS: Final = 20.0
"""Silence in the middle of a message that a hiccup of the network explains."""
_STRANGERS: Final = 8
_SPARE: Final = 64


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """The limits of one association.

    Parameters
    ----------
    associate_seconds
        From the connection to the whole A-ASSOCIATE-RQ, and for the rest after a rejection: the ARTIM timer (PS3.8
        section 9.1.5).
    idle_seconds
        Without a byte between messages; then A-ABORT.
    min_bytes_per_second
        In the middle of a message, on average over the last twenty seconds; 0: any pace.
    """

    associate_seconds: float = 30.0
    idle_seconds: float = 300.0
    min_bytes_per_second: float = 1000.0


AlertHandler = Callable[[str, str, str], None]
"""Is told calling AE title, address and cause of whom we turned away. Never blocks, never raises."""


def unheard(_calling: str, _host: str, _cause: str) -> None:
    """Take an alert to which nobody listens."""


class TooSlowError(TimeoutError):
    """The peer is in the middle of a message and slower than allowed: A-ABORT."""


class Pace:
    """A minimum rate: waiting spends what receiving earns. Time that we spend on what came is not counted."""

    def __init__(self, bytes_per_second: float) -> None:
        self._bytes_per_second = bytes_per_second
        self._left = _GRACE_SECONDS

    def received(self, count: int) -> None:
        """Earn time with bytes, up to the grace."""
        if self._bytes_per_second:
            self._left = min(_GRACE_SECONDS, self._left + count / self._bytes_per_second)

    def waited(self, seconds: float) -> None:
        """Spend time in the middle of a message.

        Raises
        ------
        TooSlowError
            The peer is slower than allowed.
        """
        if not self._bytes_per_second:
            return
        self._left -= seconds
        if self._left < 0:
            raise TooSlowError(f"a message comes more slowly than {self._bytes_per_second:g} bytes/s")


class Doorkeeper:
    """Connections that have not asked for an association yet: they cost a thread each, and no title is known of them.

    Parameters
    ----------
    most
        Associations that may be open at once; as many, and a few more, may be about to ask.
    is_known
        Whether a peer is configured at an address. From any other only a few may wait at once.
    """

    def __init__(self, most: int, is_known: Callable[[str], bool]) -> None:
        self._most, self._is_known = most + _SPARE, is_known
        self._lock = threading.Lock()
        self._waiting: set[tuple[str, int]] = set()

    def arrive(self, host: str, port: int) -> str | None:
        """Let a connection in; returns why not, where not."""
        known = self._is_known(host)
        with self._lock:
            strangers = sum(other == host for other, _ in self._waiting)
            if len(self._waiting) >= self._most:
                return f"{len(self._waiting)} connections have not asked for an association yet"
            if not known and strangers >= _STRANGERS:
                return f"{strangers} connections from {host}, which is none of dicom.peers, have not asked yet"
            self._waiting.add((host, port))
        return None

    def leave(self, host: str, port: int) -> None:
        """Forget a connection that asked or ended; may be called again."""
        with self._lock:
            self._waiting.discard((host, port))
