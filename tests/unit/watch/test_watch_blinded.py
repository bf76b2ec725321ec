"""What watches the model tells nothing of a blinded result before its release."""

from __future__ import annotations

import sqlalchemy as sa

from agent.watch import observations, readers, shadow
from agent.watch.observations import Observation
from agent.worklist import blinding
from agent.worklist import tables as t
from tests.unit.watch.conftest import Observe
from tests.unit.watch.test_watch_readers import SHADOW, grade, scored
from tests.unit.worklist.conftest import BUNDLE, Scene


def _told(scene: Scene) -> tuple[int, int, int, int]:
    """Pairs with the shadow, pairs with readers, observations since ever, observations of the reference."""
    first: dict[str, list[Observation]] = observations.first_of_each(scene.ledger, BUNDLE, "scanner", 10)
    return (
        len(shadow.shadow_agreement(scene.ledger, live=BUNDLE, shadow=SHADOW).pairs),
        len(readers.readers_report(scene.ledger).every.pairs),
        len(observations.since(scene.ledger, BUNDLE, 0.0)),
        sum(len(found) for found in first.values()),
    )


def test_blinded_results_are_not_compared_before_their_release(scene: Scene, observe: Observe) -> None:
    scored(scene, "1.2.1", "S2")
    grade(scene, "1.2.1", "S2")
    observe(1, first=0.0, days=1.0)  # of group 1.2.1
    with scene.ledger.write() as connection:
        key = connection.execute(
            sa.update(t.scores).values(withheld=True).returning(t.scores.c.result_key)
        ).scalar_one()
        answer = {"result_key": key, "bundle_digest": SHADOW, "attempts": 1, "state": shadow.DONE, "grade": "S1"}
        connection.execute(sa.insert(t.shadow_scores).values(study_instance_uid="1.2.1", at=scene.now, **answer))
    assert _told(scene) == (0, 0, 0, 0)
    blinding.release(scene.ledger, "1.2.1", by="tester", now=scene.now)
    assert _told(scene) == (1, 1, 1, 1)
