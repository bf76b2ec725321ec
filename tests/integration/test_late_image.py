"""An image that comes for a study whose files retention has removed: the archive gives them back, all are scored."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from sqlalchemy import select, update

from agent.domain.results import DeliveryState
from agent.domain.work_item import Cause, State, Step, WorkItem
from agent.retrieve.query_retrieve import RetrieveContext
from agent.score.score_study import ScoreLimits
from agent.tasks.look_ahead import LookAhead
from agent.tasks.pictures import Pictures
from agent.tasks.report import ReportStep
from agent.tasks.retention import Retention
from agent.tasks.retrieve import RetrieveStep
from agent.tasks.runner import Runner
from agent.tasks.score import ScoreStep
from agent.watch.observing import Observer
from agent.worklist import closing, reading, replay, work_items
from agent.worklist import tables as t
from agent.worklist.grouping import GroupBy
from inference.predictor import Predictor
from tests.support.ultrasound import STUDY, image, phantom
from tests.unit.receive.reception import Reception
from tests.unit.retrieve.spool_fixture import SCU
from tests.unit.retrieve.wayward_source import WaywardSource
from tests.unit.tasks.test_look_ahead import BUNDLE
from tests.unit.worklist.conftest import PATIENCE

ME = "host/x/worker-1"
PAUSES = [1, 5, 20, 60]
"""Between the attempts of a step that may succeed later."""
DAY = 86_400.0
IMAGES = [image(n, phantom(seed=n).pixels, StudyDate="20260101") for n in (1, 2, 3)]
LATE = image(4, phantom(seed=4).pixels, StudyDate="20260101")


class Department:
    """A listener, the steps of a worker, and an archive."""

    def __init__(self, reception: Reception, source: WaywardSource, predictor: Predictor) -> None:
        self.reception, self.ledger, self.source, self.predictor = reception, reception.ledger, source, predictor
        self.ahead = 0.0
        layout = reception.layout
        context = RetrieveContext(
            ledger=self.ledger, files=reception.files, scu=SCU, group_by=GroupBy.STUDY, now=self.now
        )
        common: dict[str, Any] = {
            "ledger": self.ledger, "owner": ME, "wake": lambda _number, _step: None, "now": self.now,
        }  # fmt: skip
        of_score = {**common, "layout": layout, "destinations": (), "extras": {}, "pictures": Pictures(layout)}
        looks = LookAhead(
            ledger=self.ledger, layout=layout, patience=PATIENCE, geometry=predictor.bundle.geometry,
            announce=lambda: None, now=self.now,
        )  # fmt: skip
        score = ScoreStep(
            **of_score, limits=ScoreLimits(min_views=1, max_views=6), predictor=lambda _: predictor, ahead=looks,
            observer=Observer(ledger=self.ledger, site_by="calling-ae", secret=lambda: b"key"),
        )  # fmt: skip
        self.retrieve = RetrieveStep(**common, archive=source.archive, context=context)
        self.steps: dict[str, dict[Step, Any]] = {
            "score": {Step.SCORE: score, Step.REPORT: ReportStep(**of_score, station_name="STEATOSIS")},
            "retrieve": {Step.RETRIEVE: self.retrieve},
        }
        self.common = common

    def now(self) -> float:
        return time.time() + self.ahead

    def run(self, number: int) -> WorkItem:
        """Do every step up to delivery."""
        for queue in ("score", "retrieve", "score"):
            Runner(**self.common, queue=queue, steps=self.steps[queue]).run(number)
        found = work_items.find(self.ledger, number)
        assert found is not None
        return found

    def wait(self, number: int) -> float:
        """Let the time pass until a work item is due again; returns how many seconds that was."""
        with self.ledger.read() as connection:
            due = connection.execute(select(t.work_items.c.not_before).where(t.work_items.c.id == number)).scalar_one()
        waited = due - self.now()
        self.ahead += waited + 0.01
        return float(waited)

    def run_to_the_end(self, number: int) -> tuple[WorkItem, list[int]]:
        """Run it as often as it comes back; returns it, and the seconds that it waited in between."""
        waits = []
        while (item := self.run(number)).state is State.IN_PROGRESS and item.step is Step.RETRIEVE:
            waits.append(round(self.wait(number)))
        return item, waits

    def close(self) -> int:
        self.ahead += 60
        (closed,) = closing.close_complete_groups(
            self.ledger, patience=PATIENCE, bundle_digest=self.predictor.identity.digest, now=self.now()
        )
        assert closed.work_item_id is not None
        return closed.work_item_id

    def remove(self) -> None:
        """Prove everything, and let retention do what it does."""
        with self.ledger.write() as connection:
            connection.execute(update(t.outbox).values(state=DeliveryState.PROVED, destination="PACS@h:1"))
            connection.execute(update(t.work_items).values(state=State.COMPLETED, finished_at=self.now()))
        keeper = Retention(
            ledger=self.ledger, layout=self.reception.layout, archive=self.source.archive, scu=SCU, keep_seconds=DAY,
            keep_bytes=None, audit=lambda _study: None, log=structlog.get_logger(),
        )  # fmt: skip
        assert keeper.look(time.time() + 2 * DAY) == 1
        assert self.reception.stored() == []


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor.open(BUNDLE)


@pytest.fixture
def department(tmp_path: Path, predictor: Predictor) -> Iterator[Department]:
    """A scored study of three images whose files are gone, and a fourth that has just come."""
    with Reception(tmp_path / "data") as reception:
        assert reception.send(*IMAGES) == [0, 0, 0]
        with WaywardSource([path.read_bytes() for path in reception.stored()]) as source:
            made = Department(reception, source, predictor)
            assert made.run(made.close()).step is Step.DELIVER
            made.remove()
            assert reception.send(LATE) == [0]
            yield made


def used(department: Department) -> set[str]:
    views = reading.show(department.ledger, STUDY)["views"]
    return {view["sop_instance_uid"].rpartition(".")[2] for view in views if view["used"]}


def test_all_of_the_study_is_scored(department: Department) -> None:
    item = department.run(department.close())
    assert (item.step, item.cause) == (Step.DELIVER, Cause.ADDENDUM)
    assert used(department) == {"1", "2", "3", "4"}
    assert item.replaces_key is not None
    assert len(department.reception.stored()) == 4


def test_what_the_archive_changed_meanwhile_is_scored_as_it_is_now(department: Department) -> None:
    for one in department.source.held:
        one.AccessionNumber = "changed"
    item = department.run(department.close())
    assert item.step is Step.DELIVER
    assert used(department) == {"1", "2", "3", "4"}


def test_what_the_archive_no_longer_has_is_told_of_each_instance(department: Department) -> None:
    department.source.held = [one for one in department.source.held if not str(one.SOPInstanceUID).endswith(".1")]
    item = department.run(department.close())
    assert item.step is Step.DELIVER
    shown = reading.show(department.ledger, STUDY)
    (lost,) = [view for view in shown["views"] if view["sop_instance_uid"].endswith(".1")]
    assert lost["reason"] == "its file was removed by retention, and the archive did not give it back for this score"
    assert used(department) == {"2", "3", "4"}
    assert [bool(one["removed_at"]) for one in shown["instances"]] == [True, False, False, False]


def test_a_late_image_alone_never_takes_the_place_of_the_whole_study(department: Department) -> None:
    (late,) = department.reception.stored()
    department.source.held = WaywardSource([late.read_bytes()]).held
    item, waits = department.run_to_the_end(department.close())
    assert waits == PAUSES
    assert item.reason == (
        "not-retrieved: the archive gave back none of the 3 instances that retention had removed (have the whole "
        "study sent to us again, then `agent retry STUDY-UID`; the earlier result stands)"
    )


@pytest.mark.parametrize("lacks", ["study", "archive"])
def test_where_nothing_comes_back_the_earlier_result_stands_and_the_reason_says_what_to_do(
    department: Department, lacks: str
) -> None:
    if lacks == "study":
        department.source.held.clear()
    else:
        department.steps["retrieve"][Step.RETRIEVE] = RetrieveStep(
            **department.common, archive=None, context=department.retrieve.context
        )
    item, waits = department.run_to_the_end(department.close())
    assert waits == (PAUSES if lacks == "study" else []), "no setting is missing that could come by itself"
    assert (item.state, item.failed) == (State.CANCELED, True)
    assert str(item.reason).startswith(
        "not-retrieved: retention removed files of the study, and they cannot be fetched"
    )
    assert "have the whole study sent to us again, then `agent retry STUDY-UID`" in str(item.reason)
    assert reading.show(department.ledger, STUDY)["score"] is not None
    assert department.reception.send(*IMAGES) == [0, 0, 0]
    again = department.run(replay.retry(department.ledger, item, cause=Cause.RETRY, now=department.now()))
    assert again.step is Step.DELIVER
    assert used(department) == {"1", "2", "3", "4"}


@pytest.mark.parametrize("holds", ["nothing", "the late image"])
def test_an_archive_that_is_whole_again_a_little_later_needs_nobody(department: Department, holds: str) -> None:
    """One that builds its index anew, or has moved the study to another tier, lists little of it for a while."""
    held = list(department.source.held)
    (late,) = department.reception.stored()
    department.source.held = [] if holds == "nothing" else WaywardSource([late.read_bytes()]).held
    number = department.close()
    item = department.run(number)
    assert (item.state, item.step) == (State.IN_PROGRESS, Step.RETRIEVE)
    department.source.held = held
    department.wait(number)
    assert department.run(number).step is Step.DELIVER
    assert used(department) == {"1", "2", "3", "4"}
