"""Two listeners may begin with the same study at the same moment."""

from __future__ import annotations

import sqlalchemy as sa

from agent.worklist import recording
from agent.worklist import tables as t
from tests.unit.worklist.conftest import Scene, stored_file


def test_a_study_that_another_listener_recorded_since_it_was_looked_for_is_no_fault(scene: Scene) -> None:
    header = stored_file("1.2", "1").header
    with scene.ledger.write_prepared() as connection:
        for moment in (1.0, 2.0):  # both looked before, and found nothing
            recording._new_study(connection, header, scene.group_by, moment)
    with scene.ledger.read() as connection:
        assert connection.execute(sa.select(t.groups.c.first_at)).scalars().all() == [1.0]
        assert connection.execute(sa.select(t.studies.c.first_at)).scalars().all() == [1.0]
