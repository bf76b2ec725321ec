"""How we call: our AE title, time-outs and TLS."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from agent.domain.errors import SettingsError

_CIPHERS: Final = "ECDHE+AESGCM"
"""PS3.15 B.12 (BCP 195): TLS 1.2 with ECDHE and AES-GCM only; TLS 1.3 brings suites of its own."""


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
    """How this agent calls an archive. TLS is used where a certificate is given."""

    ae_title: str
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_ca: Path | None = None
    timeouts: Timeouts = field(default_factory=Timeouts)


def tls_context(scu: ScuConfig) -> ssl.SSLContext | None:
    """Make the TLS context for calling, or None for plain TCP.

    Tolerance: with an authority of the hospital's own the chain proves the peer, not its host name: certificates of
    modalities and archives seldom carry the address that they are called by.

    Raises
    ------
    SettingsError
        A file cannot be read or used.
    """
    if scu.tls_cert is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    try:
        context.load_cert_chain(scu.tls_cert, scu.tls_key)
        if scu.tls_ca is None:
            context.load_default_certs()
        else:
            context.check_hostname = False
            context.load_verify_locations(scu.tls_ca)
    except OSError as error:  # ssl.SSLError is one too
        raise SettingsError(
            f"the TLS files for calling archives cannot be used: {error}",
            remedy="see dicom.tls_cert, dicom.tls_key and dicom.tls_ca",
        ) from error
    return context
