"""What the worker of each queue does: its steps, and what it does besides.

Steps are imported where they are made: a process loads only what its queue needs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from agent.domain.work_item import Step
from agent.serve.composition.bundles import predictors_of
from agent.serve.composition.context import blinded_of, destinations_of, extras_of, layout_of, patience_of
from agent.serve.composition.observing import READER_REPORTS_SECONDS, look_for_grades, observer_of
from agent.serve.composition.standards import perform
from agent.serve.composition.tracing import TRACING_SECONDS, tracing_of
from agent.serve.housekeeping import RETENTION_SECONDS, make_room
from agent.serve.waking import Waker
from agent.settings import Settings
from agent.tasks.runner import Runner, StepFunction
from agent.worklist.ledger import Ledger
from agent.worklist.reconciler import TICK_SECONDS

if TYPE_CHECKING:
    from agent.score.score_study import ScoreLimits
    from agent.serve.composer import Composer
    from agent.tasks.look_ahead import LookAhead
    from inference.predictor import Predictor

Duty = tuple[float, Callable[[], object]]
"""Seconds between two times, and what is done."""


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


def _score_work(settings: Settings, ledger: Ledger, owner: str, waker: Waker) -> Work:
    from agent.score.score_study import ScoreLimits
    from agent.tasks.pictures import Pictures
    from agent.tasks.report import ReportStep
    from agent.tasks.score import ScoreStep

    limits = ScoreLimits(min_views=settings.study.min_views, max_views=settings.study.max_views)
    compose, predictor = _composer_and_predictors(settings, ledger, limits)
    layout, destinations, extras = layout_of(settings), destinations_of(settings), extras_of(settings)
    blinded, pictures = blinded_of(settings), Pictures(layout)
    ahead = _look_ahead(settings, ledger, predictor(None), waker)
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


def _composer_and_predictors(
    settings: Settings, ledger: Ledger, limits: ScoreLimits
) -> tuple[Composer, Callable[[str | None], Predictor]]:
    """Fork the process that composes reports, then load the live bundle, and have both go through a study."""
    from agent.serve.composer import Composer
    from agent.tasks.warm_up import warm_up

    ledger.close()  # it opens again; no connection is to be open while a process is forked, and no model loaded
    compose = Composer()
    predictor = predictors_of(settings)
    warm_up(predictor(None), limits, compose)
    return compose, predictor


def _look_ahead(settings: Settings, ledger: Ledger, predictor: Predictor, waker: Waker) -> LookAhead:
    from agent.tasks.look_ahead import LookAhead

    return LookAhead(
        ledger=ledger,
        layout=layout_of(settings),
        patience=patience_of(settings),
        geometry=predictor.bundle.geometry,
        announce=waker.announce,
        now=time.time,
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


WORK_OF: Final = {"score": _score_work, "deliver": _deliver_work, "retrieve": _retrieve_work}
"""Queue → what makes the work of its worker, before that says that it is ready."""
