"""Coming in with the token, and leaving: on a workstation that many share, the next one is asked again."""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.templating import Jinja2Templates

from agent.web.session import COOKIE, Session, form_of, own_path


class Entrance:
    """Answers `/login` and `/logout`."""

    def __init__(self, session: Session, templates: Jinja2Templates) -> None:
        self._session, self._templates = session, templates

    async def login(self, request: Request) -> Response:
        """Ask for the token; send who knows it to where they wanted to go."""
        wrong, to = False, request.query_params.get("to", "/")
        if request.method == "POST":
            form = await form_of(request)
            to = form.get("to", "/")
            admitted = self._session.admit(form.get("token", ""), request, to)
            if admitted is not None:
                return admitted
            wrong = True
        context = {"wrong": wrong, "to": own_path(to)}
        status = 401 if wrong else 200  # drawn on a thread: who has a session is looked up in the ledger
        draw = self._templates.TemplateResponse
        return await run_in_threadpool(draw, request, "login.html", context, status_code=status)

    async def logout(self, request: Request) -> Response:
        """End this browser's session, and every copy of it; only our own form does, so no other site can."""
        if not self._session.is_ours(request, await form_of(request)):
            return PlainTextResponse("this form is not of this session: open the page again", 403)
        await run_in_threadpool(self._session.end, request)
        left = RedirectResponse("/login", status_code=303)
        left.delete_cookie(COOKIE, httponly=True, samesite="strict", secure=request.url.scheme == "https")
        return left
