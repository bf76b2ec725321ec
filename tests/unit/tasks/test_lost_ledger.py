"""A ledger that was lost, or restored from before, changes nothing of what had been made and sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.domain.identifiers import Archive
from agent.domain.study import InstanceHeader, StoredFile
from agent.domain.work_item import Step, WorkItem
from agent.report.envelope import content_moment
from agent.score.score_study import ScoreLimits
from agent.store.layout import Layout
from agent.tasks.look_ahead import LookAhead
from agent.tasks.pictures import Pictures
from agent.tasks.report import ReportStep
from agent.tasks.runner import Runner
from agent.tasks.score import ScoreStep
from agent.watch.observing import Observer
from agent.worklist import arrivals, outbox, work_items
from agent.worklist.grouping import GroupBy
from agent.worklist.ledger import Ledger
from inference.predictor import Predictor
from tests.support.ultrasound import image, phantom, saved
from tests.unit.tasks.test_look_ahead import BUNDLE as FOLDER
from tests.unit.worklist.conftest import PATIENCE, Scene

ME = "host/x/score-1"


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor.open(FOLDER)


def reported(ledger: Ledger, layout: Layout, predictor: Predictor, now: float) -> WorkItem:
    """Close the study that lies in the store, score and report it."""
    scene = Scene(ledger, now=now)
    instance, made = saved(image(1, phantom("subcostal").pixels), layout.data_dir)
    path = layout.instance(instance.sha256)
    path.parent.mkdir(parents=True, exist_ok=True)
    made.rename(path)
    header = InstanceHeader(
        sop_instance_uid=instance.sop_instance_uid, sop_class_uid=instance.sop_class_uid,
        study_instance_uid=instance.study_instance_uid, series_instance_uid=instance.series_instance_uid,
    )  # fmt: skip
    stored = StoredFile(
        sha256=instance.sha256, bytes=1, transfer_syntax_uid=instance.transfer_syntax_uid, header=header
    )
    arrivals.record_instance(ledger, stored, association_id=None, group_by=GroupBy.STUDY, now=scene.now)
    scene.now += 30
    (closed,) = scene.close(predictor.identity.digest)
    pictures = Pictures(layout)
    ahead = LookAhead(
        ledger=ledger, layout=layout, patience=PATIENCE, geometry=predictor.bundle.geometry,
        announce=lambda: None, now=lambda: scene.now,
    )  # fmt: skip
    common = {
        "ledger": ledger, "layout": layout, "owner": ME, "destinations": (Archive.parse("PACS@pacs:104"),),
        "extras": {}, "pictures": pictures, "wake": lambda _number, _step: None, "now": lambda: scene.now,
    }  # fmt: skip
    score = ScoreStep(
        **common, limits=ScoreLimits(min_views=1, max_views=6), predictor=lambda _: predictor, ahead=ahead,
        observer=Observer(ledger=ledger, site_by="calling-ae", secret=lambda: b"key"),
    )  # fmt: skip
    report = ReportStep(**common, station_name="STEATOSIS")
    runner = Runner(
        ledger=ledger, owner=ME, queue="score", steps={Step.SCORE: score, Step.REPORT: report},
        wake=lambda _number, _step: None, now=lambda: scene.now,
    )  # fmt: skip
    assert closed.work_item_id is not None
    runner.run(closed.work_item_id)
    item = work_items.find(ledger, closed.work_item_id)
    assert item is not None
    return item


def test_results_are_made_again_with_the_same_bytes_and_looked_for_before_they_are_sent(
    tmp_path: Path, predictor: Predictor
) -> None:
    layout, kept = Layout(tmp_path), []
    for life, now in enumerate((1_000_000.0, 2_000_000.5)):
        ledger = Ledger.in_folder(tmp_path / f"ledger-{life}.sqlite")
        ledger.prepare()
        item = reported(ledger, layout, predictor, now)
        rows = outbox.deliveries(ledger, item.id)
        assert (item.step, {row.look_first for row in rows}) == (Step.DELIVER, {life == 1})
        kept.append({path.name: path.read_bytes() for path in layout.result_folder(item.result_key).glob("*.dcm")})
        ledger.close()
    assert kept[0] == kept[1]
    assert len(kept[0]) == 3


@pytest.mark.parametrize("left", [b"", b"no DICOM", b"\0" * 128 + b"DICM"])
def test_a_kept_report_that_is_spoilt_tells_no_date(tmp_path: Path, left: bytes) -> None:
    path = tmp_path / "report.dcm"
    path.write_bytes(left)
    assert content_moment(path) is None
