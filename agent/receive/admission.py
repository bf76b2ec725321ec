"""Who may open an association: by called AE title, by calling AE title and address, and by how many are open."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from agent.domain.identifiers import Archive, Peer

PERMANENT, TRANSIENT = 1, 2  # result (PS3.8 Table 9-21)
SERVICE_USER, SERVICE_PROVIDER_PRESENTATION = 1, 3  # source
CALLING_NOT_RECOGNISED, CALLED_NOT_RECOGNISED = 3, 7  # diagnostics of source 1
LOCAL_LIMIT_EXCEEDED: Final = 2  # diagnostic of source 3


@dataclass(frozen=True, kw_only=True)
class Rejection:
    """An A-ASSOCIATE-RJ, and its true cause for our log: the peer is told no more than the standard's code."""

    result: int
    source: int
    diagnostic: int
    cause: str


@dataclass(frozen=True, kw_only=True)
class Admission:
    """The rules of one listener.

    Parameters
    ----------
    peers
        Who may call; empty: anyone (the settings allow that on loopback only).
    archives
        May call too, from the address by which we call them.
    max_associations
        Open at once over all listeners.
    """

    ae_title: str
    peers: Sequence[Peer]
    archives: Sequence[Archive]
    max_associations: int

    def refuse(self, *, called: str, calling: str, host: str, open_now: int) -> Rejection | None:
        """Judge a request; None admits it."""
        if called.strip() != self.ae_title:
            cause = f"called AE title {called.strip()!a} is not ours, which is {self.ae_title!r}"
            return Rejection(result=PERMANENT, source=SERVICE_USER, diagnostic=CALLED_NOT_RECOGNISED, cause=cause)
        if self.peers and not self._known(calling.strip(), host):
            cause = f"{calling.strip()!a}@{host} is not among dicom.peers"
            return Rejection(result=PERMANENT, source=SERVICE_USER, diagnostic=CALLING_NOT_RECOGNISED, cause=cause)
        if open_now >= self.max_associations:
            cause = f"{open_now} associations are open, dicom.max_associations is {self.max_associations}"
            source = SERVICE_PROVIDER_PRESENTATION
            return Rejection(result=TRANSIENT, source=source, diagnostic=LOCAL_LIMIT_EXCEEDED, cause=cause)
        return None

    def _known(self, calling: str, host: str) -> bool:
        admitted: list[Peer | Archive] = [*self.peers, *self.archives]
        return any(peer.ae_title == calling and host in _addresses(peer.host) for peer in admitted)


@lru_cache(maxsize=256)
def _addresses(host: str) -> frozenset[str]:
    """Addresses of a configured host; looked up once, so that a name server cannot slow every association."""
    try:
        found = {str(info[4][0]) for info in socket.getaddrinfo(host, None)}
    except OSError:
        found = set()
    return frozenset({host, *found})
