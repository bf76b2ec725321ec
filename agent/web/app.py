"""The web application."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from agent.store.layout import Layout
from agent.web.api import Api
from agent.web.pages import Pages
from agent.worklist.ledger import Ledger

_OPEN: Final = ("/healthz", "/readyz", "/static/")
"""Answered without a token: they tell nothing of a patient."""
_COOKIE: Final = "steatosis_token"
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

Next = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, kw_only=True)
class WebContext:
    """What the pages are given.

    Parameters
    ----------
    token
        Secret that callers must send as a bearer token or, once, as `?token=`; None on loopback.
    ready
        Whether a study could be scored at once, and what is wrong if not.
    """

    ledger: Ledger
    layout: Layout
    token: str | None
    version: str
    ready: Callable[[], tuple[bool, dict[str, Any]]]


def make_app(context: WebContext) -> Starlette:
    """Put pages, API and guards together."""
    api = Api(context.ledger, context.layout, context.ready)
    pages = Pages(context.ledger, context.layout, context.version)

    async def guard(request: Request, call_next: Next) -> Response:
        response = _refused(request, context.token) or await call_next(request)
        response.headers.update(_HEADERS)
        return response

    return Starlette(
        routes=[
            Route("/", pages.worklist),
            Route("/studies/{uid}", pages.study),
            Route("/studies/{uid}/pictures/{number:int}.png", pages.picture),
            Route("/api/worklist", api.worklist),
            Route("/api/studies/{uid}", api.study),
            Route("/healthz", api.health),
            Route("/readyz", api.ready),
            Route("/metrics", api.metrics),
            Mount("/static", StaticFiles(directory=Path(__file__).parent / "static")),
        ],
        middleware=[Middleware(BaseHTTPMiddleware, dispatch=guard)],
    )


def _refused(request: Request, token: str | None) -> Response | None:
    """Ask for the token; one given in the address is moved to a cookie, so that it does not stay in the address."""
    if token is None or request.url.path.startswith(_OPEN):
        return None
    given = request.query_params.get("token")
    if given is not None and _same(given, token):
        moved = RedirectResponse(request.url.remove_query_params("token"), status_code=303)
        moved.set_cookie(_COOKIE, token, httponly=True, samesite="strict")
        return moved
    bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
    if _same(bearer, token) or _same(request.cookies.get(_COOKIE, ""), token):
        return None
    return JSONResponse({"error": "a token is required: Authorization: Bearer …"}, status_code=401)


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())
