"""What an archive sends for a replay, and what becomes of it when that comes to nothing."""

from __future__ import annotations

import pytest

from agent.domain.eligibility import MANUFACTURER_MODEL_NAME
from agent.domain.study import StoredFile
from agent.domain.work_item import HELD_PATIENT_ID, Cause, State, Step, WorkItem
from agent.worklist import replay, results, retrievals, work_items
from agent.worklist.arrivals import open_retrieval, record_instance
from tests.unit.worklist.conftest import BUNDLE, SR, Scene, stored_file
from tests.unit.worklist.test_results import ME, PACS, plan


def retrieving(scene: Scene) -> tuple[WorkItem, int]:
    """Begin a retrieval of the study."""
    planned = plan(scene, wanted=replay.Source.ARCHIVE)
    number = replay.schedule(scene.ledger, planned, bundle_digest=BUNDLE, now=scene.now)
    item = work_items.claim(scene.ledger, number, ME, scene.now)
    assert item is not None
    return item, retrievals.begin(scene.ledger, item, archive=PACS, now=scene.now)


def settled(scene: Scene, *files: StoredFile) -> WorkItem:
    """Have the archive send these, and settle what is scored of them."""
    item, fetched = retrieving(scene)
    for file in files:
        record_instance(
            scene.ledger, file, association_id=None, group_by=scene.group_by, now=scene.now, retrieval_id=fetched
        )
    replay.settle_retrieval(scene.ledger, item, ME, retrieval_ids=[fetched], now=scene.now)
    found = work_items.find(scene.ledger, item.id)
    assert found is not None
    return found


def test_a_refusal_that_came_back_from_the_archive_is_no_new_study(scene: Scene) -> None:
    document = stored_file("1.2", "1", sop_class_uid=SR)
    ours = stored_file("1.2", "2", sop_class_uid=SR, manufacturer_model_name=MANUFACTURER_MODEL_NAME)
    before = settled(scene, document)
    replay.cancel(scene.ledger, before.id, reason="x", now=scene.now)
    assert settled(scene, document, ours).result_key == before.result_key, "else each replay makes another report"


def test_an_image_that_an_archive_sent_twice_in_other_bytes_is_scored_once(scene: Scene) -> None:
    item = settled(scene, stored_file("1.2", "1"), stored_file("1.2", "1", version="decoded"), stored_file("1.2", "2"))
    scored = results.instances_of(scene.ledger, item.id)
    assert [one.sha256 for one in scored] == [stored_file("1.2", number).sha256 for number in ("1", "2")]


def test_patient_ids_that_differ_at_the_archive_hold_a_replay(scene: Scene) -> None:
    item = settled(scene, stored_file("1.2", "1"), stored_file("1.2", "2", patient_id="P2"))
    assert (item.state, item.reason, item.step) == (State.SCHEDULED, HELD_PATIENT_ID, Step.SCORE)
    retried = work_items.find(scene.ledger, replay.retry(scene.ledger, item, cause=Cause.RETRY, now=scene.now))
    assert retried is not None
    assert (retried.reason, len(results.instances_of(scene.ledger, retried.id))) == (None, 2), "a person said so"


def test_a_replay_lets_no_held_study_go_on_before_a_person_does(scene: Scene) -> None:
    scene.arrive(instance="1")
    scene.arrive(instance="2", patient_id="P2")
    scene.now += 30
    scene.close()
    for held in (True, False):
        number = replay.schedule(scene.ledger, plan(scene), bundle_digest=BUNDLE, now=scene.now)
        item = work_items.find(scene.ledger, number)
        assert item is not None
        assert item.held is held
        for one in work_items.find_all(scene.ledger, [1, number]):
            if one.held:
                replay.retry(scene.ledger, one, cause=Cause.RETRY, now=scene.now)


@pytest.mark.parametrize("end", ["failed", "canceled"])
def test_what_comes_after_a_retrieval_that_came_to_nothing_is_the_studys(scene: Scene, end: str) -> None:
    item, fetched = retrieving(scene)
    assert open_retrieval(scene.ledger, "1.2") == fetched
    if end == "failed":
        replay.fail(scene.ledger, item, ME, step=Step.RETRIEVE, reason="unreachable", now=scene.now)
    else:
        replay.cancel(scene.ledger, item.id, reason="canceled-by-operator", now=scene.now)
    assert open_retrieval(scene.ledger, "1.2") is None, "else a push would be kept with it, and never be scored"
