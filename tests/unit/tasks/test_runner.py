"""Whatever a step does, its work item ends in a state that says so."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from agent.domain.errors import ArchiveError, LedgerError, NotFoundError
from agent.domain.work_item import State, Step, WorkItem
from agent.tasks.runner import FRESH_SECONDS, Runner
from agent.tasks.solitude import SUSPECT_ATTEMPTS
from agent.worklist import replay, work_items
from agent.worklist import tables as t
from agent.worklist.closing import any_closes_soon
from tests.unit.worklist.conftest import BUNDLE, PATIENCE, Scene, scene  # noqa: F401 - a fixture

ME = "host/x/score-1"


class Steps:
    """A score queue whose steps do what a test says."""

    def __init__(self, scene: Scene) -> None:  # noqa: F811
        self.scene, self.woken, self.seen = scene, list[tuple[int, Step]](), list[Step]()
        self.faults: Iterator[Exception | None] = iter(())
        self.done: list[tuple[int, Step]] = []
        self.meanwhile: Callable[[], None] | None = None
        self.slept = 0.0

    def __call__(self, item: WorkItem, _log: Any) -> None:
        self.seen.append(item.step)
        self.done.append((item.id, item.step))
        if self.meanwhile is not None:
            happens, self.meanwhile = self.meanwhile, None
            happens()
        fault = next(self.faults, None)
        if fault is not None:
            raise fault
        following = {Step.SCORE: Step.REPORT, Step.REPORT: Step.DELIVER}[item.step]
        with self.scene.ledger.write() as connection:
            work_items.advance(
                connection, item.id, ME, done=item.step, step=following, now=self.scene.now, outcome="done"
            )
        if following is Step.DELIVER:
            self.woken.append((item.id, following))

    def runner(self, **more: Any) -> Runner:
        return Runner(
            ledger=self.scene.ledger,
            owner=ME,
            queue="score",
            steps={Step.SCORE: self, Step.REPORT: self},
            wake=lambda number, step: self.woken.append((number, step)),
            now=lambda: self.scene.now,
            sleep=self.sleep,
            **more,
        )

    def sleep(self, seconds: float) -> None:
        self.slept += seconds
        self.scene.now += seconds
        if self.meanwhile is not None and self.slept > 1.0:
            happens, self.meanwhile = self.meanwhile, None
            happens()


@pytest.fixture
def steps(scene: Scene) -> Steps:  # noqa: F811
    scene.arrive()
    scene.now += 30
    scene.close()
    return Steps(scene)


def state(steps: Steps) -> tuple[State, str | None, Step]:
    item = work_items.find(steps.scene.ledger, 1)
    assert item is not None
    return item.state, item.reason, item.step


def test_steps_of_one_queue_run_one_after_another(steps: Steps) -> None:
    steps.runner().run(1)
    assert steps.seen == [Step.SCORE, Step.REPORT]
    assert steps.woken == [(1, Step.DELIVER)], "by the step, and not once more"
    assert state(steps)[2] is Step.DELIVER


def test_waking_twice_does_nothing_twice(steps: Steps) -> None:
    steps.runner().run(1)
    steps.runner().run(1)
    assert steps.seen == [Step.SCORE, Step.REPORT]


def test_a_fault_that_may_pass_is_tried_again_later(steps: Steps) -> None:
    steps.faults = iter([ArchiveError("away")])
    steps.runner().run(1)
    assert state(steps) == (State.IN_PROGRESS, None, Step.SCORE)
    steps.runner().run(1)
    assert steps.seen == [Step.SCORE], "not before its time"
    steps.scene.now += 1
    steps.runner().run(1)
    assert state(steps)[2] is Step.DELIVER


def test_a_fault_that_cannot_pass_is_a_dead_letter_with_its_cause(steps: Steps) -> None:
    steps.faults = iter([NotFoundError("instance file is gone", remedy="replay it")])
    steps.runner().run(1)
    ended, reason, _ = state(steps)
    assert ended is State.CANCELED
    assert reason == "fault: instance file is gone (replay it)"


def test_a_defect_is_tried_five_times(steps: Steps) -> None:
    steps.faults = iter([ZeroDivisionError("secret value")] * 9)
    for _ in range(9):
        steps.runner().run(1)
        steps.scene.now += 100
    ended, reason, _ = state(steps)
    assert (ended, reason) == (State.CANCELED, "fault: ZeroDivisionError in score")
    assert len(steps.seen) == work_items.MOST_ATTEMPTS


def test_a_step_that_kills_its_worker_does_not_come_back_for_ever(steps: Steps) -> None:
    for _ in range(work_items.MOST_ATTEMPTS):
        work_items.claim(steps.scene.ledger, 1, "dead", steps.scene.now)
        steps.scene.now += work_items.LEASE_SECONDS
    steps.runner().run(1)
    ended, reason, _ = state(steps)
    assert ended is State.CANCELED
    assert reason == "fault: score ended its worker 5 times"
    assert steps.seen == []


@pytest.mark.parametrize("ends", [0, SUSPECT_ATTEMPTS])
def test_a_step_that_may_end_its_worker_runs_beside_no_other(steps: Steps, ends: int) -> None:
    steps.scene.arrive(study="1.3")
    steps.scene.now += 30
    steps.scene.close()
    for _ in range(ends):
        work_items.claim(steps.scene.ledger, 1, "dead", steps.scene.now)
        steps.scene.now += work_items.LEASE_SECONDS
    begun, beside, others = threading.Event(), list[bool](), list[threading.Thread]()

    def step(item: WorkItem, log: Any) -> None:
        if item.id == 2:
            begun.set()
        elif item.step is Step.SCORE:
            others.append(threading.Thread(target=runner.run, args=(2,)))
            others[0].start()
            beside.append(begun.wait(0.5))
        steps(item, log)

    runner = Runner(**{**vars(steps.runner()), "steps": {Step.SCORE: step, Step.REPORT: step}})
    runner.run(1)
    others[0].join(10.0)
    assert beside == [ends == 0]
    assert begun.is_set(), "afterwards it is done all the same"


def test_a_lost_lease_is_given_up_quietly(steps: Steps) -> None:
    class Thief:
        def __call__(self, item: WorkItem, _log: Any) -> None:
            steps.scene.now += work_items.LEASE_SECONDS
            work_items.claim(steps.scene.ledger, item.id, "other", steps.scene.now)
            steps(item, _log)

    runner = steps.runner()
    Runner(**{**vars(runner), "steps": {Step.SCORE: Thief(), Step.REPORT: steps}}).run(1)
    assert state(steps)[0] is State.IN_PROGRESS
    assert work_items.claim(steps.scene.ledger, 1, "third", steps.scene.now) is None, "the other has it"


def test_another_queue_is_woken_instead(steps: Steps) -> None:
    runner = steps.runner()
    Runner(**{**vars(runner), "queue": "deliver"}).run(1)
    assert steps.woken == [(1, Step.SCORE)]
    assert steps.seen == []


def test_what_is_unknown_is_nobodys(steps: Steps) -> None:
    replay.cancel(steps.scene.ledger, 1, reason="canceled-by-operator", now=steps.scene.now)
    steps.runner().run(99)
    assert steps.seen == []


def replayed(steps: Steps) -> int:
    """A replay of the study, whose own work item is done with."""
    with steps.scene.ledger.write() as connection:
        connection.execute(sa.update(t.work_items).values(state=State.COMPLETED))
    planned = replay.Plan(study_instance_uid="1.2", source=replay.Source.SPOOL, result_key=None, known=False)
    return replay.schedule(steps.scene.ledger, planned, bundle_digest=BUNDLE, now=steps.scene.now)


def arrived(steps: Steps) -> None:
    """A new study comes in and closes."""
    steps.scene.arrive(study="1.3")
    steps.scene.now += 30
    steps.scene.close()


def test_a_wake_up_of_a_replay_does_live_work_first(steps: Steps) -> None:
    number = replayed(steps)
    arrived(steps)
    steps.runner().run(number)
    assert steps.done == [(3, Step.SCORE), (3, Step.REPORT), (2, Step.SCORE), (2, Step.REPORT)]


def test_live_work_that_comes_meanwhile_waits_for_one_step(steps: Steps) -> None:
    number = replayed(steps)
    steps.meanwhile = lambda: arrived(steps)
    steps.runner().run(number)
    assert steps.done == [(2, Step.SCORE), (3, Step.SCORE), (3, Step.REPORT), (2, Step.REPORT)]


def delivering(steps: Steps, *, elsewhere: bool = True) -> int:
    """A replay waits while a new study's report is being sent by another queue's process."""
    number = replayed(steps)
    arrived(steps)
    with steps.scene.ledger.write() as connection:
        moved = sa.update(t.work_items).where(t.work_items.c.id == 3).values(step=Step.DELIVER)
        connection.execute(moved)
    if elsewhere:
        work_items.claim(steps.scene.ledger, 3, "host/x/deliver-1", steps.scene.now)
    return number


def test_a_replay_begins_no_step_while_a_new_study_is_on_its_way(steps: Steps) -> None:
    number = delivering(steps)
    steps.meanwhile = lambda: finished(steps, 3)
    steps.runner().run(number)
    assert steps.done == [(2, Step.SCORE), (2, Step.REPORT)]
    assert 1.0 < steps.slept < 1.1, "no longer than the study took"


def finished(steps: Steps, number: int) -> None:
    replay.cancel(steps.scene.ledger, number, reason="canceled-by-operator", now=steps.scene.now)


def test_a_study_that_waits_for_its_archive_stops_no_replay_for_long(steps: Steps) -> None:
    number = delivering(steps)
    steps.runner().run(number)
    assert steps.done == [(2, Step.SCORE), (2, Step.REPORT)]
    assert steps.slept == pytest.approx(FRESH_SECONDS, abs=0.1)


def test_new_studies_without_end_do_not_starve_a_replay(steps: Steps) -> None:
    number = delivering(steps, elsewhere=False)

    def another(seconds: float) -> None:
        steps.sleep(seconds)
        with steps.scene.ledger.write() as connection:
            fresh = sa.update(t.work_items).where(t.work_items.c.id == 3).values(created_at=steps.scene.now)
            connection.execute(fresh)

    Runner(**{**vars(steps.runner()), "sleep": another}).run(number)
    assert steps.done == [(2, Step.SCORE), (2, Step.REPORT)]
    assert steps.slept == pytest.approx(10.0, abs=0.2), "5 s before each step"


def test_a_replay_begins_no_step_just_before_a_study_closes(steps: Steps) -> None:
    number, hospital = replayed(steps), steps.scene
    hospital.arrive(study="1.4")
    hospital.now += PATIENCE.quiet_seconds - 0.4

    def closes_soon(now: float, seconds: float) -> bool:
        return any_closes_soon(hospital.ledger, patience=PATIENCE, now=now, seconds=seconds)

    steps.runner(closes_soon=closes_soon).run(number)
    assert steps.done == [(2, Step.SCORE), (2, Step.REPORT)]
    assert steps.slept == pytest.approx(0.9, abs=0.05), "until half a second after it should have closed"


def test_a_step_whose_end_could_not_be_recorded_comes_back(steps: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger goes away while a step runs: the worker must not go on holding what it no longer does."""

    def away(*_: Any, **__: Any) -> None:
        raise LedgerError("away")

    runner, held = steps.runner(), list[frozenset[int]]()
    steps.faults = iter([LedgerError("away")])
    steps.meanwhile = lambda: held.append(frozenset(runner.at_hand))
    with monkeypatch.context() as patched:
        patched.setattr(work_items, "give_back", away)
        runner.run(1)
    assert held == [frozenset({1})], "renewed while it runs"
    assert runner.at_hand == set(), "and not after"
    steps.scene.now += work_items.LEASE_SECONDS
    work_items.renew(steps.scene.ledger, ME, steps.scene.now, frozenset(runner.at_hand))
    runner.run(1)
    assert state(steps)[2] is Step.DELIVER


