"""Files go only where the archive proves to have every instance, and nobody is told Success for what is gone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from sqlalchemy import insert, update

from agent.domain.results import DeliveryState
from agent.serve.commands.comparison import compared
from agent.store.temporaries import collect_of_listeners, collect_of_workers
from agent.tasks.retention import Retention
from agent.worklist import retention
from agent.worklist import tables as t
from tests.unit.deliver.wayward_archive import SCU
from tests.unit.receive.reception import STUDY, Reception, instance, wait_for
from tests.unit.retrieve.wayward_source import WaywardSource

DAY = 86_400.0
OTHER = {"StudyInstanceUID": f"{STUDY}.2", "PatientID": "P2"}


@pytest.fixture
def reception(tmp_path: Path) -> Iterator[Reception]:
    """Two finished, proved studies; the first of two instances."""
    with Reception(tmp_path / "data") as listening:
        assert listening.send(instance(1), instance(2), instance(3, **OTHER)) == [0, 0, 0]
        wait_for(lambda: all(row.closed_at for row in listening.rows(t.associations)))
        for number, study in enumerate((STUDY, f"{STUDY}.2"), 1):
            finish(listening, number, study)
        change(listening, t.groups, receiving=False)
        yield listening


def change(reception: Reception, table: Any, **values: Any) -> None:
    with reception.ledger.write() as connection:
        connection.execute(update(table).values(values))


def finish(reception: Reception, number: int, study: str) -> None:
    (group,) = {row.group_id for row in reception.rows(t.studies) if row.study_instance_uid == study}
    with reception.ledger.write() as connection:
        empty = {column.name: 0 for column in t.work_items.columns if not column.nullable}
        item = {"id": number, "group_id": group, "study_instance_uid": study, "state": "COMPLETED", "finished_at": 5.0}
        connection.execute(insert(t.work_items).values(empty | {"step": "deliver"} | item))
        made = {"result_key": "k", "kind": "x", "position": 0, "series_instance_uid": "1", "sha256": "0", "bytes": 1}
        made |= {"sop_instance_uid": f"9.{number}", "sop_class_uid": "1.2.3", "study_instance_uid": study}
        connection.execute(insert(t.result_objects).values(made))
        row = {"work_item_id": number, "sop_instance_uid": f"9.{number}", "destination": "PACS@h:1"}
        row |= {"state": DeliveryState.PROVED, "attempts": 1, "not_before": 0, "look_first": False}
        connection.execute(insert(t.outbox).values(row))


@pytest.fixture
def source(reception: Reception) -> Iterator[WaywardSource]:
    with WaywardSource([path.read_bytes() for path in reception.stored()]) as archive:
        yield archive


def keeper(reception: Reception, source: WaywardSource, **limits: Any) -> Retention:
    told: list[Any] = []
    return Retention(
        ledger=reception.ledger,
        layout=reception.layout,
        archive=source.archive,
        scu=SCU,
        **{"keep_seconds": None, "keep_bytes": None, "audit": told.append, "log": structlog.get_logger(), **limits},
    )


def left(reception: Reception) -> set[str]:
    return {row.sop_instance_uid for row in reception.rows(t.instances) if not reception.files.missing(row.sha256)}


ALL = {f"{STUDY}.{number}" for number in (1, 2, 3)}


def test_off_by_default(reception: Reception, source: WaywardSource) -> None:
    assert keeper(reception, source).look(time.time() + 1000 * DAY) == 0
    assert left(reception) == ALL


def test_by_age(reception: Reception, source: WaywardSource) -> None:
    keep = keeper(reception, source, keep_seconds=7 * DAY)
    assert keep.look(time.time() + 6 * DAY) == 0
    assert keep.look(time.time() + 8 * DAY) == 2
    assert left(reception) == set()
    assert keep.look(time.time() + 8 * DAY) == 0
    rows = reception.rows(t.instances)
    assert len(rows) == 3
    assert all(row.removed_at for row in rows)
    assert not [
        found
        for found in compared(reception.ledger, reception.layout, reception.files)
        if "instance" in found.subject and found.names
    ]


def test_by_size_oldest_first(reception: Reception, source: WaywardSource) -> None:
    (newer,) = [row.bytes for row in reception.rows(t.instances) if row.study_instance_uid != STUDY]
    assert keeper(reception, source, keep_bytes=newer).look(time.time()) == 1
    assert left(reception) == {f"{STUDY}.3"}


@pytest.mark.parametrize(
    ("table", "values"),
    [
        (t.groups, {"receiving": True}),
        (t.work_items, {"state": "IN PROGRESS"}),
        (t.work_items, {"state": "SCHEDULED"}),
        (t.outbox, {"state": DeliveryState.SENT}),
        (t.outbox, {"state": DeliveryState.FAILED}),
        (t.outbox, {"destination": None}),
        (t.instances, {"conflict": True}),
    ],
    ids=str,
)
def test_what_keeps_a_study(reception: Reception, source: WaywardSource, table: Any, values: dict[str, Any]) -> None:
    change(reception, table, **values)
    assert keeper(reception, source, keep_seconds=1.0).look(time.time() + DAY) == 0
    assert left(reception) == ALL


def test_a_retrieval_that_came_to_nothing_keeps_no_study(reception: Reception, source: WaywardSource) -> None:
    values = {"work_item_id": 1, "study_instance_uid": STUDY, "archive": "A", "started_at": 1.0}
    with reception.ledger.write() as connection:
        connection.execute(insert(t.retrievals).values(values))
    assert keeper(reception, source, keep_seconds=1.0).look(time.time() + DAY) == 2


def test_what_the_archive_lacks_stays(reception: Reception, source: WaywardSource) -> None:
    source.held = [one for one in source.held if one.SOPInstanceUID != f"{STUDY}.2"]
    assert keeper(reception, source, keep_seconds=1.0).look(time.time() + DAY) == 1
    assert left(reception) == {f"{STUDY}.1", f"{STUDY}.2"}


def test_an_archive_that_is_away_removes_nothing(reception: Reception, source: WaywardSource) -> None:
    keep = keeper(reception, source, keep_seconds=1.0)
    source._server.shutdown()
    assert keep.look(time.time() + DAY) == 0
    assert left(reception) == ALL
    source.start()


def test_a_trail_that_cannot_be_written_removes_nothing(reception: Reception, source: WaywardSource) -> None:
    def full(_study: object) -> None:
        raise OSError(28, "No space left on device")

    assert keeper(reception, source, keep_seconds=1.0, audit=full).look(time.time() + DAY) == 0
    assert left(reception) == ALL


def test_received_again_after_removal(reception: Reception, source: WaywardSource) -> None:
    assert keeper(reception, source, keep_seconds=1.0).look(time.time() + DAY) == 2
    assert reception.send(instance(1)) == [0]
    assert left(reception) == {f"{STUDY}.1"}
    assert [row.removed_at is None for row in reception.rows(t.instances)] == [True, False, False]


def test_removed_while_it_comes_again(
    reception: Reception, source: WaywardSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file was there when the sender's bytes were compared, and gone when its row was written: not Success."""
    (study,) = [
        found
        for found in retention.removable(reception.ledger, received_before=time.time() + DAY)
        if found.study_instance_uid == STUDY
    ]
    real = reception.files.name_together

    def then_removed(sealed: Any) -> Any:
        errors = real(sealed)
        unlink = lambda sha256: reception.layout.instance(sha256).unlink()  # noqa: E731
        assert retention.remove(reception.ledger, study, now=time.time(), unlink=unlink)
        return errors

    with monkeypatch.context() as patch:
        patch.setattr(reception.files, "name_together", then_removed)
        assert reception.send(instance(1)) == [0xA700]
    assert reception.send(instance(1)) == [0]
    assert f"{STUDY}.1" in left(reception)


