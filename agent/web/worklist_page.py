"""The worklist page: its address says what is filtered, searched and sorted, so that a link shows the same again."""

from __future__ import annotations

import time
from typing import Any, Final
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.templating import Jinja2Templates

from agent.web.patients import Patients
from agent.web.session import Session
from agent.web.words import STATUS_WORDS, moment, span, status_detail, views_used
from agent.worklist import browsing
from agent.worklist.browsing import PAGE_ROWS, SORTS, STATUSES, Query, Row
from agent.worklist.ledger import Ledger

_MOST_PAGES: Final = 100_000
_COLUMNS: Final = (
    ("State", "status"),
    ("Received (UTC)", "received"),
    ("Patient", "patient"),
    ("Accession", "accession"),
    ("Grade", "grade"),
    ("Fat fraction", "fat"),
    ("Certainty", "certainty"),
    ("Quality", None),
    ("Views", None),
    ("Time taken", None),
    ("Proved", None),
    ("Study", None),
)
"""Heading, and what a click on it sorts by."""
_RISING: Final = ("status", "patient", "accession")
"""First sorted from the beginning; the others from the largest."""


class WorklistPage:
    """Draws `/`."""

    def __init__(
        self, ledger: Ledger, patients: Patients, session: Session, templates: Jinja2Templates, quiet_seconds: float
    ) -> None:
        self._ledger, self._patients, self._session, self._templates = ledger, patients, session, templates
        self._quiet_seconds = quiet_seconds

    def answer(self, request: Request) -> Response:
        """Show what the address asks for."""
        asked = _asked(request)
        hashed = self._patients.hash_of_id(asked["q"])
        if hashed is not None:
            return RedirectResponse(_address(asked | {"q": hashed}), status_code=303)
        now = time.time()
        page = browsing.browse(self._ledger, self._query(asked, self._session.is_unblinded(request)))
        labels = self._patients.labels(page.rows)
        context = {
            "rows": [self._shown(row, labels, now) for row in page.rows],
            "total": page.total,
            "first": (asked["page"] - 1) * PAGE_ROWS + 1,
            "filters": _filters(asked, page.counts),
            "columns": _columns(asked),
            "asked": asked,
            "pages": _pages(asked, page.total),
            "anything": any(page.counts.values()) or asked["q"] or asked["state"],
            "shown": self._patients.shown,
            "now": moment(now),
        }
        return self._templates.TemplateResponse(request, "worklist.html", context)

    def _query(self, asked: dict[str, Any], unblinded: bool) -> Query:
        return Query(
            status=asked["state"] or None,
            text=asked["q"],
            patients=self._patients.matching(asked["q"]),
            sort=asked["sort"],
            descending=asked["order"] == "down",
            page=asked["page"],
            unblinded=unblinded,
        )

    def _shown(self, row: Row, labels: dict[str, str], now: float) -> dict[str, Any]:
        outcome = row.outcome or {}
        return {
            "uid": row.study_instance_uid,
            "status": row.status,
            "words": STATUS_WORDS[row.status],
            "detail": status_detail(row, now, self._quiet_seconds),
            "received": moment(row.received_at),
            "patient": labels.get(row.study_instance_uid, ""),
            "accession": self._patients.accession(row.accession_number),
            "score": outcome.get("score"),
            "views": views_used(row.outcome),
            "taken": _taken(row, now),
            "proved": "kept here" if row.kept else f"{row.proved} of {row.deliveries}" if row.deliveries else "",
        }


def _taken(row: Row, now: float) -> str:
    """Say how long it took from the last image to the proof, or has taken until now."""
    if row.status == "waiting" or row.quiet_since is None:
        return ""
    took = span((now if row.finished_at is None else row.finished_at) - row.quiet_since)
    took = took.replace(" ", "\u00a0")  # a number and its unit stay together in a narrow column
    return took if row.finished_at is not None else f"{took} so far"


def _asked(request: Request) -> dict[str, Any]:
    """Read the address; what means nothing counts as not asked."""
    given = request.query_params
    sort = given.get("sort", "received")
    sort = sort if sort in SORTS else "received"
    order = given.get("order", "up" if sort in _RISING else "down")
    number = given.get("page", "1")
    return {
        "state": given.get("state", "") if given.get("state") in STATUSES else "",
        "q": given.get("q", "").strip()[:64],
        "sort": sort,
        "order": "up" if order == "up" else "down",
        "page": int(number) if _is_page(number) else 1,
    }


def _is_page(number: str) -> bool:
    """Whether it is the number of a page; Python refuses to read one of thousands of digits."""
    return number.isascii() and number.isdecimal() and len(number) < 10 and 0 < int(number) <= _MOST_PAGES


def _address(asked: dict[str, Any]) -> str:
    """Write the address of what is asked, without what is so by default."""
    usual = {"state": "", "q": "", "sort": "received", "page": 1}
    usual["order"] = "up" if asked["sort"] in _RISING else "down"
    parts = {key: value for key, value in asked.items() if value != usual[key]}
    return "/?" + urlencode(parts) if parts else "/"


def _filters(asked: dict[str, Any], counts: dict[str, int]) -> list[dict[str, Any]]:
    every = [("", "All", sum(counts.values()))]
    return [
        {
            "words": words,
            "count": count,
            "href": _address(asked | {"state": name, "page": 1}),
            "chosen": asked["state"] == name,
            "status": name,
        }
        for name, words, count in every + [(name, STATUS_WORDS[name], counts[name]) for name in STATUSES]
    ]


def _columns(asked: dict[str, Any]) -> list[dict[str, Any]]:
    columns: list[dict[str, Any]] = []
    for heading, sort in _COLUMNS:
        sorted_by = sort is not None and asked["sort"] == sort
        rising = sort in _RISING
        if sorted_by:
            rising = asked["order"] == "down"
        order = "up" if rising else "down"
        href = None if sort is None else _address(asked | {"sort": sort, "order": order, "page": 1})
        now = {"up": "ascending", "down": "descending"}[asked["order"]] if sorted_by else None
        columns.append({"heading": heading, "href": href, "sorted": now})
    return columns


def _pages(asked: dict[str, Any], total: int) -> dict[str, Any]:
    last, page = max(1, -(-total // PAGE_ROWS)), asked["page"]
    return {
        "number": page,
        "last": last,
        "before": _address(asked | {"page": page - 1}) if page > 1 else None,
        "after": _address(asked | {"page": page + 1}) if page < last else None,
    }
