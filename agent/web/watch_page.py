"""`/watch`: drift by scanner and site, the shadow bundle beside the live one, and readers beside results."""

from __future__ import annotations

import time
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.templating import Jinja2Templates

from agent.domain.errors import AgentError
from agent.domain.score import GRADES
from agent.watch.agreement import Agreement
from agent.watch.drift import BUNDLE, DAY, OWN, Comparison, DriftReport, UnitDrift
from agent.watch.readers import ReadersReport
from agent.watch.watching import ShadowReport, Watching
from agent.web import charts

FIGURE_WORDS: Final = {
    "brightness": "Brightness, grey value",
    "contrast": "Contrast, grey values",
    "depth_ratio": "Deep over shallow half",
    "quality": "Image quality, 0 to 1",
    "liver_logit": "Likeness to liver B-mode, logit",
    "views": "Views used",
    "frames": "Frames looked at",
    "outcome": "Scored or refused",
    "grade": "Grade",
    "fat_fraction": "Fat fraction, %",
    "member_spread": "Spread of the members",
}
_MOST_NAMED: Final = 4
VERDICT_WORDS: Final = {
    "gathering": "reference is gathered",
    "few": "too few studies to say",
    "steady": "steady",
    "moved": "moved a little",
    "drifted": "drifted",
}


class WatchPage:
    """Draws `/watch`."""

    def __init__(self, watching: Watching, templates: Jinja2Templates) -> None:
        self._watching, self._templates = watching, templates

    def answer(self, request: Request) -> Response:
        """Show what is watched; `?kind=` and `?unit=` choose a scanner or site."""
        context: dict[str, Any] = {"figures": FIGURE_WORDS, "verdicts": VERDICT_WORDS, "grades": GRADES}
        try:
            drift = self._watching.drift()
            context |= self._drift(drift, request.query_params.get("kind"), request.query_params.get("unit"))
            context |= _shadow(self._watching.shadow_report()) | _readers(self._watching.readers())
        except AgentError as error:
            return self._templates.TemplateResponse(request, "watch.html", {"fault": str(error)}, status_code=503)
        return self._templates.TemplateResponse(request, "watch.html", context)

    def _drift(self, report: DriftReport, kind: str | None, name: str | None) -> dict[str, Any]:
        chosen = next((unit for unit in report.units if (unit.kind, unit.unit) == (kind, name)), None)
        if chosen is None and report.units:
            chosen = max(report.units, key=lambda unit: unit.worst() == "drifted")
        return {
            "drift": report,
            "units": [_row(unit, report) for unit in report.units],
            "chosen": None if chosen is None else _details(chosen, report),
        }


def _row(unit: UnitDrift, report: DriftReport) -> dict[str, Any]:
    wanted = report.window.reference_studies
    return {
        "kind": unit.kind,
        "name": unit.unit,
        "studies": unit.studies,
        "gathered": f"{unit.gathered} of {wanted}" if unit.gathered < wanted else f"first {wanted}",
        "own": unit.worst(),
        "moved": _moved(unit, OWN),
        "unlike": _moved(unit, BUNDLE),
        "has_bundle": any(one.reference == BUNDLE for one in unit.comparisons),
        "bundle": unit.worst(BUNDLE),
    }


def _moved(unit: UnitDrift, reference: str) -> list[str]:
    """Figures that have drifted, furthest first."""
    found = [one for one in unit.comparisons if one.reference == reference and one.verdict == "drifted"]
    words = [FIGURE_WORDS[one.figure].split(",")[0] for one in sorted(found, key=lambda one: -(one.psi or 0))]
    told = [word[0].lower() + word[1:] for word in words[:_MOST_NAMED]]
    return told if len(words) == len(told) else [*told, f"{len(words) - len(told)} more"]


def _details(unit: UnitDrift, report: DriftReport) -> dict[str, Any]:
    by = {(one.figure, one.reference): one for one in unit.comparisons}
    start = time.time() - report.window.days * DAY
    rows = [
        {"figure": figure, "own": by.get((figure, OWN)), "bundle": by.get((figure, BUNDLE))} for figure in FIGURE_WORDS
    ]
    return {
        "kind": unit.kind,
        "name": unit.unit,
        "studies": unit.studies,
        "rows": rows,
        "lines": [
            {"figure": figure, "chart": charts.line(points, _band(by, figure), start)}
            for figure, points in unit.days.items()
            if points
        ],
        "bars": [
            {"figure": figure, "one": one, "chart": charts.bars(one.bins, one.then, one.now)}
            for figure in FIGURE_WORDS
            if figure not in unit.days and (one := _with_shares(by, figure)) is not None
        ],
    }


def _band(by: dict[tuple[str, str], Comparison], figure: str) -> tuple[float, float] | None:
    own, bundle = by.get((figure, OWN)), by.get((figure, BUNDLE))
    return next((one.band for one in (own, bundle) if one is not None and one.band is not None), None)


def _with_shares(by: dict[tuple[str, str], Comparison], figure: str) -> Comparison | None:
    found = (by.get((figure, OWN)), by.get((figure, BUNDLE)))
    return next((one for one in found if one is not None and one.bins), None)


def _shadow(report: ShadowReport | None) -> dict[str, Any]:
    if report is None:
        return {"shadow": None}
    return {"shadow": report, "shadow_chart": charts.scatter(report.agreement)}


def _readers(report: ReadersReport) -> dict[str, Any]:
    parts: list[tuple[str, Agreement]] = [
        ("All grades", report.every),
        ("Given without the result", report.independent),
    ]
    return {"readers": report, "reader_parts": parts, "months_chart": charts.months(report.months)}
