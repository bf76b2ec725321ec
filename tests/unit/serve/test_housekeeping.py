"""What a worker does each minute for the data folder."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from agent.serve.composition.context import ledger_of
from agent.serve.housekeeping import make_room
from agent.settings import load_settings
from agent.worklist import arrivals
from agent.worklist import tables as t
from agent.worklist.ledger import Ledger


def ended(ledger: Ledger, days_ago: float) -> None:
    """An association that brought nothing, ended some days ago and is in the audit trail."""
    at = time.time() - days_ago * 86_400
    row = arrivals.open_association(ledger, 256, owner="o", calling="US1", called="STEATOSIS", host="::1", now=at)
    assert row is not None
    arrivals.close_association(ledger, row, outcome="released", now=at)
    with ledger.write() as connection:
        connection.execute(sa.update(t.associations).values(audited_at=at))


def left(ledger: Ledger) -> int:
    with ledger.read() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(t.associations)).scalar_one())


@pytest.mark.parametrize(("days", "stay"), [("90", 1), ("365", 2)])
def test_history_goes_after_its_days_and_is_looked_at_once_an_hour(tmp_path: Path, days: str, stay: int) -> None:
    settings = load_settings(None, {"AGENT_STORAGE__DATA_DIR": str(tmp_path), "AGENT_STORAGE__HISTORY_DAYS": days})
    ledger = ledger_of(settings)
    ended(ledger, 100)
    ended(ledger, 80)
    make_room(settings, ledger, "host/x/score-1")
    assert left(ledger) == stay
    ended(ledger, 1000)
    for owner in ("host/x/score-1", "host/x/score-2"):
        make_room(settings, ledger, owner)
    assert left(ledger) == stay + 1, "until the hour is over"
    ledger.close()
