"""A trace of each finished work item, told to an OpenTelemetry collector: from the association to the proof.

Traces are made of the ledger's own times once a work item has ended, so nothing on the way of an image knows of them.
They carry no UID, no patient data and no result: a study is named by a keyed hash, as on the page. A collector that is
away delays them; what it did not take before the process ends, or within `_WINDOW_SECONDS`, is not told. Ids are
derived, so a trace that is told twice is the same one.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa
from opentelemetry import trace as api
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator

from agent.domain.errors import AgentError
from agent.domain.score import Refusal
from agent.domain.work_item import DEAD_LETTERS, Cause
from agent.worklist import tables as t
from agent.worklist.ledger import Ledger

_BATCH: Final = 64
_WINDOW_SECONDS: Final = 300.0
"""A work item that ended longer ago than this is told no more."""
_TIMEOUT_SECONDS: Final = 5


class TracingError(AgentError):
    """The collector did not take the traces."""


@dataclass(frozen=True)
class Span:
    """One span: its name, beginning and end in seconds, and what it says."""

    name: str
    start: float
    end: float
    says: dict[str, str | int] = field(default_factory=dict)


class Tracer:
    """Tells finished work items to a collector, one process at a time.

    Parameters
    ----------
    endpoint
        URL that takes OTLP over HTTP, usually `…/v1/traces`.
    secret
        The installation's own: keys the hashes.
    version
        Of this program.
    """

    def __init__(self, *, ledger: Ledger, endpoint: str, secret: bytes, version: str) -> None:
        self._ledger, self._endpoint, self._secret = ledger, endpoint, secret
        self._told: dict[int, float] = {}
        self._ids = _DerivedIds()
        self._made = InMemorySpanExporter()
        resource = Resource.create({"service.name": "steatosis-agent", "service.version": version})
        provider = TracerProvider(resource=resource, id_generator=self._ids, shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._made))
        self._tracer = provider.get_tracer("agent")
        self._exporter = OTLPSpanExporter(endpoint=endpoint, timeout=_TIMEOUT_SECONDS)

    def probe(self) -> str:
        """Send an empty request; raises TracingError where it is not taken."""
        self._send(())
        return f"{self._endpoint} takes traces"

    def look(self, now: float) -> int:
        """Tell what has ended since; returns how many traces.

        Raises
        ------
        TracingError
            The collector did not take them; they are told at a later look.
        LedgerError
            The ledger is away.
        """
        after = now - _WINDOW_SECONDS
        self._told = {number: at for number, at in self._told.items() if at > after}
        ended = self._ended(after)
        for item in ended:
            self._make(item)
        spans: tuple[ReadableSpan, ...] = self._made.get_finished_spans()
        self._made.clear()
        if spans:
            self._send(spans)
        self._told |= {item.id: item.finished_at for item in ended}
        return len(ended)

    def _send(self, spans: Sequence[ReadableSpan]) -> None:
        if self._exporter.export(spans) is not SpanExportResult.SUCCESS:
            raise TracingError(
                f"{self._endpoint} took no traces", remedy="is the collector up, and tracing.otlp right?"
            )

    def _ended(self, after: float) -> Sequence[sa.Row[Any]]:
        w = t.work_items.c
        query = sa.select(t.work_items).where(w.finished_at > after, w.id.not_in(list(self._told)))
        with self._ledger.read() as connection:
            return connection.execute(query.order_by(w.finished_at).limit(_BATCH)).all()

    def _make(self, item: sa.Row[Any]) -> None:
        spans = list(self._spans_of(item))
        self._ids.begin(self._secret, item.id)
        begins = min([item.created_at, *(span.start for span in spans)])
        root = self._tracer.start_span("study", start_time=_ns(begins), attributes=self._says(item))
        if (item.reason or "").startswith(DEAD_LETTERS):
            root.set_status(api.StatusCode.ERROR)
        inside = api.set_span_in_context(root)
        for span in spans:
            made = self._tracer.start_span(
                span.name, context=inside, start_time=_ns(span.start), attributes=dict(span.says)
            )
            made.end(_ns(span.end))
        root.end(_ns(max([item.finished_at, *(span.end for span in spans)])))

    def _says(self, item: sa.Row[Any]) -> dict[str, str | int]:
        study = hmac.new(self._secret, f"trace {item.group_id}".encode(), hashlib.sha256).hexdigest()[:16]
        kind = (item.reason or "").split(":")[0]
        # of a refusal only that it is one: which, would tell the result
        reason = "refused" if kind in set(Refusal) else kind
        return {
            "steatosis.study": study,
            "steatosis.work_item": item.id,
            "steatosis.cause": item.cause,
            "steatosis.state": item.state,
            "steatosis.reason": reason,
        }

    def _spans_of(self, item: sa.Row[Any]) -> Iterator[Span]:
        g, s, o = t.groups.c, t.steps.c, t.outbox.c
        with self._ledger.read() as connection:
            group = connection.execute(sa.select(t.groups).where(g.id == item.group_id)).first()
            steps = connection.execute(sa.select(t.steps).where(s.work_item_id == item.id).order_by(s.id)).all()
            sent = connection.execute(
                sa.select(o.destination, sa.func.min(o.sent_at).label("start"), sa.func.max(o.proved_at).label("end"))
                .where(o.work_item_id == item.id, o.destination.is_not(None), o.proved_at.is_not(None))
                .group_by(o.destination)
            ).all()
        if group is not None and item.cause == Cause.NEW and group.quiet_since is not None:
            last = min(group.quiet_since, item.created_at)  # images that came later are the addendum's
            yield Span("receive", group.first_at, max(last, group.first_at))
            yield Span("close", last, item.created_at)
        for step in steps:
            if step.ended_at is not None:
                yield Span(step.step, step.started_at, step.ended_at)
        for row in sent:
            if row.start is not None:
                yield Span("prove", row.start, row.end, {"steatosis.destination": row.destination})


class _DerivedIds(IdGenerator):
    """Ids that follow from the work item: a trace told again, by whichever process, is the same trace."""

    def __init__(self) -> None:
        self._key, self._count = b"", 0

    def begin(self, secret: bytes, work_item_id: int) -> None:
        self._key, self._count = hmac.new(secret, f"trace {work_item_id}".encode(), hashlib.sha256).digest(), 0

    def generate_trace_id(self) -> int:
        return int.from_bytes(self._key[:16]) or 1

    def generate_span_id(self) -> int:
        self._count += 1
        return int.from_bytes(hashlib.sha256(self._key + self._count.to_bytes(4)).digest()[:8]) or 1


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)
