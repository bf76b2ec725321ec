"""Telling a FHIR server: a transaction, then reading back what it says to have."""

from __future__ import annotations

import errno
import http.client
import json
import re
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import quote, urlsplit

from agent.domain.errors import AgentError, ArchiveError, ArchiveRefusedError, AskedToWaitError
from agent.messaging.fhir import FhirProfile, report_identifier, transaction
from agent.messaging.result import ResultMessage

_SECONDS: Final = 30.0
"""Longest silence."""
_WHOLE_SECONDS: Final = 90.0
"""For the body of an answer, however often something of it comes."""
_MOST_BYTES: Final = 4 << 20
_PART: Final = 1 << 16
_JSON: Final = "application/fhir+json"
MAY_PASS: Final = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 507})
"""HTTP statuses of a server that may do it later; any other failure stays until somebody changes something."""
_LOCATION: Final = re.compile(r"(?:^|/)DiagnosticReport/([A-Za-z0-9.-]{1,64})(?:/_history/|$)")
_ID: Final = re.compile(r"[A-Za-z0-9.-]{1,64}")
_ISSUE: Final = re.compile(r"[a-z-]{1,32}")


@dataclass(frozen=True, kw_only=True)
class _Answer:
    status: int
    content: bytes = field(repr=False)
    wait: float | None
    """Seconds that it asks for by Retry-After."""


