"""Traces of studies, as a collector gets them."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.deliver.deliver_result import deliver_result
from agent.domain.errors import SettingsError
from agent.domain.score import Refusal
from agent.domain.work_item import State
from agent.serve.composition.tracing import tracing_of
from agent.settings import Settings
from tests.support.collector import Collector
from tests.support.message_servers import running
from tests.unit.deliver.outbox_fixture import LOG, OWNER, Desk, make_desk
from tests.unit.deliver.wayward_archive import SCU, WaywardArchive
from tests.unit.report.report_sources import outcome, refused

traces = pytest.importorskip("agent.observe.traces", reason="the extra `tracing` is not installed")

SECRET = b"0" * 32


@pytest.fixture
def collector() -> Iterator[Collector]:
    with running(Collector()) as server:
        yield server


def tracer(desk: Desk, collector: Collector) -> Any:
    return traces.Tracer(ledger=desk.ledger, endpoint=collector.endpoint, secret=SECRET, version="0.0")


def delivered(folder: Path, pacs: WaywardArchive, **more: Any) -> Desk:
    """Take one work item to its end."""
    desk = make_desk(folder, (pacs.name,), **more)
    told = deliver_result(desk.ledger, desk.layout, desk.item, OWNER, SCU, time.time, random.Random(1), LOG)
    assert told.state in (State.COMPLETED, State.CANCELED)
    return desk


def spans_of(body: bytes) -> list[Any]:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    request = ExportTraceServiceRequest.FromString(body)
    return [span for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans]


def says(span: Any) -> dict[str, Any]:
    return {one.key: one.value.string_value or one.value.int_value for one in span.attributes}


def test_a_study_is_one_trace_from_its_images_to_the_proof(tmp_path: Path, collector: Collector) -> None:
    with WaywardArchive() as pacs:
        desk = delivered(tmp_path, pacs, outcome=outcome([("1.2.3.9.1", 1)]))
    assert tracer(desk, collector).look(time.time()) == 1
    spans = spans_of(collector.bodies[0])
    (root,) = [span for span in spans if not span.parent_span_id]
    assert root.name == "study"
    assert {span.trace_id for span in spans} == {root.trace_id}
    assert {span.parent_span_id for span in spans} - {b""} == {root.span_id}
    assert len({span.span_id for span in spans}) == len(spans)
    assert {"score", "report", "deliver", "prove"} <= {span.name for span in spans}
    for span in spans:
        assert root.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano
        assert span.end_time_unix_nano <= root.end_time_unix_nano
    assert says(root)["steatosis.state"] == "COMPLETED"
    (proof,) = [span for span in spans if span.name == "prove"]
    assert says(proof) == {"steatosis.destination": pacs.name}


def test_a_trace_tells_neither_study_nor_result(tmp_path: Path, collector: Collector) -> None:
    with WaywardArchive() as pacs:
        desk = delivered(tmp_path, pacs, outcome=refused(Refusal.NOT_LIVER, [("1.2.3.9.1", 1)]))
    tracer(desk, collector).look(time.time())
    body = collector.bodies[0]
    for word in (desk.item.study_instance_uid, desk.item.group_id, "Test^Delivery", "not-liver", "2.25."):
        assert word.encode() not in body, word
    (root,) = [span for span in spans_of(body) if not span.parent_span_id]
    assert says(root)["steatosis.reason"] == "refused"


def test_what_a_collector_did_not_take_is_told_later_and_once(tmp_path: Path, collector: Collector) -> None:
    with WaywardArchive() as pacs:
        desk = delivered(tmp_path, pacs)
    ours, collector.status = tracer(desk, collector), 400
    with pytest.raises(traces.TracingError):
        ours.look(time.time())
    collector.status = 200
    assert [ours.look(time.time()) for _ in range(2)] == [1, 0]
    assert tracer(desk, collector).look(time.time()) == 1, "another process does not know what was told"
    first, again = (spans_of(body) for body in collector.bodies)
    assert [(one.trace_id, one.span_id) for one in first] == [(one.trace_id, one.span_id) for one in again]


def test_the_doctor_asks_the_collector(tmp_path: Path, collector: Collector) -> None:
    desk = make_desk(tmp_path, ())
    assert collector.endpoint in tracer(desk, collector).probe()
    collector.status = 404
    with pytest.raises(traces.TracingError):
        tracer(desk, collector).probe()


def test_nothing_is_imported_where_no_traces_are_wanted() -> None:
    """By us: redis-py imports the measuring half of OpenTelemetry wherever it is installed."""
    code = "import sys, agent.serve.worker, agent.serve.commands.doctor; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "agent.serve.composition.tracing" in loaded
    assert not {"agent.observe.traces", "opentelemetry.sdk.trace", "opentelemetry.exporter"} & loaded


def test_the_extra_is_named_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = make_desk(tmp_path, ())
    assert tracing_of(Settings(), desk.ledger, OWNER) is None
    monkeypatch.setitem(sys.modules, "agent.observe.traces", None)
    wanted = Settings.model_validate({"tracing": {"otlp": "http://127.0.0.1:4318/v1/traces"}})
    with pytest.raises(SettingsError, match="tracing"):
        tracing_of(wanted, desk.ledger, OWNER)
