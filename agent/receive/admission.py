"""Who may open an association: by called AE title, by calling AE title and address, and by how many are open."""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from agent.domain.identifiers import Archive, Peer

PERMANENT, TRANSIENT = 1, 2  # result (PS3.8 Table 9-21)
SERVICE_USER, SERVICE_PROVIDER_PRESENTATION = 1, 3  # source
CALLING_NOT_RECOGNISED, CALLED_NOT_RECOGNISED = 3, 7  # diagnostics of source 1
TEMPORARY_CONGESTION, LOCAL_LIMIT_EXCEEDED = 1, 2  # diagnostics of source 3
_ALERTS: Final = {
    (SERVICE_USER, CALLED_NOT_RECOGNISED): "called AE title not recognised",
    (SERVICE_USER, CALLING_NOT_RECOGNISED): "calling AE title or address not recognised",
    (SERVICE_PROVIDER_PRESENTATION, LOCAL_LIMIT_EXCEEDED): "local limit exceeded",
}
_LOOK_UP_SECONDS: Final = 60.0


@dataclass(frozen=True, kw_only=True)
class Rejection:
    """An A-ASSOCIATE-RJ, and its true cause for our log: the peer is told no more than the standard's code."""

    result: int
    source: int
    diagnostic: int
    cause: str

    @property
    def alert(self) -> str:
        """What an audit message says: the same text for the same fault, so that a flood of them is one message."""
        return _ALERTS.get((self.source, self.diagnostic), "congestion")


@dataclass(frozen=True, kw_only=True)
class Admission:
    """The rules of one listener.

    Parameters
    ----------
    peers
        Who may call; empty: anyone (the settings allow that on loopback only).
    archives
        May call too, from the address by which we call them.
    max_associations, max_associations_per_peer
        Open at once over all listeners; and of them by one calling AE title from one address.
    """

    ae_title: str
    peers: Sequence[Peer]
    archives: Sequence[Archive]
    max_associations: int
    max_associations_per_peer: int | None = None

    def refuse(self, *, called: str, calling: str, host: str, open_now: int, open_of_peer: int = 0) -> Rejection | None:
        """Judge a request; None admits it."""
        if called.strip() != self.ae_title:
            cause = f"called AE title {called.strip()!a} is not ours, which is {self.ae_title!r}"
            return Rejection(result=PERMANENT, source=SERVICE_USER, diagnostic=CALLED_NOT_RECOGNISED, cause=cause)
        if self.peers and not self._known(calling.strip(), host):
            cause = f"{calling.strip()!a}@{host} is not among dicom.peers"
            return Rejection(result=PERMANENT, source=SERVICE_USER, diagnostic=CALLING_NOT_RECOGNISED, cause=cause)
        if open_now >= self.max_associations:
            return crowded(f"{open_now} associations are open, dicom.max_associations is {self.max_associations}")
        most = self.max_associations_per_peer
        if most is not None and open_of_peer >= most:
            return crowded(f"{open_of_peer} associations of this peer, dicom.max_associations_per_peer is {most}")
        return None

    def is_address_known(self, host: str) -> bool:
        """Whether anybody configured could call from an address."""
        if not self.peers:
            return True
        entities: tuple[Peer | Archive, ...] = (*self.peers, *self.archives)
        return any(_among((entity,), entity.ae_title, host) for entity in entities)

    def is_archive(self, calling: str, host: str) -> bool:
        """Whether the caller is one of our archives, calling from where we call it."""
        return _among(self.archives, calling, host)

    def _known(self, calling: str, host: str) -> bool:
        return _among(self.peers, calling, host) or self.is_archive(calling, host)


def crowded(cause: str) -> Rejection:
    """Reject because a limit of ours is reached."""
    source = SERVICE_PROVIDER_PRESENTATION
    return Rejection(result=TRANSIENT, source=source, diagnostic=LOCAL_LIMIT_EXCEEDED, cause=cause)


def congestion(cause: str) -> Rejection:
    """Reject for a fault of ours that may pass."""
    source = SERVICE_PROVIDER_PRESENTATION
    return Rejection(result=TRANSIENT, source=source, diagnostic=TEMPORARY_CONGESTION, cause=cause)


def _among(entities: Sequence[Peer | Archive], calling: str, host: str) -> bool:
    minute, address = int(time.monotonic() // _LOOK_UP_SECONDS), _plain(host)
    titled = [entity for entity in entities if entity.ae_title == calling.strip()]
    return any(address in _addresses(entity.host, minute) for entity in titled)


@lru_cache(maxsize=256)
def _addresses(host: str, _minute: int) -> frozenset[str]:
    """Addresses of a configured host; looked up once a minute, so that names follow and no association waits."""
    try:
        found = {str(info[4][0]) for info in socket.getaddrinfo(host, None)}
    except OSError:
        found = set()
    return frozenset(_plain(address) for address in {host, *found})


def _plain(address: str) -> str:
    """Write an IPv4 address that came through an IPv6 socket as IPv4."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return str(mapped or parsed)
