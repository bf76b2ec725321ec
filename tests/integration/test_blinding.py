"""Blinded results: kept, sent to nobody before their release, and the same afterwards."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from agent.deliver.deliver_result import DeliveryOutcome, deliver_result
from agent.domain.errors import NotFoundError
from agent.domain.results import DeliveryState
from agent.domain.work_item import SUPERSEDED, WITHHELD, Cause, State, Step
from agent.worklist import blinding, browsing, reading, replay, work_items
from agent.worklist import tables as t
from tests.unit.deliver.outbox_fixture import LOG, OWNER, Desk, make_desk
from tests.unit.deliver.wayward_archive import SCU, WaywardArchive
from tests.unit.report.report_sources import outcome

STUDY = "1.2.3"
VIEWS = [("1.2.3.9.1", 1)]


def deliver(desk: Desk) -> DeliveryOutcome:
    return deliver_result(desk.ledger, desk.layout, desk.item, OWNER, SCU, time.time, random.Random(1), LOG)


def item(desk: Desk, number: int) -> tuple[str, str | None]:
    found = work_items.find(desk.ledger, number)
    assert found is not None
    return found.state, found.reason


def release(desk: Desk, study: str | None = STUDY, *, dry_run: bool = False) -> list[blinding.Released]:
    return blinding.release(desk.ledger, study, by="tester", now=time.time(), dry_run=dry_run)


def test_nothing_leaves_before_the_release_and_everything_after(tmp_path: Path) -> None:
    with WaywardArchive() as pacs:
        desk = make_desk(tmp_path, (pacs.name,), outcome=outcome(VIEWS), withheld=True)
        assert deliver(desk) == DeliveryOutcome(state=State.SCHEDULED, reason=WITHHELD)
        assert (pacs.associations, pacs.stored) == (0, {})
        assert work_items.claim(desk.ledger, desk.item.id, OWNER, time.time()) is None, "nobody may take it"
        assert work_items.due(desk.ledger, time.time(), patience=0) == []
        assert [one.work_items for one in release(desk, dry_run=True)] == [(1,)]
        assert item(desk, 1) == (State.SCHEDULED, WITHHELD), "a dry run changes nothing"
        assert [one.study_instance_uid for one in release(desk)] == [STUDY]
        assert release(desk) == [], "released once"
        assert work_items.due(desk.ledger, time.time(), patience=0) == [(1, Step.DELIVER)]
        desk.claim()
        assert deliver(desk).state is State.COMPLETED
        assert set(pacs.stored) == set(desk.encoded)


def test_a_result_that_is_only_kept_is_withheld_too(tmp_path: Path) -> None:
    desk = make_desk(tmp_path, (), outcome=outcome(VIEWS), withheld=True)
    assert deliver(desk).reason == WITHHELD
    release(desk, None)
    desk.claim()
    assert deliver(desk).state is State.COMPLETED
    assert {row.state for row in desk.rows()} == {DeliveryState.KEPT}


def test_a_replay_stays_withheld_and_stands_for_the_first(tmp_path: Path) -> None:
    with WaywardArchive() as pacs:
        desk = make_desk(tmp_path, (pacs.name,), outcome=outcome(VIEWS), withheld=True)
        deliver(desk)
        replayed(desk, pacs.name)
        assert deliver(desk).reason == WITHHELD
        assert item(desk, 1) == (State.CANCELED, SUPERSEDED)
        assert pacs.stored == {}
        assert [one.work_items for one in release(desk)] == [(2,)]
        desk.claim()
        assert deliver(desk).state is State.COMPLETED
        # once released, a replay is an ordinary one
        replayed(desk, pacs.name)
        assert deliver(desk).state is State.COMPLETED
        assert set(pacs.stored) == set(desk.encoded)


def replayed(desk: Desk, destination: str) -> None:
    """Make a replay of the same key, known as it is, and claim it for delivery."""
    made = replay.retry(desk.ledger, desk.item, cause=Cause.REPLAY, now=time.time())
    with desk.ledger.write() as connection:
        connection.execute(sa.update(t.work_items).where(t.work_items.c.id == made).values(step=Step.SCORE))
    again = work_items.claim(desk.ledger, made, OWNER, time.time())
    assert again is not None
    assert replay.skip_to_delivery(
        desk.ledger, again, OWNER, destinations=(destination,), intact=lambda _digests: True, now=time.time()
    )
    desk.item = again
    desk.claim()


def test_one_blinded_destination_waits_while_the_other_gets_its_results(tmp_path: Path) -> None:
    with WaywardArchive() as open_one, WaywardArchive() as blind:
        desk = make_desk(tmp_path, (open_one.name, blind.name), blinded=frozenset({blind.name}))
        assert deliver(desk).reason == WITHHELD
        assert (set(open_one.stored), blind.stored) == (set(desk.encoded), {})
        release(desk)
        desk.claim()
        assert deliver(desk).state is State.COMPLETED
        assert set(blind.stored) == set(desk.encoded)
        assert open_one.associations == 1, "what was proved is not asked for again"


def test_a_release_that_comes_while_it_is_laid_aside(tmp_path: Path) -> None:
    desk = make_desk(tmp_path, (), outcome=outcome(VIEWS), withheld=True)
    release(desk)
    assert blinding.withhold(desk.ledger, desk.item, OWNER, time.time()) is False
    assert {row.state for row in desk.rows()} == {DeliveryState.KEPT}


def test_release_of_an_unknown_study(tmp_path: Path) -> None:
    desk = make_desk(tmp_path, (), outcome=outcome(VIEWS), withheld=True)
    with pytest.raises(NotFoundError):
        release(desk, "9.9")


def test_nothing_tells_the_result_before_its_release(tmp_path: Path) -> None:
    scored = outcome(VIEWS)
    assert scored.score is not None
    desk = make_desk(tmp_path, (), outcome=scored, withheld=True)
    deliver(desk)
    shown = reading.show(desk.ledger, STUDY)
    assert (shown["withheld"], shown["score"], shown["refusal"]) == (True, None, None)
    assert all(view["probabilities"] is None for view in shown["views"])
    told = repr([shown, reading.worklist(desk.ledger), browsing.browse(desk.ledger, browsing.Query())])
    assert scored.score.grade not in told.replace("1.2.3", "")
    assert str(scored.score.fat_fraction_percent) not in told
    assert [step["outcome"] for step in shown["times"]["steps"] if step["step"] == "score"] == [WITHHELD]
    for sort in ("grade", "fat", "certainty"):
        assert browsing.browse(desk.ledger, browsing.Query(sort=sort)).total == 1
    seen = reading.show(desk.ledger, STUDY, unblinded=True)
    assert seen["score"]["grade"] == scored.score.grade
    release(desk)
    assert reading.show(desk.ledger, STUDY)["score"]["grade"] == scored.score.grade
    assert reading.show(desk.ledger, STUDY)["withheld"] is False
