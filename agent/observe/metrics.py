"""Metrics read from the ledger at scrape time: true for every process and host, and without patient data or UIDs.

Labels are bounded: states, steps, coded reasons, grades, and the configured destinations.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import sqlalchemy as sa
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from agent.domain.errors import LedgerError
from agent.domain.results import DeliveryState
from agent.domain.score import GRADES, Refusal
from agent.domain.work_item import CANCELED_BY_OPERATOR, DELIVERY_FAILED, FAULT, NOT_RETRIEVED, SUPERSEDED, State, Step
from agent.store.layout import Layout
from agent.worklist import arrivals, blinding, history, leases, reading
from agent.worklist import tables as t
from agent.worklist.browsing import outcome_value
from agent.worklist.ledger import Ledger
from agent.worklist.work_items import needs_a_person

_PROOF_BOUNDS: Final = (5.0, 10.0, 20.0, 30.0, 45.0, 60.0, 120.0, 300.0, 900.0, 3600.0)
"""Upper bounds of the histogram, in seconds."""
_OUTCOMES: Final = (
    *(str(refusal) for refusal in Refusal),
    DELIVERY_FAILED,
    FAULT,
    NOT_RETRIEVED,
    SUPERSEDED,
    CANCELED_BY_OPERATOR,
)
_ROLES: Final = ("listener", "score", "deliver", "retrieve")
_DAY: Final = 86400.0
_QUANTITIES: Final = (
    ("instances_stored", "Instances in the ledger", sa.func.count(t.instances.c.id)),
    (
        "instance_bytes_stored",
        "Bytes of instances in the ledger",
        sa.func.coalesce(sa.func.sum(t.instances.c.bytes), 0),
    ),
)


class LedgerCollector(Collector):
    """Collects what the ledger knows.

    Parameters
    ----------
    least_free_bytes
        Free space below which C-STORE is refused.
    ready
        Whether a study could be scored at once, and what is wrong if not.
    """

    def __init__(
        self, ledger: Ledger, layout: Layout, least_free_bytes: float, ready: Callable[[], tuple[bool, dict[str, Any]]]
    ) -> None:
        self._ledger, self._layout = ledger, layout
        self._least_free_bytes, self._ready = least_free_bytes, ready

    def collect(self) -> Iterator[Metric]:
        """Read and yield each metric; a ledger that is away leaves what needs no ledger."""
        now = time.time()
        ready, _ = self._ready()
        yield GaugeMetricFamily("steatosis_ready", "1 where a study could be scored at once, as /readyz says", ready)
        disk = shutil.disk_usage(self._layout.data_dir)
        yield GaugeMetricFamily("steatosis_disk_free_bytes", "Free space of the data folder", disk.free)
        yield GaugeMetricFamily("steatosis_disk_bytes", "Size of the data folder's file system", disk.total)
        least = "Free space below which C-STORE answers A700"
        yield GaugeMetricFamily("steatosis_disk_least_free_bytes", least, self._least_free_bytes)
        up = True
        try:
            yield from list(self._from_ledger(now))
        except LedgerError:
            up = False
        yield GaugeMetricFamily("steatosis_ledger_up", "1 where the ledger answers", up)

    def _from_ledger(self, now: float) -> Iterator[Metric]:
        states = GaugeMetricFamily("steatosis_work_items", "Work items by state or filter", labels=["state"])
        for state, count in reading.counts(self._ledger).items():
            states.add_metric([state.lower().replace(" ", "_")], count)
        yield states
        oldest = reading.oldest_unfinished(self._ledger)
        age = 0.0 if oldest is None else now - oldest
        yield GaugeMetricFamily("steatosis_oldest_work_item_seconds", "Age of the oldest unfinished work item", age)
        open_now = arrivals.count_associations(self._ledger, now)
        yield GaugeMetricFamily("steatosis_associations_open", "Associations open over all listeners", open_now)
        processes = GaugeMetricFamily("steatosis_processes_ready", "Processes that can work", labels=["role"])
        for role in _ROLES:
            processes.add_metric([role], len(leases.active(self._ledger, f"ready:{role}:", now)))
        yield processes
        with self._ledger.read() as connection:
            for part in (_totals, _associations, _queues, _outbox, _steps, _finished, _proofs, _scores, _model):
                yield from part(connection, now)


def _totals(connection: sa.Connection, _now: float) -> Iterator[Metric]:
    for name, text, quantity in _QUANTITIES:
        value = float(connection.execute(sa.select(quantity)).scalar_one())
        yield CounterMetricFamily(f"steatosis_{name}", text, value=value)


def _associations(connection: sa.Connection, _now: float) -> Iterator[Metric]:
    a = t.associations.c
    ended = CounterMetricFamily("steatosis_associations", "Associations ended, by outcome", labels=["outcome"])
    query = sa.select(a.outcome, sa.func.count()).where(a.outcome.is_not(None)).group_by(a.outcome)
    counted = dict.fromkeys(("released", "aborted", "lost"), 0) | {row[0]: row[1] for row in connection.execute(query)}
    forgotten = history.tallied_associations(connection)
    for outcome, count in counted.items():
        ended.add_metric([outcome], count + forgotten.get(outcome, 0))
    yield ended


def _queues(connection: sa.Connection, now: float) -> Iterator[Metric]:
    """Depth and oldest age of what waits for each step; what is held or withheld waits for a person instead."""
    w = t.work_items.c
    depth = GaugeMetricFamily("steatosis_queue_depth", "Unfinished work items by the step they need", labels=["step"])
    oldest = GaugeMetricFamily("steatosis_queue_oldest_seconds", "Age of the oldest of them", labels=["step"])
    waiting = w.finished_at.is_(None) & ~needs_a_person()
    query = sa.select(w.step, sa.func.count(), sa.func.min(w.created_at)).where(waiting)
    found = {step: (count, first) for step, count, first in connection.execute(query.group_by(w.step))}
    for step in Step:
        count, first = found.get(step, (0, now))
        depth.add_metric([step], count)
        oldest.add_metric([step], max(0.0, now - first))
    yield from (depth, oldest)


def _outbox(connection: sa.Connection, now: float) -> Iterator[Metric]:
    o, w = t.outbox.c, t.work_items.c
    states = GaugeMetricFamily("steatosis_outbox", "Deliveries by state", labels=["state"])
    for state, count, studies in connection.execute(
        sa.select(o.state, sa.func.count(), sa.func.count(o.work_item_id.distinct())).group_by(o.state)
    ):
        # what is withheld is counted by study: how many objects one has tells a refusal
        states.add_metric([state], studies if state == DeliveryState.WITHHELD else count)
    waiting = GaugeMetricFamily(
        "steatosis_delivery_oldest_seconds", "Age of the oldest delivery without proof", labels=["destination"]
    )
    by = sa.func.coalesce(o.destination, "kept")
    unproved = o.proof.is_(None) & w.finished_at.is_(None) & (o.state != DeliveryState.WITHHELD)
    query = (
        sa.select(by, sa.func.min(w.created_at).filter(unproved))
        .join(t.work_items, w.id == o.work_item_id)
        .group_by(by)
    )
    for destination, first in connection.execute(query):
        waiting.add_metric([destination], 0.0 if first is None else max(0.0, now - first))
    yield from (states, waiting)


def _steps(connection: sa.Connection, _now: float) -> Iterator[Metric]:
    seconds = HistogramMetricFamily("steatosis_step_seconds", "Time taken by steps of work items", labels=["step"])
    totals = history.tallied_steps(connection)
    for step, *counted in connection.execute(history.steps_taken()):
        before = totals.get(step, [0.0] * len(counted))
        totals[step] = [float(one) + more for one, more in zip(counted, before, strict=True)]
    for step, sums in sorted(totals.items()):
        _add(seconds, [step], sums, history.STEP_BOUNDS)
    yield seconds


def _finished(connection: sa.Connection, _now: float) -> Iterator[Metric]:
    w = t.work_items.c
    outcomes = CounterMetricFamily("steatosis_outcomes", "Work items finished, by outcome", labels=["outcome"])
    counted = dict.fromkeys(("completed", *_OUTCOMES, "other"), 0)
    query = sa.select(w.state, w.reason, sa.func.count()).where(w.finished_at.is_not(None))
    for state, reason, count in connection.execute(query.group_by(w.state, w.reason)):
        kind = (reason or "").split(":")[0]
        word = "completed" if state == State.COMPLETED else kind if kind in _OUTCOMES else "other"
        counted[word] += count
    for outcome, count in counted.items():
        outcomes.add_metric([outcome], count)
    yield outcomes


def _proofs(connection: sa.Connection, _now: float) -> Iterator[Metric]:
    """Time from a study's last image to the proof of its last object: of new studies, as they were received.

    The last image of what was scored: its group's quiet time begins anew with a later one; no counter goes back.
    """
    w, i, o, links = t.work_items.c, t.instances.c, t.outbox.c, t.work_item_instances.c
    images = sa.select(sa.func.max(i.received_at)).join(t.work_item_instances, links.instance_id == i.id)
    last = images.where(links.work_item_id == w.id).scalar_subquery()
    proved = (
        sa.select((sa.func.max(o.proved_at) - last).label("spent"))
        .join(t.work_items, w.id == o.work_item_id)
        .where(w.cause == "new", w.finished_at.is_not(None))
        .group_by(w.id)
        .subquery()
    )
    row = connection.execute(
        sa.select(*history.histogram(proved.c.spent, _PROOF_BOUNDS)).where(proved.c.spent >= 0)
    ).one()
    delay = HistogramMetricFamily("steatosis_proof_delay_seconds", "From last image to last proof", labels=[])
    _add(delay, [], list(row), _PROOF_BOUNDS)
    yield delay


def _scores(connection: sa.Connection, now: float) -> Iterator[Metric]:
    k = t.scores.c
    grades = GaugeMetricFamily("steatosis_scores_last_day", "Scores of the last 24 hours by grade", labels=["grade"])
    grade = outcome_value(k.outcome, "score", "grade")
    recent = sa.select(grade.label("grade")).where(k.content_at > now - _DAY, ~blinding.hidden()).subquery()
    query = sa.select(recent.c.grade, sa.func.count()).group_by(recent.c.grade)
    counted = {row[0]: row[1] for row in connection.execute(query)}
    for name in GRADES:
        grades.add_metric([name], counted.get(name, 0))
    grades.add_metric(["none"], counted.get(None, 0))
    yield grades


def _model(connection: sa.Connection, _now: float) -> Iterator[Metric]:
    """Name the model of the newest score, and what it ran on."""
    k, names = t.scores.c, ("name", "version", "digest", "backend")
    newest = sa.select(*(outcome_value(k.outcome, "model", name) for name in names))
    info = GaugeMetricFamily("steatosis_model_info", "The model of the newest score", labels=names)
    row = connection.execute(newest.order_by(k.content_at.desc()).limit(1)).first()
    if row is not None:
        info.add_metric([row[0], row[1], row[2][:12], row[3]], 1)
    yield info


def _add(family: HistogramMetricFamily, labels: list[str], counted: list[Any], bounds: tuple[float, ...]) -> None:
    *upto, every, total = (float(value) for value in counted)
    buckets = [(str(bound), count) for bound, count in zip(bounds, upto, strict=True)]
    family.add_metric(labels, [*buckets, ("+Inf", every)], total)
