"""Who may look, and whose clicks count: token, session cookie, form tokens, and names by which we may be called."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, urlencode

import structlog
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response

from agent.worklist import ended_sessions
from agent.worklist.ledger import Ledger

COOKIE: Final = "steatosis_session"
SESSION_SECONDS: Final = 12 * 3600
"""A browser that is never closed is asked again after a long shift."""
_OPEN: Final = ("/healthz", "/readyz", "/static/", "/login")
"""Answered without a token: they tell nothing of a patient."""
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
_MOST_FORM_BYTES: Final = 4096


async def form_of(request: Request) -> dict[str, str]:
    """Read a short form as browsers send it by default; anything else, or more, reads as empty."""
    encoded = b""
    async for part in request.stream():
        encoded += part
        if len(encoded) > _MOST_FORM_BYTES:
            return {}
    return dict(parse_qsl(encoded.decode("ascii", "replace")))


@dataclass(frozen=True, kw_only=True)
class Session:
    """The guard of every page.

    Parameters
    ----------
    token
        What callers must know; None on loopback, where anybody on this machine may look but nobody may act.
    unblinded_token
        What those know, besides, who may see and release withheld results; None: nobody on the page.
    secret
        The installation's own: sessions and form tokens are keyed with it, so the token is never kept in a browser.
    ledger
        Remembers which sessions were ended before they expired.
    """

    token: str | None
    secret: bytes
    ledger: Ledger
    unblinded_token: str | None = None

    def refused(self, request: Request) -> Response | None:
        """Answer who may not look; None where they may."""
        if self.token is None:
            return _wrong_name(request)
        if request.url.path.startswith(_OPEN) or self._known(request):
            return None
        if "token" in request.query_params:
            to = _path_of(request, without="token")
            return self.admit(request.query_params["token"], request, to) or _token_wanted()
        if request.method == "GET" and "text/html" in request.headers.get("accept", ""):
            return RedirectResponse(f"/login?{urlencode({'to': _path_of(request)})}", status_code=303)
        return _token_wanted()

    def admit(self, given: str, request: Request, to: str) -> Response | None:
        """Give a session to who knows the token, and send them where they wanted to go; None to who does not."""
        unblinded = self.unblinded_token is not None and _same(given, self.unblinded_token)
        if self.token is None or not (unblinded or _same(given, self.token)):
            host = request.client.host if request.client else ""
            structlog.get_logger("web").warning("wrong token", peer=host)
            return None
        admitted = RedirectResponse(own_path(to), status_code=303)
        began = f"{secrets.token_hex(16)}-{int(time.time())}"
        secure = request.url.scheme == "https"
        value = f"{began}.{self._session_mac(began, unblinded=unblinded)}"
        admitted.set_cookie(COOKIE, value, httponly=True, samesite="strict", secure=secure)
        return admitted

    def is_signed_in(self, request: Request) -> bool:
        """Whether this browser has a session that it can end; a bearer token is none."""
        return self._has_session(request, unblinded=False) or self._has_session(request, unblinded=True)

    def end(self, request: Request) -> None:
        """End the session that this browser has, for every copy of its cookie; a bearer token has none."""
        if self.is_signed_in(request):
            identifier, began_at = _session_in(request)
            now, expires_at = time.time(), began_at + SESSION_SECONDS
            ended_sessions.end(self.ledger, identifier, expires_at=expires_at, now=now)

    @property
    def may_act(self) -> bool:
        """Whether buttons are offered: only where callers have proved that they know the token."""
        return self.token is not None

    def form_token(self, request: Request) -> str:
        """Make the token of a form: bound to the session, so that another site's form is not taken for ours."""
        return self._mac("form", request.cookies.get(COOKIE, ""))

    def is_ours(self, request: Request, form: Mapping[str, str]) -> bool:
        """Whether a form was sent from our page, by somebody admitted; a bearer token is sent by no browser alone."""
        if not self.may_act:
            return False
        return self._bearer(request) or _same(form.get("form_token", ""), self.form_token(request))

    def is_unblinded(self, request: Request) -> bool:
        """Whether withheld results may be shown to this caller, and released by them."""
        return self.unblinded_token is not None and self._knows(request, unblinded=True)

    def _known(self, request: Request) -> bool:
        return self._knows(request, unblinded=False) or self.is_unblinded(request)

    def _knows(self, request: Request, *, unblinded: bool) -> bool:
        token = self.unblinded_token if unblinded else self.token
        return self._sent(request, token) or self._has_session(request, unblinded=unblinded)

    def _has_session(self, request: Request, *, unblinded: bool) -> bool:
        if (self.unblinded_token if unblinded else self.token) is None:
            return False
        began, _, mac = request.cookies.get(COOKIE, "").partition(".")
        if "-" not in began or not _same(mac, self._session_mac(began, unblinded=unblinded)):
            return False
        _, began_at = _session_in(request)
        return time.time() - began_at < SESSION_SECONDS and not self._has_ended(request)

    def _has_ended(self, request: Request) -> bool:
        """Whether the session of this call was ended; asked once a call, which is guarded and drawn by several."""
        if not hasattr(request.state, "session_ended"):
            identifier, _ = _session_in(request)
            request.state.session_ended = ended_sessions.has_ended(self.ledger, identifier)
        return bool(request.state.session_ended)

    def _bearer(self, request: Request) -> bool:
        return self._sent(request, self.token) or self._sent(request, self.unblinded_token)

    @staticmethod
    def _sent(request: Request, token: str | None) -> bool:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        return token is not None and scheme == "Bearer" and _same(given, token)

    def _session_mac(self, began: str, *, unblinded: bool) -> str:
        purpose, token = ("unblinded", self.unblinded_token) if unblinded else ("session", self.token)
        return self._mac(purpose, began + (token or ""))

    def _mac(self, purpose: str, text: str) -> str:
        return hmac.new(self.secret, f"{purpose}\0{text}".encode(), hashlib.sha256).hexdigest()


def own_path(to: str) -> str:
    """Take a path of this page as it is; anything that a browser could read as another host's becomes `/`."""
    own = to.startswith("/") and not to.startswith("//") and to.isascii() and to.isprintable() and "\\" not in to
    return to if own else "/"


def _session_in(request: Request) -> tuple[str, int]:
    """Read a cookie whose authenticity is proved: the session's id, and when it began."""
    began, _, _ = request.cookies.get(COOKIE, "").partition(".")
    identifier, _, second = began.partition("-")
    return identifier, int(second)


def _path_of(request: Request, *, without: str = "") -> str:
    url = request.url.remove_query_params(without) if without else request.url
    return f"{url.path}?{url.query}" if url.query else url.path


def _wrong_name(request: Request) -> Response | None:
    """Refuse other names than loopback's: a page elsewhere whose name turns to 127.0.0.1 could read ours."""
    if request.url.hostname in _LOOPBACK:
        return None
    return PlainTextResponse("call this page as 127.0.0.1 or localhost, or set web.token", status_code=421)


def _token_wanted() -> Response:
    return JSONResponse({"error": "a token is required: Authorization: Bearer …"}, status_code=401)


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())
