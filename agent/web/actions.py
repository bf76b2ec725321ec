"""Replay, retry and cancel from the study page: asked twice, sent by our own form only, and audited."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.templating import Jinja2Templates

from agent.domain.errors import AgentError
from agent.domain.identifiers import is_uid
from agent.web.session import Session, form_of

Act = Callable[[str, str, bool], list[dict[str, Any]]]
"""(action, Study Instance UID, only say what would be done) to an entry for each work item it touches."""
Note = Callable[[str, str, str, Mapping[str, str]], None]
"""Writes (action, Study Instance UID, caller's address, details) into log and audit trail."""
RELEASE: Final = "release"
ACTIONS: Final = {
    "replay": ("Replay", "Scores the study again. The same images and model make no new object."),
    "retry": ("Retry", "Makes a new work item for one that failed, was canceled or is held."),
    "release": (
        "Release",
        "Sends this blinded result to its archives and shows it to everybody. Nothing takes it back.",
    ),
    "cancel": ("Cancel", "Ends work that is not finished. Nothing more of it will be sent."),
}
_STATUS_OF: Final = {3: 404}
"""HTTP status of an error by its exit code; any other is a conflict with what stands."""


class Actions:
    """Answers `/studies/{uid}/{action}`: GET asks, POST does."""

    def __init__(self, act: Act, session: Session, templates: Jinja2Templates, note: Note) -> None:
        self._act, self._session, self._templates, self._note = act, session, templates, note

    async def answer(self, request: Request) -> Response:
        """Ask for confirmation, or do what was confirmed."""
        uid, action = request.path_params["uid"], request.path_params["action"]
        if not is_uid(uid) or action not in ACTIONS:
            return PlainTextResponse("no such action", 404)
        if not self._session.may_act:
            return PlainTextResponse("set web.token to act from the page, or use the command line", 403)
        if action == RELEASE and not self._session.is_unblinded(request):
            return PlainTextResponse("only who knows web.unblinded_token may release blinded results", 403)
        if request.method == "POST" and not self._session.is_ours(request, await form_of(request)):
            return PlainTextResponse("this form is not of this session: open the study again", 403)
        return await run_in_threadpool(self._carry_out, request, action, uid)

    def _carry_out(self, request: Request, action: str, uid: str) -> Response:
        asking = request.method != "POST"
        try:
            entries = self._act(action, uid, asking)
        except AgentError as error:
            return self._asked(request, action, uid, [], str(error), _STATUS_OF.get(error.exit_code, 409))
        if asking:
            return self._asked(request, action, uid, entries, None, 200)
        peer = request.client.host if request.client else ""
        items = [str(entry["work_item"]) for entry in entries if entry["work_item"] is not None]
        self._note(action, uid, peer, {"work_items": " ".join(items)})
        return RedirectResponse(f"/studies/{uid}", status_code=303)

    def _asked(
        self, request: Request, action: str, uid: str, entries: list[dict[str, Any]], fault: str | None, status: int
    ) -> Response:
        title, meaning = ACTIONS[action]
        context = {
            "uid": uid,
            "action": action,
            "title": title,
            "meaning": meaning,
            "entries": entries,
            "fault": fault,
        }
        return self._templates.TemplateResponse(request, "confirm.html", context, status_code=status)
