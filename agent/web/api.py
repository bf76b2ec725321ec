"""JSON for machines, health for supervisors, metrics for Prometheus."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from agent.domain.errors import NotFoundError
from agent.domain.identifiers import is_uid
from agent.observe.metrics import LedgerCollector
from agent.store.layout import Layout
from agent.watch.gauges import WatchCollector
from agent.watch.watching import Watching
from agent.web.session import Session
from agent.worklist import reading
from agent.worklist.ledger import Ledger

_MOST_ENTRIES = 10_000
_LONGEST_NUMBER = 9


class Api:
    """Answers of `/api`, `/healthz`, `/readyz` and `/metrics`."""

    def __init__(
        self,
        ledger: Ledger,
        layout: Layout,
        ready: Callable[[], tuple[bool, dict[str, Any]]],
        least_free_bytes: float,
        watching: Watching,
        session: Session,
    ) -> None:
        self._ledger, self._ready, self._session = ledger, ready, session
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(LedgerCollector(ledger, layout, least_free_bytes, ready))
        self._registry.register(WatchCollector(watching))

    def worklist(self, request: Request) -> Response:
        """List work items, `?state=` and `?limit=` as on the command line."""
        state, limit = request.query_params.get("state"), request.query_params.get("limit", "1000")
        if state is not None and state not in reading.FILTERS:
            return JSONResponse({"error": f"state is none of {', '.join(reading.FILTERS)}"}, 400)
        if not limit.isdecimal() or len(limit) > _LONGEST_NUMBER or not 0 < int(limit) <= _MOST_ENTRIES:
            return JSONResponse({"error": f"limit is not a number from 1 to {_MOST_ENTRIES}"}, 400)
        return JSONResponse(reading.worklist(self._ledger, state, limit=int(limit)))

    def study(self, request: Request) -> Response:
        """Everything known of a study."""
        uid = request.path_params["uid"]
        if not is_uid(uid):
            return JSONResponse({"error": "not a Study Instance UID"}, 400)
        try:
            return JSONResponse(reading.show(self._ledger, uid, unblinded=self._session.is_unblinded(request)))
        except NotFoundError as error:
            return JSONResponse({"error": error.cause}, 404)

    def health(self, _request: Request) -> Response:
        """Say that this process answers."""
        return JSONResponse({"ok": True})

    def ready(self, _request: Request) -> Response:
        """Whether a study could be scored at once."""
        ok, told = self._ready()
        return JSONResponse(told, 200 if ok else 503)

    def metrics(self, _request: Request) -> Response:
        """Metrics in Prometheus' text format, read from the ledger when asked."""
        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE_LATEST)
