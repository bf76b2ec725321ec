"""A reader's grade from the study page: asked for, shown again, and kept when confirmed by our own form."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.templating import Jinja2Templates

from agent.domain.errors import NotFoundError
from agent.domain.identifiers import is_uid
from agent.domain.score import GRADES
from agent.watch import reader_grades
from agent.watch.reader_grades import BY_PAGE, ReaderGrade, reader_hash
from agent.web.actions import Note
from agent.web.session import Session, form_of
from agent.worklist import reading
from agent.worklist.ledger import Ledger

GRADE_WORDS: Final = {
    "S0": "none, below 5 % of hepatocytes",
    "S1": "mild, 5 to 33 %",
    "S2": "moderate, 34 to 66 %",
    "S3": "severe, above 66 %",
}
_LONGEST_NAME: Final = 64


class Grading:
    """Answers `/studies/{uid}/grade`: GET asks, the first POST shows it again, the confirmed one keeps it."""

    def __init__(
        self,
        ledger: Ledger,
        session: Session,
        templates: Jinja2Templates,
        secret: bytes,
        note: Note,
        kept: Callable[[], None],
    ) -> None:
        self._ledger, self._session, self._templates = ledger, session, templates
        self._secret, self._note, self._kept = secret, note, kept

    async def answer(self, request: Request) -> Response:
        """Ask for a grade, or keep what was confirmed."""
        uid = request.path_params["uid"]
        if not is_uid(uid):
            return PlainTextResponse("no such study", 404)
        if not self._session.may_act:
            return PlainTextResponse("set web.token to grade from the page", 403)
        form = await form_of(request) if request.method == "POST" else {}
        if request.method == "POST" and not self._session.is_ours(request, form):
            return PlainTextResponse("this form is not of this session: open the study again", 403)
        return await run_in_threadpool(self._carry_out, request, uid, form)

    def _carry_out(self, request: Request, uid: str, form: Mapping[str, str]) -> Response:
        try:
            reading.show(self._ledger, uid)
        except NotFoundError:
            return self._templates.TemplateResponse(request, "nothing.html", {"what": "study"}, status_code=404)
        given = {
            "grade": form.get("grade", ""),
            "reader": " ".join(form.get("reader", "").split())[:_LONGEST_NAME],
            "before": form.get("before", "") == "yes",
        }
        fault = _fault(given) if request.method == "POST" else None
        if request.method != "POST" or fault is not None or form.get("confirmed") != "yes":
            asked = request.method == "POST" and fault is None
            return self._shown(request, uid, given, fault, asked=asked)
        self._keep(request, uid, given)
        return RedirectResponse(f"/studies/{uid}", status_code=303)

    def _keep(self, request: Request, uid: str, given: dict[str, Any]) -> None:
        now, reader = time.time(), reader_hash(self._secret, given["reader"])
        reader_grades.keep(
            self._ledger,
            ReaderGrade(
                study_instance_uid=uid,
                reader=reader,
                grade=given["grade"],
                source=BY_PAGE,
                graded_at=now,
                before_result=given["before"],
            ),
            now,
        )
        self._kept()
        peer = request.client.host if request.client else ""
        self._note("grade", uid, peer, {"grade": given["grade"], "reader": reader})

    def _shown(self, request: Request, uid: str, given: dict[str, Any], fault: str | None, *, asked: bool) -> Response:
        context = {
            "uid": uid,
            "given": given,
            "fault": fault,
            "asked": asked,
            "words": GRADE_WORDS,
        }
        return self._templates.TemplateResponse(request, "grade.html", context, status_code=422 if fault else 200)


def _fault(given: Mapping[str, Any]) -> str | None:
    if given["grade"] not in GRADES:
        return "Choose a grade."
    if not given["reader"]:
        return "Say who grades: initials will do, always the same."
    return None
