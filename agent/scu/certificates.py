"""From when until when certificates are valid, read from their files: the standard library tells only whom it trusts.

A certificate is the DER encoding of RFC 5280 section 4.1; of it we walk to the field `validity`.
"""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from agent.domain.errors import SettingsError

_PEM: Final = re.compile("-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_VERSION, _UTC_TIME = 0xA0, 0x17
_FORMATS: Final = {_UTC_TIME: "%y%m%d%H%M%SZ", 0x18: "%Y%m%d%H%M%SZ"}  # UTCTime, GeneralizedTime
_BEFORE_VALIDITY: Final = 3
"""serialNumber, signature, issuer."""


@dataclass(frozen=True, kw_only=True)
class Validity:
    """When a certificate counts."""

    begins: datetime
    ends: datetime


def validities_in(path: Path) -> tuple[Validity, ...]:
    """Read the validity of every certificate in a PEM file, in their order; one at least.

    Raises
    ------
    SettingsError
        The file cannot be read, or holds no certificate.
    """
    try:
        blocks = _PEM.findall(path.read_text("ascii", "replace"))
        found = tuple(_validity(ssl.PEM_cert_to_DER_cert(block)) for block in blocks)
    except OSError as error:
        raise _unusable(path, error.strerror or str(error)) from error
    except (ValueError, IndexError, KeyError) as error:
        raise _unusable(path, "it holds something else than certificates") from error
    if not found:
        raise _unusable(path, "it holds no certificate")
    return found


def _validity(encoded: bytes) -> Validity:
    (_, certificate), *_ = _values(encoded)
    (_, to_be_signed), *_ = _values(certificate)
    fields = _values(to_be_signed)
    fields = fields[1:] if fields[0][0] == _VERSION else fields
    begins, ends = (_time(tag, value) for tag, value in _values(fields[_BEFORE_VALIDITY][1]))
    return Validity(begins=begins, ends=ends)


def _values(encoded: bytes) -> list[tuple[int, bytes]]:
    """Split the content of a DER value into the tag and the content of each part."""
    parts, at = [], 0
    while at < len(encoded):
        tag, length, at = encoded[at], encoded[at + 1], at + 2
        if length & 0x80:  # so many bytes of length follow
            size = length & 0x7F
            length, at = int.from_bytes(encoded[at : at + size], "big"), at + size
        parts.append((tag, encoded[at : at + length]))
        at += length
    return parts


def _time(tag: int, value: bytes) -> datetime:
    text, form = value.decode("ascii"), _FORMATS[tag]
    if tag == _UTC_TIME:  # two digits from 50 on are of the last century (RFC 5280 section 4.1.2.5.1)
        text, form = ("19" if text[:2] >= "50" else "20") + text, "%Y" + form[2:]
    return datetime.strptime(text, form).replace(tzinfo=UTC)


def _unusable(path: Path, why: str) -> SettingsError:
    return SettingsError(f"certificate file {path} cannot be used: {why}", remedy="give a readable PEM file")
