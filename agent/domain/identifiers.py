"""Which identifiers may name anything (PS3.5 section 9.1, PS3.8 section 7.1.1.4), and how peers are written."""

from __future__ import annotations

import re
from dataclasses import dataclass

from agent.domain.errors import IdentifierError

_UID = re.compile(r"[0-9]+(\.[0-9]+)*", re.ASCII)
_UID_LENGTH = 64  # PS3.5 section 9.1
_AE_LENGTH = 16  # PS3.5 section 6.2
_PORTS = range(1, 65536)


def checked_uid(value: str, name: str) -> str:
    """Return `value` if it is a UID that we accept.

    Tolerance: leading zeros in a component occur in the field and are accepted.

    Raises
    ------
    IdentifierError
        If it is empty, longer than 64 characters, has an empty component or any other character.
    """
    if len(value) <= _UID_LENGTH and _UID.fullmatch(value):
        return value
    raise IdentifierError(f"{name} {_shape(value)} is not a UID of digits and dots within 64 characters")


def _shape(value: str) -> str:
    """Tell how a value is written and not what it says: some put a patient's name or number where a UID belongs."""
    kinds = ((str.isdecimal, "9"), (str.isalpha, "x"))
    shown = "".join(next((kind for is_kind, kind in kinds if is_kind(sign)), sign) for sign in value[:_UID_LENGTH])
    return f"written like {shown!a}"


def is_uid(value: str) -> bool:
    """Whether `checked_uid` accepts the value."""
    return len(value) <= _UID_LENGTH and _UID.fullmatch(value) is not None


@dataclass(frozen=True, kw_only=True)
class Peer:
    """An application entity that may call us: `AE@host`."""

    ae_title: str
    host: str

    @classmethod
    def parse(cls, text: str) -> Peer:
        """Read `AE@host`; raises ValueError with the remedy otherwise."""
        ae_title, separator, host = text.partition("@")
        if not separator or not host or not _is_ae_title(ae_title):
            raise ValueError(f"{text!r} is not AE@host with an AE title of 1 to 16 printable characters")
        return cls(ae_title=ae_title.strip(), host=host.strip())


@dataclass(frozen=True, kw_only=True)
class Archive:
    """An application entity that we call: `AE@host:port`."""

    ae_title: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Archive:
        """Read `AE@host:port` (an IPv6 address stands in brackets); raises ValueError with the remedy otherwise."""
        ae_title, _, address = text.partition("@")
        host, _, port = address.rpartition(":")
        if not _is_ae_title(ae_title) or not host or not port.isdecimal() or int(port) not in _PORTS:
            raise ValueError(f"{text!r} is not AE@host:port, for example ORTHANC@10.0.0.5:4242")
        return cls(ae_title=ae_title.strip(), host=host.strip("[] "), port=int(port))

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.ae_title}@{host}:{self.port}"


def is_message_address(destination: str) -> bool:
    """Whether a destination is written as URL, so that it speaks FHIR or HL7 v2; archives are `AE@host:port`."""
    return "://" in destination


def _is_ae_title(text: str) -> bool:
    """1 to 16 printable ASCII characters, no backslash, not only spaces (PS3.5 section 6.2, AE)."""
    return (
        len(text.strip()) > 0 and len(text) <= _AE_LENGTH and text.isascii() and text.isprintable() and "\\" not in text
    )
