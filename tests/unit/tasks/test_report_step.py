"""The report step: an object that breaks a rule is kept for whoever mends it, and nothing of the result is sent."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import structlog

from agent.domain.identifiers import Archive
from agent.domain.work_item import State, Step
from agent.report import gate
from agent.store.layout import Layout
from agent.tasks.pictures import Pictures
from agent.tasks.report import ReportStep
from agent.tasks.runner import Runner
from agent.worklist import outbox, results, work_items
from agent.worklist import tables as t
from tests.unit.report.report_sources import STUDY, request, source
from tests.unit.worklist.conftest import Scene, scene  # noqa: F401 - a fixture

ME = "host/x/score-1"


def scored(scene: Scene, layout: Layout, folder: Path) -> ReportStep:  # noqa: F811
    """Take a study to the point where it is reported."""
    asked = request(folder, [source(1)])
    scene.arrive(study=STUDY, instance="1")
    with scene.ledger.write() as connection:
        uid = str(source(1).SOPInstanceUID)
        connection.execute(t.instances.update().values(sop_instance_uid=uid))
    scene.now += 30
    scene.close()
    item = work_items.claim(scene.ledger, 1, ME, scene.now)
    assert item is not None
    (instance,) = results.instances_of(scene.ledger, item.id)
    path = layout.instance(instance.sha256)
    path.parent.mkdir(parents=True)
    path.write_bytes(asked.evidence[0].read_bytes())
    pictures = Pictures(layout)
    pictures.keep(item.result_key, asked.pictures)
    results.keep_score(scene.ledger, item, ME, replace(asked.outcome), scene.now)
    return ReportStep(
        ledger=scene.ledger, layout=layout, owner=ME, destinations=(Archive.parse("PACS@pacs:104"),),
        extras={}, station_name="STEATOSIS", pictures=pictures, wake=lambda _number, _step: None, now=lambda: scene.now,
    )  # fmt: skip


def test_objects_that_pass_wait_for_delivery(scene: Scene, tmp_path: Path) -> None:  # noqa: F811
    layout = Layout(tmp_path / "data")
    step = scored(scene, layout, tmp_path)
    item = work_items.claim(scene.ledger, 1, ME, scene.now)
    assert item is not None
    step(item, structlog.get_logger())
    assert len(outbox.deliveries(scene.ledger, 1)) == 3
    assert not layout.quarantine.exists()


def test_pictures_from_memory_and_from_the_store_make_the_same_report(scene: Scene, tmp_path: Path) -> None:  # noqa: F811
    layout = Layout(tmp_path / "data")
    step = scored(scene, layout, tmp_path)
    item = work_items.claim(scene.ledger, 1, ME, scene.now)
    assert item is not None
    step(item, structlog.get_logger())
    folder = layout.result_folder(item.result_key)
    first = {path.name: path.read_bytes() for path in folder.glob("*.dcm")}
    with scene.ledger.write() as connection:
        connection.execute(t.work_items.update().values(step=Step.REPORT, state=State.SCHEDULED))
    item = work_items.claim(scene.ledger, 1, ME, scene.now)
    assert item is not None
    step(item, structlog.get_logger())
    assert {path.name: path.read_bytes() for path in folder.glob("*.dcm")} == first
    assert len(first) == 3


@pytest.mark.parametrize("left", [None, b"", b"PK\3\4 half of it"])
def test_what_a_power_cut_took_of_the_pictures_is_scored_again(
    scene: Scene, tmp_path: Path, left: bytes | None  # noqa: F811
) -> None:  # fmt: skip
    layout = Layout(tmp_path / "data")
    step = replace(scored(scene, layout, tmp_path), pictures=Pictures(layout))
    item = work_items.claim(scene.ledger, 1, ME, scene.now)
    assert item is not None
    kept = layout.result_folder(item.result_key) / "views.npz"
    kept.unlink() if left is None else kept.write_bytes(left)
    step(item, structlog.get_logger())
    again = work_items.find(scene.ledger, 1)
    assert again is not None
    assert (again.step, again.state) == (Step.SCORE, State.IN_PROGRESS)
    assert work_items.claim(scene.ledger, 1, ME, scene.now) is not None


def test_an_invalid_object_is_quarantined_and_nothing_is_sent(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:  # fmt: skip
    layout = Layout(tmp_path / "data")
    step = scored(scene, layout, tmp_path)
    monkeypatch.setitem(gate.RULES, "sizes", lambda one: None if one.is_report else "a picture too many")
    runner = Runner(
        ledger=scene.ledger, owner=ME, queue="score", steps={Step.REPORT: step},
        wake=lambda _number, _step: None, now=lambda: scene.now,
    )  # fmt: skip
    runner.run(1)
    item = work_items.find(scene.ledger, 1)
    assert item is not None
    assert item.state is State.CANCELED
    assert item.failed
    assert "breaks rule 'sizes': a picture too many" in str(item.reason)
    assert outbox.deliveries(scene.ledger, 1) == ()
    kept = sorted(path.suffix for path in layout.quarantine.iterdir())
    assert kept == [".dcm", ".txt"]
    (why,) = layout.quarantine.glob("*.txt")
    assert "a picture too many" in why.read_text("utf-8")


@pytest.mark.parametrize("left", [False, True])
def test_objects_built_again_with_other_bytes_replace_only_what_never_left(
    scene: Scene, tmp_path: Path, left: bool  # noqa: F811
) -> None:  # fmt: skip
    layout = Layout(tmp_path / "data")
    step = scored(scene, layout, tmp_path)
    item = work_items.claim(scene.ledger, 1, ME, scene.now)
    assert item is not None
    step(item, structlog.get_logger())
    kept = {path.name: path.read_bytes() for path in layout.result_folder(item.result_key).glob("*.dcm")}
    delivering = scene.now if left else None
    with scene.ledger.write() as connection:
        again = {"step": Step.REPORT, "state": State.SCHEDULED, "delivering_since": delivering}
        connection.execute(t.work_items.update().values(again))
    runner = Runner(
        ledger=scene.ledger, owner=ME, queue="score", steps={Step.REPORT: replace(step, station_name="RENAMED")},
        wake=lambda _number, _step: None, now=lambda: scene.now,
    )  # fmt: skip
    runner.run(1)
    now_kept = {path.name: path.read_bytes() for path in layout.result_folder(item.result_key).glob("*.dcm")}
    found = work_items.find(scene.ledger, 1)
    assert found is not None
    assert (now_kept == kept, found.failed) == (left, left)
    digests = {hashlib.sha256(content).hexdigest() for content in now_kept.values()}
    assert set(results.object_digests(scene.ledger, item.result_key).values()) == digests, "else it is built for ever"
