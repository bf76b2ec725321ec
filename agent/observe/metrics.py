"""Metrics read from the ledger at scrape time: true for every process and host, and without patient data or UIDs."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator

import sqlalchemy as sa
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from agent.store.layout import Layout
from agent.worklist import arrivals, reading
from agent.worklist import tables as t
from agent.worklist.ledger import Ledger

_QUANTITIES = (
    ("instances_stored", "Instances in the ledger", sa.func.count(t.instances.c.id)),
    (
        "instance_bytes_stored",
        "Bytes of instances in the ledger",
        sa.func.coalesce(sa.func.sum(t.instances.c.bytes), 0),
    ),
)


class LedgerCollector(Collector):
    """Collects what the ledger knows."""

    def __init__(self, ledger: Ledger, layout: Layout) -> None:
        self._ledger, self._layout = ledger, layout

    def collect(self) -> Iterator[Metric]:
        """Read and yield each metric."""
        now = time.time()
        states = GaugeMetricFamily("steatosis_work_items", "Work items by state or filter", labels=["state"])
        for state, count in reading.counts(self._ledger).items():
            states.add_metric([state.lower().replace(" ", "_")], count)
        yield states
        oldest = reading.oldest_unfinished(self._ledger)
        age = 0.0 if oldest is None else now - oldest
        yield GaugeMetricFamily("steatosis_oldest_work_item_seconds", "Age of the oldest unfinished work item", age)
        open_now = arrivals.count_associations(self._ledger, now)
        yield GaugeMetricFamily("steatosis_associations_open", "Associations open over all listeners", open_now)
        free = shutil.disk_usage(self._layout.data_dir).free
        yield GaugeMetricFamily("steatosis_disk_free_bytes", "Free space of the data folder", free)
        yield from self._totals()

    def _totals(self) -> Iterator[Metric]:
        outbox = GaugeMetricFamily("steatosis_outbox", "Deliveries by state", labels=["state"])
        steps = CounterMetricFamily("steatosis_steps", "Steps of work items ended", labels=["step"])
        seconds = CounterMetricFamily("steatosis_step_seconds", "Seconds spent in steps", labels=["step"])
        with self._ledger.read() as connection:
            for name, text, quantity in _QUANTITIES:
                value = float(connection.execute(sa.select(quantity)).scalar_one())
                yield CounterMetricFamily(f"steatosis_{name}", text, value=value)
            for state, count in connection.execute(
                sa.select(t.outbox.c.state, sa.func.count()).group_by(t.outbox.c.state)
            ):
                outbox.add_metric([state], count)
            spent = sa.func.sum(t.steps.c.ended_at - t.steps.c.started_at)
            ended = sa.select(t.steps.c.step, sa.func.count(), spent).where(t.steps.c.ended_at.is_not(None))
            for step, count, total in connection.execute(ended.group_by(t.steps.c.step)):
                steps.add_metric([step], count)
                seconds.add_metric([step], total)
        yield from (outbox, steps, seconds)
