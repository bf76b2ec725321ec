"""A clock that is set back leaves nothing waiting until it has caught up."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from agent.domain.work_item import Step
from agent.worklist import leases, reconciler, setback, work_items
from agent.worklist import tables as t
from tests.unit.worklist.conftest import BUNDLE, PATIENCE, Scene

HALF_AN_HOUR, DAY = 1_800.0, 86_400.0


def look(scene: Scene, owner: str = "host/x/score-2") -> tuple[reconciler.Tick, list[int]]:
    woken: list[int] = []
    tick = reconciler.reconcile(
        scene.ledger,
        owner=owner,
        patience=PATIENCE,
        bundle_digest=BUNDLE,
        wake=lambda number, _step: woken.append(number),
        now=scene.now,
    )
    return tick, woken


@pytest.fixture
def ahead(scene: Scene) -> Scene:
    """A day ahead: the reconciler's worker has died since."""
    scene.now += DAY
    assert look(scene, "host/x/score-1")[0].leading
    return scene


def test_a_study_that_was_received_ahead_closes_after_its_quiet_time(ahead: Scene) -> None:
    ahead.arrive()
    ahead.now -= DAY
    tick, _ = look(ahead)
    assert (tick.leading, tick.mended, tick.closed) == (True, 1, ())
    ahead.now += 30
    assert len(look(ahead)[0].closed) == 1
    assert look(ahead)[0].mended == 0


@pytest.mark.parametrize("was", ["woken", "claimed", "put off"])
def test_a_work_item_is_woken_again(ahead: Scene, was: str) -> None:
    ahead.arrive()
    ahead.now += 30
    ahead.close()
    if was == "woken":
        assert look(ahead, "host/x/score-1")[1] == [1]
    else:
        assert work_items.claim(ahead.ledger, 1, "host/x/score-1", ahead.now) is not None
    if was == "put off":
        later = ahead.now + 60
        work_items.give_back(ahead.ledger, 1, "host/x/score-1", now=ahead.now, not_before=later, error="away")
    ahead.now -= DAY
    assert look(ahead)[1] == [1]
    assert work_items.claim(ahead.ledger, 1, "host/x/score-2", ahead.now, step=Step.SCORE) is not None


def test_what_the_dead_held_half_an_hour_ahead_is_free(scene: Scene) -> None:
    scene.arrive()
    scene.now += 30
    scene.close()
    scene.now += HALF_AN_HOUR
    assert look(scene, "host/x/score-1")[1] == [1]
    assert work_items.claim(scene.ledger, 1, "host/x/score-1", scene.now) is not None
    leases.hold(scene.ledger, "away:PACS@pacs:104", "x", now=scene.now, seconds=15)
    scene.now -= HALF_AN_HOUR
    assert look(scene)[1] == [1]
    assert leases.active(scene.ledger, "away:", scene.now) == []
    assert work_items.claim(scene.ledger, 1, "host/x/score-2", scene.now) is not None


def test_an_archive_that_is_left_alone_is_not_for_a_day(ahead: Scene) -> None:
    leases.hold(ahead.ledger, "away:PACS@pacs:104", "x", now=ahead.now, seconds=15)
    ahead.now -= DAY
    look(ahead)
    assert leases.active(ahead.ledger, "away:", ahead.now) == []


def test_what_waits_as_it_should_is_let_be(scene: Scene) -> None:
    scene.arrive()
    scene.now += 30
    scene.close()
    assert look(scene)[1] == [1]
    assert work_items.claim(scene.ledger, 1, "host/x/score-1", scene.now) is not None
    work_items.give_back(scene.ledger, 1, "host/x/score-1", now=scene.now, not_before=scene.now + 3000, error="away")
    scene.now -= 30  # as another host's clock may differ
    assert setback.mend(scene.ledger, scene.now) == 0
    with scene.ledger.read() as connection:
        assert connection.execute(sa.select(t.work_items.c.not_before)).scalar_one() > scene.now + 3000