def test_a_worker_that_ends_begins_no_step(steps: Steps) -> None:
    steps.runner(is_ending=lambda: True).run(1)
    assert steps.seen == []
    steps.runner().run(1)
    assert steps.seen == [Step.SCORE, Step.REPORT]


def test_an_error_of_ours_before_delivery_waits_longer_each_time_and_ends_after_days(steps: Steps) -> None:
    """Such a step repeated itself every minute for ever."""

    def broken(_item: WorkItem, _log: Any) -> None:
        raise ZeroDivisionError("what nobody foresaw")

    ledger, now = steps.scene.ledger, steps.scene.now
    with ledger.write() as connection:
        nearly = now - 3 * 86_400 + 3600
        connection.execute(sa.update(t.work_items).values(step=Step.DELIVER, created_at=nearly))
    waits = []
    while state(steps)[0] is not State.CANCELED:
        Runner(
            ledger=ledger, owner=ME, queue="deliver", steps={Step.DELIVER: broken}, wake=lambda _number, _step: None,
            now=lambda: steps.scene.now,
        ).run(1)  # fmt: skip
        with ledger.read() as connection:
            due = connection.execute(sa.select(t.work_items.c.not_before)).scalar_one()
        waits.append(due - steps.scene.now)
        steps.scene.now = max(due, steps.scene.now + 1)
        assert len(waits) < 1000
    assert state(steps)[1] == "fault: ZeroDivisionError in deliver"
    assert steps.scene.now - nearly >= 3 * 86_400
    assert len(waits) >= 20
    assert max(waits[:3]) <= 4 < 100 < max(waits)
