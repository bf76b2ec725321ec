"""Leases, compare-and-set, and what the reconciler wakes."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from agent.domain.errors import LostLeaseError
from agent.domain.work_item import CANCELED_BY_OPERATOR, State, Step
from agent.worklist import leases, reading, replay, work_items
from agent.worklist import tables as t
from agent.worklist.reconciler import reconcile
from tests.unit.worklist.conftest import BUNDLE, PATIENCE, Scene


@pytest.fixture
def closed(scene: Scene) -> Scene:
    """A study with one SCHEDULED work item."""
    scene.arrive()
    scene.now += 30
    scene.close()
    return scene


def test_a_work_item_is_claimed_only_at_the_step_that_is_wanted(scene: Scene) -> None:
    scene.arrive()
    scene.now += 30
    scene.close()
    assert work_items.claim(scene.ledger, 1, "me", scene.now, step=Step.DELIVER) is None
    claimed = work_items.claim(scene.ledger, 1, "me", scene.now, step=Step.SCORE)
    assert claimed is not None
    assert claimed.step is Step.SCORE


def test_one_of_two_gets_it(closed: Scene) -> None:
    assert work_items.claim(closed.ledger, 1, "one", closed.now) is not None
    assert work_items.claim(closed.ledger, 1, "two", closed.now) is None


def test_an_expired_lease_may_be_taken_and_the_first_owner_has_lost_it(closed: Scene) -> None:
    work_items.claim(closed.ledger, 1, "one", closed.now)
    closed.now += work_items.LEASE_SECONDS
    taken = work_items.claim(closed.ledger, 1, "two", closed.now)
    assert taken is not None
    assert taken.attempts == 2
    with pytest.raises(LostLeaseError), closed.ledger.write() as connection:
        work_items.advance(connection, 1, "one", done=Step.SCORE, step=Step.REPORT, now=closed.now, outcome="late")
    assert reading.show(closed.ledger, "1.2")["times"]["steps"][0]["outcome"] == "abandoned"


def test_a_renewed_lease_may_not(closed: Scene) -> None:
    work_items.claim(closed.ledger, 1, "one", closed.now)
    closed.now += 10
    work_items.renew(closed.ledger, "one", closed.now, {1})
    closed.now += 10
    assert work_items.claim(closed.ledger, 1, "two", closed.now) is None


def test_given_back_it_waits_its_time(closed: Scene) -> None:
    work_items.claim(closed.ledger, 1, "one", closed.now)
    work_items.give_back(closed.ledger, 1, "one", now=closed.now, not_before=closed.now + 5, error="not now")
    assert work_items.claim(closed.ledger, 1, "two", closed.now) is None
    assert work_items.claim(closed.ledger, 1, "two", closed.now + 5) is not None


def test_giving_back_what_is_lost_changes_nothing(closed: Scene) -> None:
    work_items.claim(closed.ledger, 1, "one", closed.now)
    later = closed.now + work_items.LEASE_SECONDS
    work_items.claim(closed.ledger, 1, "two", later)
    work_items.give_back(closed.ledger, 1, "one", now=later, not_before=later + 99, error="x")
    with closed.ledger.read() as connection:
        assert connection.execute(sa.select(t.work_items.c.lease_owner)).scalar_one() == "two"


def test_leases_of_the_dead_are_released_by_prefix(closed: Scene) -> None:
    work_items.claim(closed.ledger, 1, "host/a%b/score-1", closed.now)
    assert work_items.release_leases(closed.ledger, "host/other/", closed.now) == 0
    assert work_items.release_leases(closed.ledger, "host/aXb/", closed.now) == 0, "% is no wildcard"
    assert work_items.release_leases(closed.ledger, "host/a%b/", closed.now) == 1
    assert work_items.claim(closed.ledger, 1, "two", closed.now) is not None


def test_a_finished_work_item_stays_finished(closed: Scene) -> None:
    work_items.claim(closed.ledger, 1, "one", closed.now)
    with closed.ledger.write() as connection:
        done = {"done": Step.SCORE, "state": State.COMPLETED, "reason": None, "now": closed.now}
        work_items.finish(connection, 1, "one", **done)
    assert work_items.claim(closed.ledger, 1, "two", closed.now + 100) is None
    assert not replay.cancel(closed.ledger, 1, reason=CANCELED_BY_OPERATOR, now=closed.now)


@pytest.mark.parametrize("claimed", [False, True])
def test_cancel_in_every_live_state(closed: Scene, claimed: bool) -> None:
    if claimed:
        work_items.claim(closed.ledger, 1, "one", closed.now)
    assert replay.cancel(closed.ledger, 1, reason=CANCELED_BY_OPERATOR, now=closed.now)
    with pytest.raises(LostLeaseError), closed.ledger.write() as connection:
        work_items.check_lease(connection, 1, "one", Step.SCORE)


def test_the_reconciler_wakes_and_wakes_again(closed: Scene) -> None:
    woken: list[tuple[int, Step]] = []

    def look(owner: str = "one"):
        return reconcile(
            closed.ledger,
            owner=owner,
            patience=PATIENCE,
            bundle_digest=BUNDLE,
            wake=lambda number, step: woken.append((number, step)),
            now=closed.now,
        )

    assert look().woken == 1
    assert look().woken == 0, "not at every tick"
    assert not look("two").leading
    closed.now += 5
    assert look().woken == 1, "a wake-up that nobody heard is repeated"
    closed.now += 7
    assert look("two").leading, "the lease of a dead reconciler expires"
    assert woken == [(1, Step.SCORE)] * 3


def test_the_reconciler_closes_what_is_complete(scene: Scene) -> None:
    scene.arrive()
    scene.now += 30
    woken: list[int] = []
    tick = reconcile(
        scene.ledger,
        owner="one",
        patience=PATIENCE,
        bundle_digest=BUNDLE,
        wake=lambda number, _step: woken.append(number),
        now=scene.now,
    )
    assert [closed.work_item_id for closed in tick.closed] == woken == [1]


def test_live_work_comes_before_replays(closed: Scene) -> None:
    planned = replay.plan(
        closed.ledger,
        "1.2",
        wanted=None,
        has_file=lambda _sha256: True,
        archive_holds=lambda _uid: False,
        bundle_digest=BUNDLE,
    )
    replay.schedule(closed.ledger, planned, bundle_digest=BUNDLE, now=closed.now)
    closed.arrive(study="1.3")
    closed.now += 30
    closed.close()
    assert [number for number, _ in work_items.due(closed.ledger, closed.now, patience=5)] == [1, 3, 2]


def test_named_leases(scene: Scene) -> None:
    assert leases.hold(scene.ledger, "ready:score:1", "one", now=0, seconds=10)
    assert not leases.hold(scene.ledger, "ready:score:1", "two", now=9, seconds=10)
    assert leases.hold(scene.ledger, "ready:score:1", "two", now=10, seconds=10)
    assert leases.active(scene.ledger, "ready:score:", now=19) == ["ready:score:1"]
    assert leases.active(scene.ledger, "ready:score:", now=20) == []


def test_a_lease_that_nobody_works_under_is_not_renewed(closed: Scene) -> None:
    work_items.claim(closed.ledger, 1, "one", closed.now)
    closed.now += work_items.LEASE_SECONDS - 1
    work_items.renew(closed.ledger, "one", closed.now, frozenset())
    closed.now += 1
    assert work_items.claim(closed.ledger, 1, "two", closed.now) is not None
