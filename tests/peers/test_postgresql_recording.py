"""Listeners on several hosts record one new study at the same moment: each acknowledges, none fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from agent.worklist import recording
from agent.worklist.grouping import GroupBy
from agent.worklist.ledger import Ledger
from agent.worklist.recording import Arrival
from tests.peers.postgresql import Postgresql
from tests.unit.worklist.conftest import stored_file

pytestmark = pytest.mark.peers
LISTENERS, STUDIES = 4, 25


def test_the_first_images_of_a_study_come_to_several_listeners(free_port: Callable[[], int]) -> None:
    with Postgresql(free_port()) as database:
        ledgers = [Ledger(database.url) for _ in range(LISTENERS)]
        ledgers[0].prepare()
        faults: list[Exception] = []

        def record(ledger: Ledger, study: str, instance: str, together: threading.Barrier) -> None:
            arrival = Arrival(stored=stored_file(study, instance), association_id=None)
            together.wait()
            try:
                recording.record_arrivals(ledger, [arrival], group_by=GroupBy.STUDY, now=time.time())
            except Exception as error:  # noqa: BLE001 - told by the test
                faults.append(error)

        for study in range(STUDIES):
            together = threading.Barrier(LISTENERS)
            threads = [
                threading.Thread(target=record, args=(ledger, f"1.2.{study}", str(number), together))
                for number, ledger in enumerate(ledgers)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        for ledger in ledgers:
            ledger.close()
    assert faults == []
