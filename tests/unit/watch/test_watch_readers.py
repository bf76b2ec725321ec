"""Readers beside results, and the shadow beside the live bundle, over a real ledger."""

from __future__ import annotations

import json

import pytest
import sqlalchemy as sa

from agent.domain.errors import NotFoundError
from agent.domain.score import ModelIdentity, Refusal, ScoreOutcome
from agent.domain.work_item import State, Step
from agent.watch import reader_grades, readers, shadow
from agent.watch.reader_grades import ReaderGrade
from agent.worklist import tables as t
from tests.unit.watch.conftest import DAY
from tests.unit.worklist.conftest import BUNDLE, Scene

SHADOW = "5" * 64


def scored(scene: Scene, study: str, grade: str | None, fat: float = 10.0, *, finish: bool = True) -> int:
    """A study that the live bundle scored, or refused where there is no grade; returns its work item."""
    scene.arrive(study=study)
    scene.now += 30
    (closed,) = scene.close()
    score = None if grade is None else {"grade": grade, "fat_fraction_percent": fat}
    refusal = None if grade else str(Refusal.NOT_LIVER)
    outcome = {"score": score, "refusal": refusal, "views": [], "model": {"digest": BUNDLE}, "expected_views": 3}
    w = t.work_items.c
    with scene.ledger.write() as connection:
        key = connection.execute(sa.select(w.result_key).where(w.id == closed.work_item_id)).scalar_one()
        row = {"result_key": key, "group_id": study, "content_at": scene.now, "outcome": json.dumps(outcome)}
        connection.execute(sa.insert(t.scores).values(row))
        if finish:
            done = {"state": State.COMPLETED, "finished_at": scene.now, "step": Step.DELIVER}
            connection.execute(sa.update(t.work_items).where(w.id == closed.work_item_id).values(done))
    return closed.work_item_id


def grade(scene: Scene, study: str, said: str, reader: str = "R-1", at: float | None = None, **more: bool) -> None:
    given = ReaderGrade(
        study_instance_uid=study, reader=reader, grade=said, source="page", graded_at=at or scene.now, **more
    )
    reader_grades.keep(scene.ledger, given, scene.now)


def test_readers_by_month_and_apart(scene: Scene) -> None:
    for number, said in enumerate(("S0", "S1", "S2", "S3")):
        scored(scene, f"1.2.{number}", said)
    scored(scene, "1.2.9", None)
    scene.now += DAY
    for number, said in enumerate(("S0", "S1", "S2", "S2")):
        grade(scene, f"1.2.{number}", said, at=40 * DAY if number > 1 else DAY, before_result=number == 0)
    grade(scene, "1.2.3", "S3", reader="R-2", at=40 * DAY)
    grade(scene, "1.2.9", "S1")
    grade(scene, "1.2.0", "S1", before_result=True)
    found = readers.readers_report(scene.ledger)
    assert found.grades == 6, "the newest of each reader and study"
    assert found.every.kappa is not None
    assert found.every.kappa.studies == 5
    assert found.every.only_second == 1, "a reader graded what was refused"
    assert [name for name, _ in found.months] == ["1970-01", "1970-02"]
    assert [(name, len(part.pairs)) for name, part in found.readers] == [("R-1", 5), ("R-2", 1)]
    assert [pair.study_instance_uid for pair in found.independent.pairs] == ["1.2.0"]
    assert [pair.study_instance_uid for pair in found.every.disagreements] == ["1.2.9", "1.2.3", "1.2.0"]
    json.dumps(found.as_dict())


def test_who_graded_before_there_was_a_result_did_not_know_it(scene: Scene) -> None:
    scene.arrive(study="1.2.5", instance="early")
    grade(scene, "1.2.5", "S2")
    scene.now += 1
    scored(scene, "1.2.5", "S2")
    assert len(readers.readers_report(scene.ledger).independent.pairs) == 1


def test_a_grade_needs_a_study(scene: Scene) -> None:
    with pytest.raises(NotFoundError):
        grade(scene, "9.9", "S1")


def outcome(said: str | None) -> ScoreOutcome:
    model = ModelIdentity(name="s", version="1", digest=SHADOW, backend="onnxruntime")
    return ScoreOutcome(score=None, refusal=Refusal.NOT_LIVER, views=(), model=model)


def test_the_shadow_takes_the_newest_first_and_each_once(scene: Scene) -> None:
    scored(scene, "1.2.1", "S0")
    scored(scene, "1.2.2", "S1")
    seen = []
    while (waiting := shadow.next_waiting(scene.ledger, live=BUNDLE, shadow=SHADOW, now=scene.now)) is not None:
        seen.append(waiting.study_instance_uid)
        shadow.begin(scene.ledger, waiting, shadow=SHADOW, now=scene.now)
        shadow.keep(scene.ledger, waiting, outcome(None), shadow=SHADOW, seconds=1.0, now=scene.now)
    assert seen == ["1.2.2", "1.2.1"]
    found = shadow.shadow_agreement(scene.ledger, live=BUNDLE, shadow=SHADOW)
    assert (len(found.pairs), found.only_first, found.kappa) == (2, 2, None)
    assert shadow.count_waiting(scene.ledger, live=BUNDLE, shadow="6" * 64, now=scene.now) == 2
    later = scene.now + shadow.LOOK_BACK_SECONDS + 1
    assert shadow.next_waiting(scene.ledger, live=BUNDLE, shadow="6" * 64, now=later) is None


def test_a_study_that_ends_the_process_is_let_alone(scene: Scene) -> None:
    scored(scene, "1.2.1", "S0")
    for _ in range(shadow.MOST_ATTEMPTS):
        waiting = shadow.next_waiting(scene.ledger, live=BUNDLE, shadow=SHADOW, now=scene.now)
        assert waiting is not None
        shadow.begin(scene.ledger, waiting, shadow=SHADOW, now=scene.now)
    assert shadow.next_waiting(scene.ledger, live=BUNDLE, shadow=SHADOW, now=scene.now) is None


def test_the_shadow_waits_while_live_work_does(scene: Scene) -> None:
    scored(scene, "1.2.1", "S0")
    assert not shadow.is_busy(scene.ledger)
    item = scored(scene, "1.2.2", "S1", finish=False)
    assert shadow.is_busy(scene.ledger)
    w = t.work_items.c
    with scene.ledger.write() as connection:
        held = {"reason": "held:patient-id-differs-within-study"}
        connection.execute(sa.update(t.work_items).where(w.id == item).values(held))
    assert not shadow.is_busy(scene.ledger), "what a person must decide keeps nobody waiting"


def test_nothing_of_the_shadow_can_be_delivered() -> None:
    """No column of the outbox, of result objects or of work items refers to a shadow's answer."""
    shadowed = {t.shadow_scores.name, t.observations.name}
    referred = {key.column.table.name for table in t.metadata.tables.values() for key in table.foreign_keys}
    assert not shadowed & referred
