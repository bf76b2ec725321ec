"""What is kept of a scored study, and under which scanner and site."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from agent.domain.score import ModelIdentity, Refusal, ScoreOutcome, StudyScore, ViewUse
from agent.domain.study import InstanceHeader
from agent.watch.observing import Observer, figures_of, named, scanner_of
from agent.worklist import results, work_items
from agent.worklist import tables as t
from tests.support import ultrasound
from tests.unit.worklist.conftest import BUNDLE, Scene

MODEL = ModelIdentity(name="m", version="1", digest=BUNDLE, backend="onnxruntime")


def used(uid: str, **figures: float) -> ViewUse:
    return ViewUse(sop_instance_uid=uid, frame=1, view=None, used=True, reason=None, figures=figures)


def unused(uid: str, frame: int | None) -> ViewUse:
    return ViewUse(sop_instance_uid=uid, frame=frame, view=None, used=False, reason="x")


def outcome(*views: ViewUse, refusal: Refusal | None = None) -> ScoreOutcome:
    values: dict[str, Any] = {"probabilities": {}, "grade_set": ("S1",), "quality": "diagnostic", "grade": "S1"}
    values |= {"steatosis_probability": 0.9, "fat_fraction_percent": 9.5, "fat_fraction_interval": (5.0, 12.0)}
    values |= {"interval_coverage": 0.9, "certainty": 0.5, "member_spread": 0.02, "fat_fraction_spread": 1.0}
    score = None if refusal else StudyScore(**values)
    return ScoreOutcome(score=score, refusal=refusal, views=views, model=MODEL)


def test_figures_of_a_score_and_of_a_refusal() -> None:
    found = figures_of(outcome(used("1", brightness=80.0, liver_logit=3.0), used("2", brightness=90.0), unused("3", 4)))
    assert found == {
        "outcome": "scored",
        "frames": "2-3",
        "views": "2",
        "brightness": 85.0,
        "liver_logit": 3.0,
        "grade": "S1",
        "fat_fraction": 9.5,
        "member_spread": 0.02,
    }
    refused = figures_of(outcome(unused("1", 1), unused("2", None), refusal=Refusal.NOT_LIVER))
    assert refused == {"outcome": "not-liver", "frames": "1"}


@pytest.mark.parametrize(
    ("header", "name"),
    [
        (("Philips", "CX50", "ROOM1"), "Philips CX50 · ROOM1"),
        (("GE Healthcare", "GE LOGIQ E10", ""), "GE LOGIQ E10"),
        (("", "", ""), "unknown"),
        (("A\r\nB", "C\x1b[31m", "x" * 200), ("A B C [31m · " + "x" * 200)[:64]),
    ],
)
def test_scanners_have_short_printable_names(header: tuple[str, str, str], name: str) -> None:
    maker, model, station = header
    uids = dict.fromkeys(("sop_class_uid", "sop_instance_uid", "study_instance_uid", "series_instance_uid"), "1.2")
    found = InstanceHeader(manufacturer=maker, manufacturer_model_name=model, station_name=station, **uids)
    assert scanner_of(found) == name
    assert scanner_of(None) == "unknown"
    assert named("\n") == "unknown"


@pytest.mark.parametrize(
    ("site_by", "site"),
    [("calling-ae", "US1"), ("institution", "General Hospital"), ("institution-hash", "site-")],
)
def test_a_study_is_kept_once_for_each_bundle_on_the_day_it_came(
    scene: Scene, tmp_path: Path, site_by: Any, site: str
) -> None:
    scene.arrive(association=scene.open("US1"))
    came, scene.now = scene.now, scene.now + 4000
    (closed,) = scene.close()
    item = work_items.find(scene.ledger, closed.work_item_id)
    assert item is not None
    ds = ultrasound.image(
        1,
        ultrasound.phantom().pixels,
        Manufacturer="Philips",
        ManufacturerModelName="CX50",
        StationName="ROOM1",
        InstitutionName="General Hospital",
    )
    path = ultrasound.saved(ds, tmp_path)[1]
    sources = tuple((instance, path) for instance in results.instances_of(scene.ledger, item.id))
    observer = Observer(ledger=scene.ledger, site_by=site_by, secret=lambda: b"key")
    for refusal in (Refusal.NOT_LIVER, None, None):
        observer.keep(item, outcome(used("1.2.9.1", brightness=80.0), refusal=refusal), sources, scene.now)
    with scene.ledger.read() as connection:
        (row,) = connection.execute(sa.select(t.observations)).all()
    assert (row.at, row.scanner, row.accepted) == (came, "Philips CX50 · ROOM1", True)
    assert row.site.startswith(site)
    assert ("General" in row.site) is (site_by == "institution")
    assert json.loads(row.figures)["grade"] == "S1"
    for sources_gone in ((), tuple((instance, tmp_path / "gone") for instance, _ in sources)):
        observer.keep(item, outcome(), sources_gone, scene.now)  # no file, no fault
