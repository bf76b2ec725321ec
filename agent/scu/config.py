"""How we call: our AE title, time-outs and TLS."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path

from agent.scu.tls import client_context, own_client_context


@dataclass(frozen=True, kw_only=True)
class Timeouts:
    """How long to wait, in seconds."""

    connect: float = 5.0
    """For TCP and TLS. With the cap of `deliver.backoff` it keeps delivery within 30 s of an archive's return."""
    negotiate: float = 10.0
    """For the answer to A-ASSOCIATE-RQ and A-RELEASE-RQ."""
    answer: float = 30.0
    """For the response to one DIMSE request."""
    retrieve: float = 180.0
    """For the next response or sub-operation of C-GET and C-MOVE; archives may have to fetch from tape."""


@dataclass(frozen=True, kw_only=True)
class ScuConfig:
    """How this agent calls an archive. TLS is used where a certificate is given.

    Parameters
    ----------
    trusts_itself
        We call ourselves: who answers must show our own certificate, whoever signed it.
    """

    ae_title: str
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_ca: Path | None = None
    timeouts: Timeouts = field(default_factory=Timeouts)
    trusts_itself: bool = False


def tls_context(scu: ScuConfig) -> ssl.SSLContext | None:
    """Make the TLS context for calling, or None for plain TCP; raises SettingsError where a file cannot be used."""
    if scu.tls_cert is None:
        return None
    if scu.trusts_itself:
        return own_client_context(scu.tls_cert, scu.tls_key)
    return client_context(scu.tls_cert, scu.tls_key, scu.tls_ca)
