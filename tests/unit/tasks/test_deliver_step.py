"""The delivery step: what is not whole is built again, but not for ever."""

from __future__ import annotations

import time
from pathlib import Path

import sqlalchemy as sa

from agent.domain.work_item import State, Step
from agent.store.result_files import object_path
from agent.tasks.deliver import DeliverStep
from agent.worklist import tables as t
from agent.worklist import work_items
from tests.unit.deliver.outbox_fixture import LOG, OWNER, make_desk
from tests.unit.deliver.wayward_archive import SCU


def test_objects_that_are_never_whole_end_as_a_dead_letter(tmp_path: Path) -> None:
    desk, woken = make_desk(tmp_path, ("PACS@127.0.0.1:1",)), list[tuple[int, Step]]()
    step = DeliverStep(
        ledger=desk.ledger, layout=desk.layout, owner=OWNER, scu=SCU, commitment_seconds=0.0,
        wake=lambda number, step: woken.append((number, step)), now=time.time,
    )  # fmt: skip
    object_path(desk.layout, desk.item.result_key, desk.rows()[0].sop_instance_uid).unlink()
    for _ in range(work_items.MOST_ATTEMPTS):
        step(desk.item, LOG)
        again = work_items.find(desk.ledger, desk.item.id)
        assert again is not None
        assert again.step is Step.SCORE
        with desk.ledger.write() as connection:  # as if it had been built, and went missing again
            connection.execute(sa.update(t.work_items).values(step=Step.DELIVER))
        desk.claim()
    step(desk.item, LOG)
    ended = work_items.find(desk.ledger, desk.item.id)
    assert ended is not None
    assert (ended.state, ended.failed, len(woken)) == (State.CANCELED, True, work_items.MOST_ATTEMPTS)
    assert "cannot be read: No such file" in (ended.reason or "")
