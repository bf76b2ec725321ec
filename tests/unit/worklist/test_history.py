"""What is forgotten of finished studies after a while, and what never is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from agent.observe.metrics import LedgerCollector
from agent.store.layout import Layout
from agent.worklist import arrivals, history, reading, work_items
from agent.worklist import tables as t
from tests.unit.worklist.conftest import Scene
from tests.unit.worklist.test_results import PACS, run

DAY = 86_400.0


@pytest.fixture
def told(scene: Scene) -> Scene:
    """A study that two associations brought and that is reported, an association that brought nothing, and an abort."""
    for name, instances in (("US1", ("1", "2")), ("US2", ("3",)), ("ECHO", ()), ("LOST", ())):
        association = scene.open(name)
        for instance in instances:
            scene.arrive(instance=instance, association=association)
        outcome = "aborted" if name == "LOST" else "released"
        arrivals.close_association(scene.ledger, association, outcome=outcome, now=scene.now)
    scene.now += 60
    scene.close()
    run(scene)
    with scene.ledger.write() as connection:
        connection.execute(sa.update(t.associations).values(audited_at=scene.now))
    return scene


def rows(scene: Scene, table: sa.Table) -> list[Any]:
    with scene.ledger.read() as connection:
        return list(connection.execute(sa.select(table)))


def forget(scene: Scene, *, audited: bool = True) -> history.Forgotten:
    return history.forget(scene.ledger, before=scene.now + DAY, audited=audited)


def counters(scene: Scene, folder: Path) -> dict[tuple[str, str], float]:
    found = LedgerCollector(scene.ledger, Layout(folder), 0.0, lambda: (True, {})).collect()
    wanted = {"steatosis_associations", "steatosis_step_seconds"}
    samples = [sample for metric in found if metric.name in wanted for sample in metric.samples]
    return {(sample.name, str(sorted(sample.labels.items()))): round(sample.value, 6) for sample in samples}


def test_rows_go_and_totals_and_what_is_known_of_the_study_stay(told: Scene, tmp_path: Path) -> None:
    counted, shown = counters(told, tmp_path), reading.show(told.ledger, "1.2")
    kept = {table.name: rows(told, table) for table in (t.work_items, t.outbox, t.scores, t.result_objects, t.studies)}
    steps = len(rows(told, t.steps))
    assert steps >= 3
    assert forget(told) == history.Forgotten(sending=2, associations=3, steps=steps)
    assert rows(told, t.sending) == rows(told, t.steps) == []
    assert [row.calling_ae_title for row in rows(told, t.associations)] == ["US1"], "who sent the study"
    assert counters(told, tmp_path) == counted
    assert ("steatosis_associations_total", "[('outcome', 'aborted')]") in counted
    after = reading.show(told.ledger, "1.2")
    assert after["times"].pop("steps") == []
    del shown["times"]["steps"]
    shown["associations"] = shown["associations"][:1]
    assert after == shown
    assert {
        table.name: rows(told, table) for table in (t.work_items, t.outbox, t.scores, t.result_objects, t.studies)
    } == kept
    assert not forget(told)


def test_totals_add_up_over_several_looks(told: Scene, tmp_path: Path) -> None:
    forget(told)
    before = counters(told, tmp_path)
    arrivals.close_association(told.ledger, told.open("LATER"), outcome="released", now=told.now)
    forget(told, audited=False)
    key = ("steatosis_associations_total", "[('outcome', 'released')]")
    assert counters(told, tmp_path)[key] == before[key] + 1 == 4
    assert len(rows(told, t.associations)) == 1


def test_what_is_young_stays(told: Scene) -> None:
    assert not history.forget(told.ledger, before=told.now - DAY, audited=True)


def test_what_the_audit_trail_has_yet_to_tell_stays(told: Scene) -> None:
    with told.ledger.write() as connection:
        connection.execute(sa.update(t.associations).values(audited_at=None))
    gone = forget(told)
    assert (gone.sending, gone.associations) == (0, 0)
    gone = forget(told, audited=False)
    assert (gone.sending, gone.associations) == (2, 3)


def test_a_study_that_receives_again_keeps_its_own(told: Scene) -> None:
    told.arrive(instance="4", association=told.open("US3"))
    gone = forget(told)
    assert (gone.sending, gone.steps, gone.associations) == (0, 0, 2), "those that brought nothing"


def test_open_associations_and_steps_under_way_stay(scene: Scene) -> None:
    scene.arrive(association=scene.open())
    scene.now += 2000
    scene.close()
    assert work_items.claim(scene.ledger, 1, "me", scene.now) is not None
    assert not forget(scene)


def test_a_few_at_a_time(told: Scene) -> None:
    for number in range(3):
        arrivals.close_association(told.ledger, told.open(f"E{number}"), outcome="released", now=told.now)
    paused: list[None] = []
    history.forget(told.ledger, before=told.now + DAY, audited=False, pause=lambda: paused.append(None), most=1)
    assert len(paused) == 3, "after each transaction that removed something"


def test_destinations_are_still_proved(told: Scene) -> None:
    forget(told)
    (row,) = {(one["destination"], one["state"], one["proof"]) for one in reading.show(told.ledger, "1.2")["results"]}
    assert row == (PACS, "proved", "c-find")
