"""DICOM TLS: the BCP 195 profile (PS3.15 section B.12; RFC 9325), the same for being called and for calling."""

from __future__ import annotations

import contextlib
import ssl
from pathlib import Path
from typing import Final

from agent.domain.errors import SettingsError

SUITES: Final = (
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES256-GCM-SHA384",
)
"""Of TLS 1.2 (RFC 9325 section 4.2). TLS 1.3, which is preferred, brings suites of its own."""
_EXPIRED: Final = 10  # X509_V_ERR_CERT_HAS_EXPIRED
_OPTIONS: Final = ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE


def server_context(cert: Path, key: Path | None, ca: Path | None) -> ssl.SSLContext:
    """Make the context for being called. With an authority, a caller without a certificate of its is refused.

    Raises
    ------
    SettingsError
        A file cannot be read or used.
    """
    context = _context(ssl.PROTOCOL_TLS_SERVER, cert, key)
    if ca is not None:
        _trust(context, ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(cert: Path | None, key: Path | None, ca: Path | None) -> ssl.SSLContext:
    """Make the context for calling, with a certificate of ours where one is given.

    Tolerance: with an authority of the hospital's own the chain proves the peer, not its host name: certificates of
    modalities and archives seldom carry the address that they are called by.

    Raises
    ------
    SettingsError
        A file cannot be read or used.
    """
    context = _context(ssl.PROTOCOL_TLS_CLIENT, cert, key)
    if ca is None:
        context.load_default_certs()
    else:
        context.check_hostname = False
        _trust(context, ca)
    return context


def own_client_context(cert: Path, key: Path | None) -> ssl.SSLContext:
    """Make the context for calling ourselves: who answers must show this very certificate, whoever signed it.

    Raises
    ------
    SettingsError
        A file cannot be read or used.
    """
    context = _context(ssl.PROTOCOL_TLS_CLIENT, cert, key)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    _trust(context, cert)
    return context


def refusal_of_ourselves(cert: Path, key: Path | None, ca: Path) -> str | None:
    """Say why a listener with these files would refuse our own certificate; None where it would not.

    Peers may have an authority of their own. Found out by a handshake in memory.

    Raises
    ------
    SettingsError
        A file cannot be read or used.
    """
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_context(cert, key, ca).wrap_bio(to_server, to_client, server_side=True)
    client = own_client_context(cert, key).wrap_bio(to_client, to_server)
    try:
        for end in (client, server) * 3:  # both of TLS 1.3 need two turns, of TLS 1.2 three
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
    except ssl.SSLCertVerificationError as error:
        return None if error.verify_code == _EXPIRED else error.verify_message
    return None


def _context(protocol: ssl._SSLMethod, cert: Path | None, key: Path | None) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(":".join(SUITES))
    context.options |= _OPTIONS
    if cert is None:
        return context
    try:
        context.load_cert_chain(cert, key)
    except OSError as error:  # ssl.SSLError is one too
        raise _unusable(f"TLS certificate {cert}, or its key {key}", error) from error
    return context


def _trust(context: ssl.SSLContext, ca: Path) -> None:
    try:
        context.load_verify_locations(ca)
    except OSError as error:
        raise _unusable(f"TLS authority {ca}", error) from error


def _unusable(what: str, error: OSError) -> SettingsError:
    return SettingsError(
        f"{what} cannot be used: {error.strerror or error}",
        remedy="check dicom.tls_cert, dicom.tls_key and dicom.tls_ca: readable PEM files, the key without a passphrase",
    )
