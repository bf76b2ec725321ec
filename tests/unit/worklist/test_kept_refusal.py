"""A refusal that no archive gets is a result all the same."""

from __future__ import annotations

from agent.domain.work_item import Cause, State, Step
from agent.worklist import results, work_items
from tests.unit.worklist.conftest import Scene
from tests.unit.worklist.test_results import ME, objects, outcome


def test_a_late_view_replaces_a_refusal_that_is_only_kept(scene: Scene) -> None:
    scene.arrive(instance="1")
    scene.now += 30
    scene.close()
    for step in (Step.SCORE, Step.REPORT, Step.DELIVER):
        item = work_items.claim(scene.ledger, 1, ME, scene.now, step=step)
        assert item is not None
        if step is Step.SCORE:
            results.keep_score(scene.ledger, item, ME, outcome(), scene.now)
        elif step is Step.REPORT:
            results.keep_objects(scene.ledger, item, ME, objects(item.result_key), (), scene.now)
        else:  # nothing is due, so no delivery begins
            results.finish_delivery(scene.ledger, item, ME, failed_because=None, now=scene.now)
    refused = work_items.find(scene.ledger, 1)
    assert refused is not None
    assert refused.state is State.CANCELED
    scene.arrive(instance="2")
    scene.now += 30
    (closed,) = scene.close()
    later = work_items.find(scene.ledger, closed.work_item_id or 0)
    assert later is not None
    assert (later.cause, later.replaces_key) == (Cause.ADDENDUM, refused.result_key)
