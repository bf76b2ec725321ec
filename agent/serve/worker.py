"""A worker process: one Celery queue, and threads that renew leases, reconcile and say that it is ready."""

from __future__ import annotations

import gc
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import structlog
from celery import Celery
from celery.exceptions import SecurityWarning
from celery.signals import setup_logging, worker_shutting_down
from kombu.exceptions import OperationalError

from agent.domain.errors import AgentError
from agent.domain.work_item import Step
from agent.serve.broker_watch import WATCH_SECONDS, BrokerWatch, StepsAtHand, end_worker, running_broker
from agent.serve.composition.auditing import AUDIT_SECONDS, Auditor
from agent.serve.composition.bundles import bundle_digest_of, predictors_of
from agent.serve.composition.context import (
    blinded_of,
    broker_of,
    destinations_of,
    extras_of,
    layout_of,
    ledger_of,
    owner_of,
    patience_of,
)
from agent.serve.composition.observing import READER_REPORTS_SECONDS, look_for_grades, observer_of
from agent.serve.composition.standards import perform
from agent.serve.composition.tracing import TRACING_SECONDS, tracing_of
from agent.serve.housekeeping import RETENTION_SECONDS, make_room
from agent.serve.readiness import say_ready
from agent.settings import Settings
from agent.tasks.runner import Runner, StepFunction
from agent.worklist.celery_app import COMING, WAKE, announce, make_celery, wake
from agent.worklist.closing import any_closes_soon
from agent.worklist.ledger import Ledger
from agent.worklist.reconciler import TICK_SECONDS, reconcile
from agent.worklist.work_items import RENEW_SECONDS, renew

