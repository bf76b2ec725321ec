"""The study page: the score and how it came about, first what a reader needs, identifiers last."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.templating import Jinja2Templates

from agent.domain.errors import NotFoundError
from agent.domain.identifiers import is_uid
from agent.domain.score import REFUSAL_MEANINGS, Refusal
from agent.watch import reader_grades
from agent.web.actions import ACTIONS, RELEASE
from agent.web.patients import Patients
from agent.web.session import Session
from agent.web.trend import SCALE_END, trend_of
from agent.web.words import ORDER_WORDS, STATUS_HINTS, STATUS_WORDS, status_detail
from agent.worklist import browsing, known_studies, reading
from agent.worklist.ledger import Ledger

_SCALE_WIDTH: Final = 640.0
_OFFERED: Final = {
    "waiting": ("replay", "cancel"),
    "queued": ("cancel",),
    "fetching": ("cancel",),
    "analysing": ("cancel",),
    "sending": ("cancel",),
    "held": ("retry", "cancel"),
    "withheld": ("cancel",),
    "done": ("replay",),
    "no-score": ("replay", "retry"),
    "failed": ("replay", "retry"),
    "canceled": ("replay", "retry"),
}


class StudyPage:
    """Draws `/studies/{uid}`."""

    def __init__(
        self,
        ledger: Ledger,
        patients: Patients,
        session: Session,
        templates: Jinja2Templates,
        quiet_seconds: float,
        *,
        on_unblinded: Callable[[str, str], None],
    ) -> None:
        self._ledger, self._patients, self._session = ledger, patients, session
        self._on_unblinded = on_unblinded
        self._templates, self._quiet_seconds = templates, quiet_seconds

    def answer(self, request: Request) -> Response:
        """Show one study."""
        uid = request.path_params["uid"]
        unblinded = self._session.is_unblinded(request)
        try:
            shown = reading.show(self._ledger, uid, unblinded=unblinded) if is_uid(uid) else None
        except NotFoundError:
            shown = None
        row = None if shown is None else browsing.find(self._ledger, shown["group"], unblinded=unblinded)
        if shown is None or row is None:
            return self._templates.TemplateResponse(request, "nothing.html", {"what": "study"}, status_code=404)
        if shown["withheld"] and unblinded:
            self._on_unblinded(uid, request.client.host if request.client else "")
        context = {
            "study": shown,
            "uid": uid,
            "status": row.status,
            "words": STATUS_WORDS[row.status],
            "detail": status_detail(row, time.time(), self._quiet_seconds),
            "live": row.finished_at is None or row.status == "waiting",
            "patient": self._patients.labels([row]).get(row.study_instance_uid, ""),
            "accession": self._patients.accession(row.accession_number),
            "scale": None if shown["score"] is None else _scale(shown["score"]),
            "refusal": shown["refusal"] and REFUSAL_MEANINGS[Refusal(shown["refusal"])],
            "used": [view for view in shown["views"] if view["used"]],
            "summary": any(result["kind"] == "summary" for result in shown["results"]),
            "trend": trend_of(known_studies.trend(self._ledger, uid, unblinded=unblinded)),
            "hint": STATUS_HINTS.get(row.status, "") if self._session.may_act else "",
            "timeline": _timeline(shown),
            "actions": self._actions(row.status, shown, unblinded),
            "hidden": shown["withheld"] and not unblinded,
            "order": shown["order"] and ORDER_WORDS.get(shown["order"]["result"], shown["order"]["result"]),
            "may_act": self._session.may_act,
            "readers": reader_grades.of_study(self._ledger, uid),
        }
        return self._templates.TemplateResponse(request, "study.html", context)

    def _actions(self, status: str, shown: dict[str, Any], unblinded: bool) -> list[tuple[str, str]]:
        """Name the buttons; the release of a blinded result is offered to the unblinded alone."""
        if not self._session.may_act:
            return []
        waits = shown["withheld"] or any(result["state"] == "withheld" for result in shown["results"])
        names = [*_OFFERED[status], *([RELEASE] if waits and unblinded else [])]
        return [(name, ACTIONS[name][0]) for name in names]


def _place(value: float) -> float:
    return round(_SCALE_WIDTH * min(max(value, 0.0), SCALE_END) / SCALE_END, 1)


def _scale(score: dict[str, Any]) -> dict[str, Any]:
    """Positions on the drawing of the fat-fraction scale."""
    low, high = score["fat_fraction_interval"]
    edges = [0.0, *score["cut_offs"], SCALE_END]
    return {
        "bands": [
            {"name": f"S{index}", "x": _place(start), "width": _place(end) - _place(start)}
            for index, (start, end) in enumerate(pairwise(edges))
        ],
        "cut_offs": [{"value": f"{value:g}", "x": _place(value)} for value in score["cut_offs"]],
        "low": _place(low),
        "width": max(3.0, _place(high) - _place(low)),
        "mark": _place(score["fat_fraction_percent"]),
    }


def _timeline(shown: dict[str, Any]) -> list[dict[str, Any]]:
    """Put everything that has a time in order."""
    times = shown["times"]
    began = [
        (times["first_instance"], "First image", ""),
        (times["last_instance"], "Last image", _interrupted(times["interruptions"])),
        (times["closed"], "Study closed", "no more images expected"),
    ]
    steps = [
        (step["started"], step["step"].capitalize(), _told(step), step["seconds"], step["work_item"])
        for step in times["steps"]
    ]
    proofs = [(at, "Proved", told) for told, at in _proofs(shown["results"])]
    events = [(*event, None, None) for event in began + proofs] + steps
    keys = ("at", "what", "detail", "seconds", "work_item")
    return [dict(zip(keys, event, strict=True)) for event in sorted(e for e in events if e[0])]


def _proofs(results: list[dict[str, Any]]) -> list[tuple[str, str | None]]:
    """Say once an archive and second what was proved there, and when."""
    seconds: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for result in results:
        if result["proved_at"]:
            place = result["destination"] or "this machine"
            seconds.setdefault((place, result["proved_at"][:19]), []).append(result)
    told = []
    for (place, _second), proved in seconds.items():
        kinds = Counter(result["kind"] for result in proved)
        what = ", ".join(kind if count == 1 else f"{count} {kind}s" for kind, count in kinds.items())
        told.append((f"{what} at {place}", max(result["proved_at"] for result in proved)))
    return told


def _interrupted(times: int) -> str:
    if not times:
        return ""
    told = "1 association" if times == 1 else f"{times} associations"
    return f"{told} ended without a release: images may be missing"


def _told(step: dict[str, Any]) -> str:
    return step["outcome"] or ("" if step["ended"] else "running")