@dataclass(frozen=True, kw_only=True)
class FhirServer:
    """One server.

    Parameters
    ----------
    base
        Its base URL. Redirects are not followed: the patient's data go to the configured server and to no other.
    token
        Bearer token; None sends none.
    tls
        How its certificate is judged; None: as the system does.
    """

    base: str
    profile: FhirProfile
    token: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = field(default=None, repr=False)

    def tell(self, message: ResultMessage) -> str:
        """Send a result and read the report back; returns where it is.

        Raises
        ------
        ArchiveError
            The server is away, or what it answers may pass; `AskedToWaitError` where it says when.
        ArchiveRefusedError
            It refuses, and will refuse again.
        """
        answer = self._exchange("POST", "", transaction(message, self.profile))
        found = _report_id(answer) or self._searched(message)
        if found is None:
            raise ArchiveError(f"{self.base} took the transaction, but does not say where the report is")
        system, value = report_identifier(message)
        read = self._exchange("GET", f"/DiagnosticReport/{found}", None)
        if {"system": system, "value": value} not in [_known(one) for one in _items(read, "identifier")]:
            raise ArchiveError(f"{self.base} returns another report than was sent")
        return f"DiagnosticReport/{found}"

    def _searched(self, message: ResultMessage) -> str | None:
        """Ask where the report is: of what a conditional create finds there already a server need not say it."""
        wanted = quote("|".join(report_identifier(message)), safe="")
        matches = _items(self._exchange("GET", f"/DiagnosticReport?identifier={wanted}", None), "entry")
        found = [entry.get("resource") for entry in matches if isinstance(entry, dict)]
        ids = [str(one.get("id")) for one in found if isinstance(one, dict) and one.get("id")]
        return next((one for one in ids if _ID.fullmatch(one)), None)

    def probe(self) -> str:
        """Ask for its capability statement; returns its FHIR version."""
        return "answers, FHIR " + str(self._exchange("GET", "/metadata", None).get("fhirVersion", "unknown"))

    def _exchange(self, method: str, path: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        try:
            answer = self._http(method, path, body)
        except ssl.SSLError as error:
            raise ArchiveError(
                f"TLS with {self.base} failed ({error.reason})", remedy="check messages.tls_ca"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            told = getattr(error, "strerror", None) or type(error).__name__
            raise ArchiveError(
                f"{self.base} cannot be reached: {told}", remedy="is the FHIR server running?"
            ) from error
        if answer.status // 100 != 2:
            raise self._refusal(method, answer)
        try:
            decoded = json.loads(answer.content)
        except (ValueError, RecursionError) as error:
            raise ArchiveError(f"{self.base} answered {method} with something else than JSON") from error
        return decoded if isinstance(decoded, dict) else {}

    def _http(self, method: str, path: str, body: Mapping[str, Any] | None) -> _Answer:
        parts = urlsplit(self.base)
        host = parts.hostname or ""
        connection = (
            http.client.HTTPSConnection(host, parts.port, timeout=_SECONDS, context=self.tls)
            if parts.scheme == "https"
            else http.client.HTTPConnection(host, parts.port, timeout=_SECONDS)
        )
        headers = {"Accept": _JSON, "Content-Type": f"{_JSON}; charset=utf-8"}
        if self.token is not None:
            headers["Authorization"] = f"Bearer {self.token}"
        try:
            sent = None if body is None else json.dumps(body).encode()
            connection.request(method, (parts.path + path) or "/", body=sent, headers=headers)
            answer = connection.getresponse()
            return _Answer(status=answer.status, content=_body(answer), wait=_asked_wait(answer))
        finally:
            connection.close()

    def _refusal(self, method: str, answer: _Answer) -> AgentError:
        """Name the status and the coded issues; never the server's own text, which may quote the patient."""
        status, issues = answer.status, ", ".join(_issue_codes(answer.content))
        cause = f"{self.base} answered {method} with {status}" + (f" ({issues})" if issues else "")
        remedy = "check messages.fhir_token and its rights" if status in (401, 403) else "see the FHIR server's own log"
        if status not in MAY_PASS:
            return ArchiveRefusedError(cause, remedy=remedy)
        if answer.wait is not None:
            return AskedToWaitError(cause, seconds=answer.wait, remedy=remedy)
        return ArchiveError(cause, remedy=remedy)


def _asked_wait(answer: http.client.HTTPResponse) -> float | None:
    """Read Retry-After (RFC 9110 section 10.2.3), seconds or a date; a date is held against the server's own clock."""
    said = (answer.getheader("Retry-After") or "").strip()
    if said.isascii() and said.isdecimal():
        return float(said)
    until = _moment(said)
    if until is None:
        return None
    now = _moment(answer.getheader("Date") or "") or datetime.now(UTC)
    return max(0.0, (until - now).total_seconds())


def _moment(date: str) -> datetime | None:
    try:
        read = parsedate_to_datetime(date)
    except (ValueError, TypeError, OverflowError):
        return None
    return read if read.tzinfo is not None else read.replace(tzinfo=UTC)


def _body(answer: http.client.HTTPResponse) -> bytes:
    """Read it within bounds of size and time."""
    received, end = bytearray(), time.monotonic() + _WHOLE_SECONDS
    while len(received) < _MOST_BYTES and (part := answer.read1(_PART)):
        if time.monotonic() > end:
            raise TimeoutError(errno.ETIMEDOUT, "its answer takes too long")
        received += part
    return bytes(received)


def _issue_codes(content: bytes) -> list[str]:
    try:
        outcome = json.loads(content)
    except (ValueError, RecursionError):
        return []
    found = [str(one.get("code", "")) for one in _items(outcome, "issue") if isinstance(one, dict)]
    return [code for code in dict.fromkeys(found) if _ISSUE.fullmatch(code)][:5]


def _report_id(answer: dict[str, Any]) -> str | None:
    """Find where the report is: the first entry of a transaction's response answers the first of the request."""
    for entry in _items(answer, "entry"):
        response = entry.get("response") if isinstance(entry, dict) else None
        location = response.get("location", "") if isinstance(response, dict) else ""
        if found := _LOCATION.search(str(location)):
            return found.group(1)
    return None


def _items(resource: Any, key: str) -> list[Any]:
    found = resource.get(key) if isinstance(resource, dict) else None
    return found if isinstance(found, list) else []


def _known(identifier: Any) -> dict[str, Any]:
    return {key: identifier.get(key) for key in ("system", "value")} if isinstance(identifier, dict) else {}