Duty = tuple[float, Callable[[], object]]
"""Seconds between two times, and what is done."""
QUEUES: Final = ("score", "deliver", "retrieve")
_AFTER_FAULT_SECONDS: Final = 1.0
_SWITCH_SECONDS: Final = 0.0005
"""For so long a thread waits that wants the interpreter; Python's own is 5 ms. Drawing comes back for it at every line
and would wait each time for a report that is composed meanwhile."""
_ONE_AT_A_TIME: Final = ("--pool=solo", "--concurrency=1")
_POOL_OF: Final = {"score": ("--pool=threads", "--concurrency=2")}
"""Two studies at once where one is scored: the engine takes one at a time, and meanwhile the frames of the next are
decoded, or the report of the last is drawn."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """What one kind of worker does.

    Parameters
    ----------
    duties
        What it does besides, again and again.
    prepare
        What it does when a result is about to be there.
    """

    steps: Mapping[Step, StepFunction]
    duties: Callable[[Runner], Iterable[Duty]] = lambda _runner: ()
    prepare: Callable[[], None] = lambda: None


def run_worker(settings: Settings, queue: str) -> None:
    """Serve one queue until SIGTERM; the step at hand is finished first."""
    log = structlog.get_logger("worker").bind(queue=queue)
    warnings.simplefilter("ignore", SecurityWarning)  # `serve` says once that it runs as root
    ledger, owner = ledger_of(settings), owner_of(settings, queue)
    app, at_hand = make_celery(broker_of(settings)), StepsAtHand()
    waker = Waker(app, at_hand, log)
    patience = patience_of(settings)
    work = _WORK_OF[queue](settings, ledger, owner, waker)
    runner = Runner(
        ledger=ledger,
        owner=owner,
        queue=queue,
        steps=work.steps,
        wake=waker,
        now=time.time,
        closes_soon=lambda now, seconds: any_closes_soon(ledger, patience=patience, now=now, seconds=seconds),
        is_ending=lambda: at_hand.are_last,
    )

    @app.task(name=WAKE)  # type: ignore[untyped-decorator]
    def wake_up(work_item_id: int) -> None:
        with at_hand.one_more():
            runner.run(work_item_id)

    @app.task(name=COMING)  # type: ignore[untyped-decorator]
    def coming() -> None:
        if not at_hand.are_last:
            work.prepare()

    stop = threading.Event()
    setup_logging.connect(_logging_is_set_up, weak=False)
    worker_shutting_down.connect(lambda **_: stop.set(), weak=False)
    for seconds, action in (*_duties(settings, runner, at_hand, log), *work.duties(runner)):
        _every(seconds, action, stop, log)
    sys.setswitchinterval(_SWITCH_SECONDS)
    gc.collect()
    gc.freeze()  # what stands now stays: a collection of it all would hold every thread up
    log.info("worker ready", owner=owner)
    options = (*_POOL_OF.get(queue, _ONE_AT_A_TIME), "--without-gossip", "--without-mingle", "--without-heartbeat")
    app.worker_main(
        ["--quiet", "worker", f"--queues={queue}", "--loglevel=WARNING", f"--hostname={queue}@%h", *options]
    )
    stop.set()


def _duties(settings: Settings, runner: Runner, at_hand: StepsAtHand, log: Any) -> Iterator[Duty]:
    """Say what every worker does besides its steps."""
    ledger, owner = runner.ledger, runner.owner
    patience, digest = patience_of(settings), bundle_digest_of(settings.model.bundle)

    def look() -> None:
        tick = reconcile(
            ledger, owner=owner, patience=patience, bundle_digest=digest, wake=runner.wake, now=time.time()
        )
        if tick.mended:
            log.warning("the clock was set back: what waited for later is due again", times=tick.mended)
        for closed in tick.closed:
            log.info("study closed", study=closed.study_instance_uid, work_item=closed.work_item_id)

    watch = BrokerWatch(lambda: running_broker(broker_of(settings)), lambda: end_worker(at_hand))
    yield TICK_SECONDS, look
    yield RENEW_SECONDS, lambda: renew(ledger, owner, time.time(), frozenset(runner.at_hand))
    yield RENEW_SECONDS, lambda: say_ready(ledger, runner.queue, owner)
    yield WATCH_SECONDS, watch.look
    yield AUDIT_SECONDS, Auditor(settings=settings, ledger=ledger, owner=owner).tick


def _logging_is_set_up(**_: Any) -> None:
    """Keep Celery from setting its own level for every line of this process."""


@dataclass(frozen=True)
class Waker:
    """Wakes the queue of a step; nothing is lost where the broker is away."""

    app: Celery
    at_hand: StepsAtHand
    log: Any

    def __call__(self, work_item_id: int, step: Step) -> None:
        """Ask that queue to look at a work item."""
        self._send(lambda: wake(self.app, work_item_id, step), work_item=work_item_id)

    def announce(self) -> None:
        """Tell delivery that a result is about to be there."""
        self._send(lambda: announce(self.app))

    def _send(self, send: Callable[[], None], **what: int) -> None:
        if self.at_hand.are_last:
            return
        try:
            send()
        except (OperationalError, OSError) as error:
            self.log.warning("wake-up not sent: the reconciler sends it again", **what, cause=str(error))


def _every(seconds: float, action: Callable[[], object], stop: threading.Event, log: Any) -> None:
    """Do something again and again in a thread; a ledger that is away is waited for.

    Nothing ends it: a worker that no longer renewed its leases, or closed no study, would look alive.
    """

    def loop() -> None:
        while not stop.wait(seconds):
            try:
                action()
            except AgentError as error:
                log.warning("periodic step failed", cause=error.cause)
                stop.wait(_AFTER_FAULT_SECONDS)
            except Exception as error:  # the boundary that must survive
                log.exception("periodic step failed", cause=type(error).__name__)
                stop.wait(_AFTER_FAULT_SECONDS)

    threading.Thread(target=loop, daemon=True).start()


def _score_work(settings: Settings, ledger: Ledger, owner: str, waker: Waker) -> Work:
    from agent.score.score_study import ScoreLimits
    from agent.serve.composer import Composer
    from agent.tasks.look_ahead import LookAhead
    from agent.tasks.pictures import Pictures
    from agent.tasks.report import ReportStep
    from agent.tasks.score import ScoreStep
    from agent.tasks.warm_up import warm_up

    ledger.close()  # it opens again; no connection is to be open while a process is forked, and no model loaded
    compose = Composer()
    predictor = predictors_of(settings)
    limits = ScoreLimits(min_views=settings.study.min_views, max_views=settings.study.max_views)
    warm_up(predictor(None), limits, compose)  # loaded and warm before the process says that it is ready
    layout, destinations, extras = layout_of(settings), destinations_of(settings), extras_of(settings)
    blinded, pictures = blinded_of(settings), Pictures(layout)
    ahead = LookAhead(
        ledger=ledger,
        layout=layout,
        patience=patience_of(settings),
        geometry=predictor(None).bundle.geometry,
        announce=waker.announce,
        now=time.time,
    )
    score = ScoreStep(
        ledger=ledger,
        layout=layout,
        owner=owner,
        limits=limits,
        destinations=destinations,
        extras=extras,
        predictor=predictor,
        observer=observer_of(settings, ledger),
        pictures=pictures,
        ahead=ahead,
        wake=waker,
        now=time.time,
        withheld=settings.results.blinded,
        blinded=blinded,
    )
    report = ReportStep(
        ledger=ledger,
        layout=layout,
        owner=owner,
        destinations=destinations,
        extras=extras,
        station_name=settings.dicom.ae_title,
        pictures=pictures,
        wake=waker,
        now=time.time,
        blinded=blinded,
        announce=waker.announce,
        compose=compose,
    )
    return Work(
        steps={Step.SCORE: score, Step.REPORT: report},
        duties=lambda runner: [(TICK_SECONDS, lambda: ahead.once(runner.at_hand))],
    )


def _deliver_work(settings: Settings, ledger: Ledger, owner: str, waker: Waker) -> Work:
    from agent.deliver.ahead import Ahead
    from agent.deliver.proof import take_report
    from agent.deliver.rehearsal import rehearse
    from agent.scu.commitment import answering
    from agent.serve.composition.dicom import orders_of, scu_of
    from agent.serve.composition.messaging import senders_of
    from agent.tasks.deliver import DeliverStep

    layout, scu, blinded = layout_of(settings), scu_of(settings), blinded_of(settings)
    rehearse(ledger, scu, owner, time.time())
    archives = () if settings.results.blinded else settings.results.destinations
    deliver = DeliverStep(
        ledger=ledger,
        layout=layout,
        owner=owner,
        scu=scu,
        commitment_seconds=settings.results.commitment_seconds,
        wake=waker,
        now=time.time,
        senders=senders_of(settings, ledger, layout),
        ahead=Ahead(scu, answering(lambda told: take_report(ledger, told, time.time()))),
        archives=tuple(one for one in archives if str(one) not in blinded),
        orders=orders_of(settings, ledger, owner),
    )
    tracing = tracing_of(settings, ledger, owner)
    return Work(
        steps={Step.DELIVER: deliver},
        duties=lambda _runner: [] if tracing is None else [(TRACING_SECONDS, tracing)],
        prepare=deliver.prepare,
    )


def _retrieve_work(settings: Settings, ledger: Ledger, owner: str, waker: Waker) -> Work:
    from agent.serve.composition.dicom import retrieve_of
    from agent.tasks.retrieve import RetrieveStep

    retrieve = RetrieveStep(
        ledger=ledger,
        owner=owner,
        archive=settings.archive.query,
        context=retrieve_of(settings, ledger),
        wake=waker,
        now=time.time,
    )
    duties: list[Duty] = [
        (RETENTION_SECONDS, partial(make_room, settings, ledger, owner)),
        (READER_REPORTS_SECONDS, partial(look_for_grades, settings, ledger, owner)),
    ]
    if settings.worklist.perform is not None:
        duties.append((settings.worklist.perform_seconds, partial(perform, settings, ledger, owner)))
    return Work(steps={Step.RETRIEVE: retrieve}, duties=lambda _runner: duties)


_WORK_OF: Final = {"score": _score_work, "deliver": _deliver_work, "retrieve": _retrieve_work}
"""Imported where they are made: a process loads only what its queue needs."""
