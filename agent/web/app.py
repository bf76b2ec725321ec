"""The web application: which address is answered by what, and the guard before all of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.templating import Jinja2Templates

from agent.store.layout import Layout
from agent.store.secret import installation_secret
from agent.watch.watching import Watching
from agent.web.actions import Act, Actions, Note
from agent.web.api import Api
from agent.web.entrance import Entrance
from agent.web.grading import Grading
from agent.web.patients import Patients, PatientShown
from agent.web.session import Session
from agent.web.study_page import StudyPage
from agent.web.uploads import Inlet, Uploads
from agent.web.view_pictures import ViewPictures
from agent.web.watch_page import WatchPage
from agent.web.words import clock, plan_words, reason_words
from agent.web.worklist_page import WorklistPage
from agent.worklist.ledger import Ledger

_HERE: Final = Path(__file__).parent
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}

Next = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, kw_only=True)
class WebContext:
    """What the pages are given.

    Parameters
    ----------
    token
        Secret that callers must send as a bearer token or enter once; None on loopback.
    patient
        How patients are shown.
    entity
        Where studies are to be sent, as this machine calls it; an empty page says it.
    unblinded_token
        Secret of those who may see and release withheld results.
    on_unblinded
        Is told which withheld study was shown, and to which address.
    quiet_seconds
        For the countdown of studies that still receive.
    least_free_bytes
        Free space below which C-STORE is refused, for the metrics.
    ready
        Whether a study could be scored at once, and what is wrong if not.
    act
        Replays, retries and cancels.
    watching
        What `/watch` and the metrics say of the model.
    note
        Writes what somebody did here into log and audit trail.
    inlet
        Where uploaded studies go; None: none are taken.
    """

    ledger: Ledger
    layout: Layout
    token: str | None
    version: str
    patient: PatientShown
    quiet_seconds: float
    least_free_bytes: float
    ready: Callable[[], tuple[bool, dict[str, Any]]]
    act: Act
    watching: Watching
    note: Note
    inlet: Inlet | None = None
    entity: str = "AE@HOST:PORT"
    unblinded_token: str | None = None
    on_unblinded: Callable[[str, str], None] = lambda _study, _peer: None


def make_app(context: WebContext) -> Starlette:
    """Put pages, API and guards together."""
    secret = installation_secret(context.layout)
    session = Session(
        token=context.token, secret=secret, ledger=context.ledger, unblinded_token=context.unblinded_token
    )
    templates = _templates(context, session)
    entrance = Entrance(session, templates)
    patients = Patients(ledger=context.ledger, layout=context.layout, shown=context.patient, secret=secret)
    worklist = WorklistPage(context.ledger, patients, session, templates, context.quiet_seconds)
    study = StudyPage(
        context.ledger, patients, session, templates, context.quiet_seconds, on_unblinded=context.on_unblinded
    )
    pictures = ViewPictures(context.ledger, context.layout, session)
    actions = Actions(context.act, session, templates, context.note)
    grading = Grading(context.ledger, session, templates, secret, context.note, context.watching.forget)
    uploads = Uploads(context.inlet, session, templates, context.note)
    watch = WatchPage(context.watching, templates)
    api = Api(context.ledger, context.layout, context.ready, context.least_free_bytes, context.watching, session)

    async def guard(request: Request, call_next: Next) -> Response:
        refused = await run_in_threadpool(session.refused, request)  # it may have to ask the ledger
        response = refused or await call_next(request)
        response.headers.update(_HEADERS)
        return response

    return Starlette(
        routes=[
            Route("/", worklist.answer),
            Route("/login", entrance.login, methods=["GET", "POST"]),
            Route("/logout", entrance.logout, methods=["POST"]),
            Route("/studies/{uid}", study.answer),
            Route("/studies/{uid}/summary.png", pictures.summary),
            Route("/studies/{uid}/views/{number:int}/source.png", pictures.source),
            Route("/studies/{uid}/views/{number:int}/overlay.png", pictures.overlay),
            Route("/studies/{uid}/grade", grading.answer, methods=["GET", "POST"]),
            Route("/studies/{uid}/{action}", actions.answer, methods=["GET", "POST"]),
            Route("/watch", watch.answer),
            Route("/upload", uploads.answer, methods=["GET", "POST"]),
            Route("/api/worklist", api.worklist),
            Route("/api/studies/{uid}", api.study),
            Route("/healthz", api.health),
            Route("/readyz", api.ready),
            Route("/metrics", api.metrics),
            Mount("/static", StaticFiles(directory=_HERE / "static")),
        ],
        exception_handlers={404: partial(_nothing, templates)},
        middleware=[Middleware(BaseHTTPMiddleware, dispatch=guard)],
    )


def _nothing(templates: Jinja2Templates, request: Request, _fault: Exception) -> Response:
    """Answer an address that there is not: people get a page with the way back."""
    if request.url.path.startswith("/api/"):
        return JSONResponse({"error": "no such address"}, 404)
    return templates.TemplateResponse(request, "nothing.html", {"what": "page"}, status_code=404)


def _templates(context: WebContext, session: Session) -> Jinja2Templates:
    def of_the_caller(request: Request) -> dict[str, Any]:
        return {"form_token": session.form_token(request), "signed_in": session.is_signed_in(request)}

    templates = Jinja2Templates(directory=_HERE / "templates", context_processors=[of_the_caller])
    templates.env.globals |= {"version": context.version, "entity": context.entity}
    templates.env.globals["uploads"] = context.inlet is not None and session.may_act
    templates.env.filters |= {"clock": clock, "plan": plan_words, "reason": reason_words}
    return templates
