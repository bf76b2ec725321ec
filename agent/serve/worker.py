"""A worker process: one Celery queue, and threads that renew leases, reconcile and say that it is ready."""

from __future__ import annotations

import gc
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Final

import structlog
from celery.exceptions import SecurityWarning
from celery.signals import setup_logging, worker_shutting_down

from agent.domain.errors import AgentError
from agent.serve.broker_watch import WATCH_SECONDS, BrokerWatch, StepsAtHand, end_worker, running_broker
from agent.serve.composition.auditing import AUDIT_SECONDS, Auditor
from agent.serve.composition.bundles import bundle_digest_of
from agent.serve.composition.context import broker_of, ledger_of, owner_of, patience_of
from agent.serve.queue_work import WORK_OF, Duty
from agent.serve.readiness import say_ready
from agent.serve.waking import Waker
from agent.settings import Settings
from agent.tasks.runner import Runner
from agent.worklist.celery_app import COMING, WAKE, make_celery
from agent.worklist.closing import any_closes_soon
from agent.worklist.reconciler import TICK_SECONDS, reconcile
from agent.worklist.work_items import RENEW_SECONDS, renew

_AFTER_FAULT_SECONDS: Final = 1.0
_SWITCH_SECONDS: Final = 0.0005
"""For so long a thread waits that wants the interpreter; Python's own is 5 ms. Drawing comes back for it at every line
and would wait each time for a report that is composed meanwhile."""
_ONE_AT_A_TIME: Final = ("--pool=solo", "--concurrency=1")
_POOL_OF: Final = {"score": ("--pool=threads", "--concurrency=2")}
"""Two studies at once where one is scored: the engine takes one at a time, and meanwhile the frames of the next are
decoded, or the report of the last is drawn."""


def run_worker(settings: Settings, queue: str) -> None:
    """Serve one queue until SIGTERM; the step at hand is finished first."""
    log = structlog.get_logger("worker").bind(queue=queue)
    warnings.simplefilter("ignore", SecurityWarning)  # `serve` says once that it runs as root
    ledger, owner = ledger_of(settings), owner_of(settings, queue)
    app, at_hand = make_celery(broker_of(settings)), StepsAtHand()
    waker = Waker(app, at_hand, log)
    patience = patience_of(settings)
    work = WORK_OF[queue](settings, ledger, owner, waker)
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
