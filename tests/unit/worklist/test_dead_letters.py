"""Dead letters, retries by filter, cancels in every state, and replays in bulk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from agent.domain.work_item import CANCELED_BY_OPERATOR, SUPERSEDED, Cause, State, Step
from agent.serve.commands.steering import Choice, cancel_work_items, retry_work_items
from agent.settings import Settings
from agent.worklist import reading, replay, work_items
from tests.unit.worklist.conftest import BUNDLE, Scene
from tests.unit.worklist.test_results import reported, run  # noqa: F401 - a fixture

ANY = Choice(study=None, state=None, reason=None, since=None, dry_run=False)
FAILED = replace(ANY, state="failed")


@pytest.fixture
def settings(scene: Scene, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Settings:
    monkeypatch.setattr(commands, "kept_ledger_of", lambda _settings: scene.ledger)
    monkeypatch.setattr(commands, "bundle_digest_of", lambda _folder: BUNDLE)
    return Settings.model_validate({"storage": {"data_dir": tmp_path}})


def close(scene: Scene, study: str = "1.2") -> int:
    """A study arrives and closes; returns its work item."""
    scene.arrive(study=study)
    scene.now += 30
    (closed,) = scene.close()
    assert closed.work_item_id is not None
    return closed.work_item_id


def fail(scene: Scene, number: int, reason: str = "no such file") -> None:
    item = work_items.claim(scene.ledger, number, "me", scene.now)
    assert item is not None
    replay.fail(scene.ledger, item, "me", step=item.step, reason=reason, now=scene.now)


def failed(scene: Scene) -> list[int]:
    return [entry["id"] for entry in reading.worklist(scene.ledger, "failed")]


def test_a_dead_letter_is_retried_once(scene: Scene, settings: Settings) -> None:
    fail(scene, close(scene))
    assert failed(scene) == [1]
    assert [entry["work_item"] for entry in retry_work_items(settings, FAILED)] == [2]
    assert retry_work_items(settings, FAILED) == []
    assert failed(scene) == []
    assert reading.counts(scene.ledger)["failed"] == 0
    fail(scene, 2)
    assert failed(scene) == [2]
    assert reading.counts(scene.ledger) == {
        "RECEIVING": 0,
        "SCHEDULED": 0,
        "IN PROGRESS": 0,
        "COMPLETED": 0,
        "CANCELED": 2,
        "held": 0,
        "withheld": 0,
        "failed": 1,
    }


def test_old_dead_letters_are_found_behind_many_others(scene: Scene) -> None:
    fail(scene, close(scene))
    for number in range(3, 8):
        close(scene, f"1.{number}")
    assert [entry["id"] for entry in reading.worklist(scene.ledger, "failed", limit=1)] == [1]


def test_retry_by_reason(scene: Scene, settings: Settings) -> None:
    fail(scene, close(scene), "out of cheese")
    fail(scene, close(scene, "1.3"), "no such file")
    (entry,) = retry_work_items(settings, replace(ANY, reason="fault: out"))
    assert entry["retried"] == 1


def test_what_a_later_report_stands_for_is_not_retried(scene: Scene, settings: Settings) -> None:
    fail(scene, close(scene))
    scene.arrive(instance="2")
    scene.now += 30
    scene.close()
    run(scene, 2)
    assert retry_work_items(settings, replace(ANY, study="1.2", reason="fault")) == []


def test_what_was_superseded_is_not_retried(scene: Scene, settings: Settings) -> None:
    replay.cancel(scene.ledger, close(scene), reason=SUPERSEDED, now=scene.now)
    assert retry_work_items(settings, replace(ANY, study="1.2")) == []


def test_what_an_operator_canceled_may_be_retried_by_name(scene: Scene, settings: Settings) -> None:
    number = close(scene)
    assert [entry["work_item"] for entry in cancel_work_items(settings, replace(ANY, study="1.2"))] == [number]
    assert failed(scene) == []
    (entry,) = retry_work_items(settings, replace(ANY, study="1.2"))
    made = work_items.find(scene.ledger, entry["work_item"])
    assert made is not None
    assert (made.cause, made.step) == (Cause.RETRY, Step.SCORE)


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_study_that_still_receives_is_canceled(scene: Scene, settings: Settings, dry_run: bool) -> None:
    scene.arrive()
    (entry,) = cancel_work_items(settings, replace(ANY, study="1.2", dry_run=dry_run))
    scene.now += 30
    if dry_run:
        assert entry["state"] == "RECEIVING"
        assert len(scene.close()) == 1
        return
    assert (entry["state"], scene.close()) == (State.CANCELED, [])
    shown = reading.show(scene.ledger, "1.2")
    assert (shown["state"], shown["reason"]) == ("CANCELED", CANCELED_BY_OPERATOR)
    scene.arrive(instance="2")
    scene.now += 30
    assert len(scene.close()) == 1, "a later image is scored again"


def test_cancel_by_filter_leaves_others(scene: Scene, settings: Settings) -> None:
    close(scene)
    scene.arrive(study="1.3")
    assert len(cancel_work_items(settings, replace(ANY, state="SCHEDULED"))) == 1
    assert reading.show(scene.ledger, "1.3")["state"] == "RECEIVING"


def schedule(scene: Scene, study: str = "1.2", bundle: str = BUNDLE) -> int:
    planned = replay.Plan(study_instance_uid=study, source=replay.Source.SPOOL, result_key=None, known=False)
    return replay.schedule(scene.ledger, planned, bundle_digest=bundle, now=scene.now)


def test_a_replay_under_way_is_not_scheduled_twice(reported: Scene) -> None:  # noqa: F811
    first = schedule(reported)
    assert schedule(reported) == first
    assert schedule(reported, bundle="c" * 64) == first + 1, "another model is another result"
    replay.cancel(reported.ledger, first, reason=CANCELED_BY_OPERATOR, now=reported.now)
    assert schedule(reported) == first + 2


def test_studies_since(scene: Scene) -> None:
    close(scene)
    since = scene.now
    close(scene, "1.3")
    schedule(scene, "1.3")
    scene.arrive(study="1.4")
    assert reading.studies_since(scene.ledger, since) == ["1.3"], "once each, and none that still receives"
    assert reading.studies_since(scene.ledger, 0.0) == ["1.2", "1.3"]


def test_only_a_few_replays_are_woken_at_a_time(scene: Scene) -> None:
    for number in range(20):
        close(scene, f"1.{number + 3}")
    for number in range(1, 21):
        replay.cancel(scene.ledger, number, reason="done", now=scene.now)
        schedule(scene, f"1.{number + 2}")
    woken = work_items.due(scene.ledger, scene.now, patience=5)
    assert [number for number, _ in woken] == list(range(21, 21 + work_items.BACKGROUND_AT_ONCE))
    assert work_items.due(scene.ledger, scene.now + 1, patience=5) == []
    work_items.claim(scene.ledger, 21, "me", scene.now + 1)
    live = close(scene, "2.1")
    scene.now -= 29
    assert [number for number, _ in work_items.due(scene.ledger, scene.now, patience=5)] == [live, 29]