def test_what_changed_since_it_was_judged_stays(reception: Reception) -> None:
    (study, _) = retention.removable(reception.ledger, received_before=time.time() + DAY)
    assert reception.send(instance(7)) == [0]
    change(reception, t.groups, receiving=False)
    assert not retention.remove(reception.ledger, study, now=time.time(), unlink=lambda _sha256: None)
    assert all(row.removed_at is None for row in reception.rows(t.instances))


def test_deep_comparison_names_each_fault(reception: Reception) -> None:
    def faults() -> set[str]:
        return {found.subject for found in compared(reception.ledger, reception.layout, reception.files) if found.names}

    before = faults()
    first, second, third = reception.stored()
    first.unlink()
    second.write_bytes(second.read_bytes()[:-1] + b"?")
    third.write_bytes(b"")
    third.with_name("0" * 64 + ".dcm").write_bytes(b"x")
    reception.layout.result_folder("ab" * 32).mkdir(parents=True)
    (reception.layout.result_folder("ab" * 32) / "1.2.dcm").write_bytes(b"x")
    assert faults() - before == {
        "instance rows without file",
        "instance files changed",
        "instance files without row",
        "result files without row",
        "result folders without score",
    }


def test_temporaries_are_collected(reception: Reception) -> None:
    folder = reception.layout.result_folder("ab" * 32)
    folder.mkdir(parents=True)
    for path in (reception.layout.incoming / "a.part", folder / ".views.npz.7.part", folder / "kept.dcm"):
        path.write_bytes(b"x")
    assert collect_of_listeners(reception.layout) == 1
    assert collect_of_workers(reception.layout) == 1
    assert list(folder.iterdir()) == [folder / "kept.dcm"]
