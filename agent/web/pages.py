"""Pages for people: the worklist and one study."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from PIL import Image
from pydicom import dcmread
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.templating import Jinja2Templates

from agent.domain.errors import NotFoundError
from agent.domain.identifiers import is_uid
from agent.domain.score import REFUSAL_MEANINGS, Refusal
from agent.store.layout import Layout
from agent.store.result_files import object_path
from agent.worklist import reading
from agent.worklist.ledger import Ledger

_SHOWN: Final = 50
_ALL: Final = 10_000
_WORDS: Final = {
    "RECEIVING": "Waiting for images",
    "SCHEDULED": "Queued",
    "IN PROGRESS": "Working",
    "COMPLETED": "Done",
    "CANCELED": "Canceled",
    "held": "Held",
    "failed": "Failed",
}
"""States in people's words; "no score" is not "failed"."""
_STEP_WORDS: Final = {"retrieve": "Fetching", "score": "Analysing", "report": "Reporting", "deliver": "Sending"}
_SCALE_END: Final = 40.0
_PICTURES: Final = ("summary", "heatmap")


class Pages:
    """The worklist page and the study page."""

    def __init__(self, ledger: Ledger, layout: Layout, version: str) -> None:
        self._ledger, self._layout = ledger, layout
        self._templates = Jinja2Templates(directory=Path(__file__).parent / "templates")
        self._templates.env.globals["version"] = version
        self._templates.env.filters["clock"] = _clock

    def worklist(self, request: Request) -> Response:
        """List work items; state and search are in the address, and are applied to all of them."""
        state, wanted = request.query_params.get("state"), request.query_params.get("q", "").strip()
        if state not in reading.FILTERS:
            state = None
        entries = reading.worklist(self._ledger, state, limit=_ALL)
        found = [entry for entry in entries if wanted in entry["study_instance_uid"]]
        context = {
            "entries": [{**entry, "words": _in_words(entry)} for entry in found[:_SHOWN]],
            "total": len(found),
            "filters": _filters(reading.counts(self._ledger), state, wanted),
            "state": state,
            "wanted": wanted,
            "now": datetime.now(UTC).strftime("%H:%M:%S UTC"),
        }
        return self._templates.TemplateResponse(request, "worklist.html", context)

    def study(self, request: Request) -> Response:
        """Show one study."""
        uid = request.path_params["uid"]
        try:
            shown = reading.show(self._ledger, uid) if is_uid(uid) else None
        except NotFoundError:
            shown = None
        if shown is None:
            return self._templates.TemplateResponse(request, "nothing.html", {"what": "study"}, status_code=404)
        drawn = [result for result in _once(shown["results"]) if result["kind"] in _PICTURES]
        context = {
            "study": shown,
            "words": _in_words({**shown, **(shown["work_items"][0] if shown["work_items"] else {})}),
            "scale": None if shown["score"] is None else _scale(shown["score"]),
            "refusal": shown["refusal"] and REFUSAL_MEANINGS[Refusal(shown["refusal"])],
            "pictures": [f"/studies/{uid}/pictures/{number}.png" for number in range(len(drawn))],
        }
        return self._templates.TemplateResponse(request, "study.html", context)

    def picture(self, request: Request) -> Response:
        """Draw one picture of the newest result as PNG, from the object that was sent."""
        uid, number = request.path_params["uid"], request.path_params["number"]
        path = self._picture_path(uid, number) if is_uid(uid) else None
        if path is None or not path.exists():
            return PlainTextResponse("no such picture", 404)
        buffer = io.BytesIO()
        Image.fromarray(dcmread(path).pixel_array).save(buffer, "PNG", compress_level=1)
        return Response(buffer.getvalue(), media_type="image/png")

    def _picture_path(self, uid: str, number: int) -> Path | None:
        try:
            shown = reading.show(self._ledger, uid)
        except NotFoundError:
            return None
        drawn = [result for result in _once(shown["results"]) if result["kind"] in _PICTURES]
        if number >= len(drawn):
            return None
        return object_path(self._layout, shown["work_items"][0]["result_key"], drawn[number]["sop_instance_uid"])


def _once(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each object once, however many destinations it has."""
    return list({result["sop_instance_uid"]: result for result in results}.values())


def _in_words(entry: dict[str, Any]) -> str:
    reason = entry.get("reason") or ""
    if entry["state"] == "IN PROGRESS" and entry.get("step"):
        return _STEP_WORDS[entry["step"]]
    if entry["state"] == "CANCELED":
        failed = reason.split(":")[0] in ("delivery-failed", "fault", "not-retrieved")
        return "Failed" if failed else "No score" if reason in set(Refusal) else "Canceled"
    return "Held" if reason.startswith("held:") else _WORDS[entry["state"]]


def _filters(counts: dict[str, int], chosen: str | None, wanted: str) -> list[dict[str, Any]]:
    searched = {"q": wanted} if wanted else {}
    every = {"words": "All", "count": None, "href": "/?" + urlencode(searched), "chosen": chosen is None}
    return [every] + [
        {
            "words": _WORDS[name],
            "count": counts[name],
            "href": "/?" + urlencode({"state": name, **searched}),
            "chosen": chosen == name,
        }
        for name in reading.FILTERS
    ]


def _scale(score: dict[str, Any]) -> dict[str, Any]:
    """Positions in percent of the fat-fraction scale's width."""

    def place(value: float) -> float:
        return round(100 * min(value, _SCALE_END) / _SCALE_END, 2)

    low, high = score["fat_fraction_interval"]
    edges = [0.0, *score["cut_offs"], _SCALE_END]
    bands = [
        {"name": f"S{index}", "x": place(start), "width": place(end) - place(start)}
        for index, (start, end) in enumerate(pairwise(edges))
    ]
    return {
        "bands": bands,
        "cut_offs": [{"value": f"{value:g}", "x": place(value)} for value in score["cut_offs"]],
        "low": place(low),
        "width": max(0.5, place(high) - place(low)),
        "mark": place(score["fat_fraction_percent"]),
    }


def _clock(text: str | None) -> str:
    """Date and time of an ISO text, to the second."""
    return "" if not text else text[:19].replace("T", " ")
