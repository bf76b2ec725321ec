"""Metrics that are counters never go back: Prometheus would take that for a restart, and count all of history again."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from prometheus_client import CollectorRegistry

from agent.observe.metrics import LedgerCollector
from agent.store.layout import Layout
from agent.worklist import tables as t
from tests.unit.worklist.conftest import Scene, scene  # noqa: F401 - a fixture

BUCKET, COUNT = "steatosis_proof_delay_seconds_bucket", "steatosis_proof_delay_seconds_count"


def prove(scene: Scene, work_item: int, at: float) -> None:  # noqa: F811
    """End a work item whose one object is proved."""
    with scene.ledger.write() as connection:
        made = {"sop_instance_uid": f"2.25.{work_item}", "result_key": "k", "kind": "summary", "position": 0}
        made |= {"series_instance_uid": "2.25.9", "study_instance_uid": "1.2", "sha256": "0", "bytes": 1}
        connection.execute(sa.insert(t.result_objects).values(made | {"sop_class_uid": "1"}))
        sent = {"work_item_id": work_item, "sop_instance_uid": f"2.25.{work_item}", "destination": "PACS@h:104"}
        sent |= {"state": "proved", "attempts": 1, "not_before": 0, "look_first": False, "proof": "c-find"}
        connection.execute(sa.insert(t.outbox).values(sent | {"proved_at": at}))
        this = t.work_items.c.id == work_item
        connection.execute(sa.update(t.work_items).where(this).values(state="COMPLETED", finished_at=at))


def test_a_late_image_takes_no_proof_delay_back(scene: Scene, tmp_path: Path) -> None:  # noqa: F811
    registry = CollectorRegistry()
    registry.register(LedgerCollector(scene.ledger, Layout(tmp_path), 0, lambda: (True, {})))
    scene.arrive(instance="1")
    scene.now += 31
    (closed,) = scene.close()
    assert closed.work_item_id is not None
    prove(scene, closed.work_item_id, scene.now + 4)
    told = {bound: registry.get_sample_value(BUCKET, {"le": bound}) for bound in ("30.0", "45.0", "+Inf")}
    assert told == {"30.0": 0, "45.0": 1, "+Inf": 1}
    scene.now += 3600
    scene.arrive(instance="2")
    assert {bound: registry.get_sample_value(BUCKET, {"le": bound}) for bound in told} == told
    assert registry.get_sample_value(COUNT) == 1
