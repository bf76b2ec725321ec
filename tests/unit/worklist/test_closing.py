"""When a study closes, and what comes of it."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from agent.domain.availability import AvailabilityNotice, AvailableInstance
from agent.domain.eligibility import MANUFACTURER_MODEL_NAME
from agent.domain.work_item import HELD_PATIENT_ID, SUPERSEDED, Cause, State, Step
from agent.worklist import arrivals, closing, fetching, replay, retrievals, work_items
from agent.worklist import tables as t
from agent.worklist.grouping import GroupBy
from tests.unit.worklist.conftest import BUNDLE, SR, US, Scene, stored_file

CT = "1.2.840.10008.5.1.4.1.1.2"


def item(scene: Scene, number: int = 1):
    found = work_items.find(scene.ledger, number)
    assert found is not None
    return found


def test_quiet_time_closes_a_study(scene: Scene) -> None:
    scene.arrive()
    scene.now += 29
    assert scene.close() == []
    scene.now += 1
    (closed,) = scene.close()
    assert (closed.study_instance_uid, closed.work_item_id) == ("1.2", 1)
    made = item(scene)
    assert (made.state, made.step, made.cause, made.replaces_key) == (State.SCHEDULED, Step.SCORE, Cause.NEW, None)
    assert scene.close() == [], "closed once"


def test_every_arrival_restarts_the_quiet_time(scene: Scene) -> None:
    scene.arrive(instance="1")
    scene.now += 20
    scene.arrive(instance="2")
    scene.now += 20
    assert scene.close() == []
    scene.now += 10
    assert len(scene.close()) == 1


def test_an_open_association_that_sends_keeps_it_open(scene: Scene) -> None:
    row = scene.open()
    scene.arrive(association=row)
    for _ in range(9):  # its listener lives, and it sent within twice the quiet time
        scene.now += 5
        arrivals.beat(scene.ledger, "host/x/listener-1", scene.now)
    assert scene.close() == []
    scene.now += 16
    arrivals.beat(scene.ledger, "host/x/listener-1", scene.now)
    assert len(scene.close()) == 1, "an idle association does not hold a study for ever"


def test_a_dead_listener_does_not_keep_it_open(scene: Scene) -> None:
    scene.arrive(association=scene.open())
    scene.now += 31
    assert len(scene.close()) == 1


def test_an_abort_restarts_the_quiet_time_and_is_flagged(scene: Scene) -> None:
    row = scene.open()
    scene.arrive(association=row)
    scene.now += 25
    arrivals.close_association(scene.ledger, row, outcome="aborted", now=scene.now)
    scene.now += 10
    assert scene.close() == []
    scene.now += 20
    assert len(scene.close()) == 1
    with scene.ledger.read() as connection:
        assert connection.execute(sa.select(t.groups.c.interruptions)).scalar_one() == 1


def test_a_release_does_not(scene: Scene) -> None:
    row = scene.open()
    scene.arrive(association=row)
    scene.now += 25
    arrivals.close_association(scene.ledger, row, outcome="released", now=scene.now)
    scene.now += 5
    assert len(scene.close()) == 1


def test_the_longest_wait_closes_it_anyway(scene: Scene) -> None:
    row = scene.open()
    for number in range(61):
        scene.arrive(instance=str(number), association=row)
        scene.now += 15
        arrivals.beat(scene.ledger, "host/x/listener-1", scene.now)
    assert len(scene.close()) == 1


def test_a_copy_changes_nothing(scene: Scene) -> None:
    scene.arrive()
    scene.now += 30
    scene.close()
    again = scene.arrive()
    assert (again.new, again.conflict) == (False, False)
    scene.now += 100
    assert scene.close() == []


def test_a_late_view_before_anything_left_supersedes(scene: Scene) -> None:
    scene.arrive(instance="1")
    scene.now += 30
    scene.close()
    scene.arrive(instance="2")
    scene.now += 30
    (closed,) = scene.close()
    assert (item(scene, 1).state, item(scene, 1).reason) == (State.CANCELED, SUPERSEDED)
    second = item(scene, closed.work_item_id or 0)
    assert (second.cause, second.replaces_key) == (Cause.NEW, None)


def test_the_same_set_after_superseding_is_scored_again(scene: Scene) -> None:
    scene.arrive(instance="1")
    scene.now += 30
    scene.close()
    scene.arrive(instance="2")
    scene.now += 30
    scene.close()
    assert len({item(scene, number).result_key for number in (1, 2)}) == 2


def test_other_bytes_under_the_same_uid_are_kept_and_not_scored(scene: Scene) -> None:
    first = scene.arrive()
    second = scene.arrive(version="other")
    assert (first.conflict, second.new, second.conflict) == (False, True, True)
    scene.now += 30
    (closed,) = scene.close()
    with scene.ledger.read() as connection:
        scored = sa.select(t.work_item_instances.c.instance_id).where(
            t.work_item_instances.c.work_item_id == closed.work_item_id
        )
        assert list(connection.execute(scored).scalars()) == [first.instance_id]


def test_our_own_results_make_no_work(scene: Scene) -> None:
    scene.arrive(sop_class_uid=SR, manufacturer_model_name=MANUFACTURER_MODEL_NAME)
    scene.now += 30
    (closed,) = scene.close()
    assert closed.work_item_id is None


def test_a_study_without_ultrasound_is_refused_in_words(scene: Scene) -> None:
    scene.arrive(sop_class_uid=SR)
    scene.now += 30
    (closed,) = scene.close()
    assert closed.work_item_id is not None, "silence never looks normal"


def test_a_report_that_arrives_late_changes_nothing(scene: Scene) -> None:
    scene.arrive(instance="1")
    scene.now += 30
    scene.close()
    scene.arrive(instance="2", sop_class_uid=SR)
    scene.now += 30
    assert scene.close() == []


def test_patient_ids_that_differ_hold_the_study(scene: Scene) -> None:
    scene.arrive(instance="1")
    scene.arrive(instance="2", patient_id="P2")
    scene.now += 30
    scene.close()
    held = item(scene)
    assert (held.reason, held.held) == (HELD_PATIENT_ID, True)
    assert work_items.claim(scene.ledger, 1, "me", scene.now) is None
    assert work_items.due(scene.ledger, scene.now, patience=5) == []


def test_studies_of_a_patient_day_are_scored_together(scene: Scene) -> None:
    scene.group_by = GroupBy.PATIENT_DAY
    scene.arrive(study="1.2")
    scene.now += 5
    scene.arrive(study="1.3")
    scene.now += 30
    (closed,) = scene.close()
    assert closed.study_instance_uid == "1.3", "filed in the newest"
    with scene.ledger.read() as connection:
        assert len(closing.group_content(connection, closed.group_id).digests) == 2


@pytest.mark.parametrize("order", ["before", "after", "with a report before"])
def test_a_study_without_ultrasound_of_the_same_day_gets_no_report(scene: Scene, order: str) -> None:
    scene.group_by = GroupBy.PATIENT_DAY
    if order == "before":
        scene.arrive(study="1.3", sop_class_uid=CT)
        scene.now += 1
    if order == "with a report before":
        scene.arrive(study="1.3", sop_class_uid=CT)
        scene.arrive(study="1.2", instance="0", sop_class_uid=SR)
        scene.now += 1
    scene.arrive(study="1.2")
    if order == "after":
        scene.now += 1
        scene.arrive(study="1.3", sop_class_uid=CT)
    scene.now += 30
    scene.close()
    assert item(scene).study_instance_uid == "1.2"
    scene.arrive(study="1.4", sop_class_uid=CT)
    planned = replay.plan(
        scene.ledger, "1.2", wanted=None, has_file=lambda _: True, archive_holds=lambda _: True, bundle_digest=BUNDLE
    )
    number = replay.schedule(scene.ledger, planned, bundle_digest=BUNDLE, now=scene.now)
    assert item(scene, number).study_instance_uid == "1.2"


def notified(scene: Scene, *instances: str) -> int:
    """Have an archive name these images."""
    named = tuple(
        AvailableInstance(sop_class_uid=US, sop_instance_uid=f"1.2.9.{one}", availability="ONLINE") for one in instances
    )
    notice = AvailabilityNotice(study_instance_uid="1.2", calling_ae_title="PACS", host="pacs", instances=named)
    made = fetching.note_availability(scene.ledger, notice, bundle_digest=BUNDLE, quiet_seconds=60, now=scene.now)
    assert made is not None
    return made


def test_a_part_that_comes_by_itself_ends_no_fetch_of_the_whole(scene: Scene) -> None:
    fetch = notified(scene, "1", "2", "3")
    scene.arrive(instance="1")
    scene.now += 30
    scene.close()
    assert item(scene, fetch).state is State.SCHEDULED, "else two of three images are never scored"


@pytest.mark.parametrize("removed", [False, True])
def test_what_was_fetched_and_came_by_itself_too_is_one_result(scene: Scene, removed: bool) -> None:
    number = notified(scene, "1", "2")
    scene.arrive(instance="1")
    scene.arrive(instance="2")
    scene.now += 60
    (closed,) = scene.close()
    assert closed.work_item_id is not None
    fetch = work_items.claim(scene.ledger, number, "me", scene.now)
    assert fetch is not None
    retrieval = retrievals.begin(scene.ledger, fetch, archive="PACS", now=scene.now)
    for instance in ("1", "2"):
        coerced = stored_file("1.2", instance, version="coerced by the archive")
        arrivals.record_instance(
            scene.ledger, coerced, association_id=None, group_by=scene.group_by, now=scene.now, retrieval_id=retrieval
        )
    if removed:
        with scene.ledger.write() as connection:
            connection.execute(t.instances.update().where(t.instances.c.id == 1).values(removed_at=scene.now))
    replay.settle_retrieval(scene.ledger, fetch, "me", retrieval_ids=[retrieval], now=scene.now)
    keys = {item(scene, one).result_key for one in (number, closed.work_item_id)}
    assert len(keys) == (2 if removed else 1)


def test_strangers_are_never_grouped(scene: Scene) -> None:
    scene.group_by = GroupBy.PATIENT_DAY
    for study, header in (("1.2", {"patient_id": ""}), ("1.3", {"patient_id": " "}), ("1.4", {"study_date": ""})):
        scene.arrive(study=study, **header)
    scene.now += 30
    assert len(scene.close()) == 3


def test_another_bundle_alone_makes_no_work(scene: Scene) -> None:
    scene.arrive()
    scene.now += 30
    scene.close()
    scene.now += 30
    assert scene.close(bundle="c" * 64) == []
