"""Which reports are a reader's grade of steatosis, and which are not."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import structlog
from pydicom.dataset import Dataset

from agent.domain.eligibility import MANUFACTURER, MANUFACTURER_MODEL_NAME
from agent.domain.score import GRADES
from agent.store.layout import Layout
from agent.tasks.readers import ReaderReports
from agent.watch import reader_grades
from agent.watch import reader_reports as rr
from agent.worklist import tables as t
from tests.unit.watch import reports as make
from tests.unit.worklist.conftest import SR, Scene

OURS = Dataset()
OURS.Manufacturer, OURS.ManufacturerModelName = MANUFACTURER, MANUFACTURER_MODEL_NAME
PRIVATE = make.content(
    "CONTAINER",
    make.GROUP,
    children=(make.content("CODE", ("GRADE", "99STEATOSIS", "grade"), ("S2", "99STEATOSIS", "S2")),),
)
NESTED = make.content("CODE", make.FINDING, make.STEATOSIS)
NESTED.ContentSequence = [make.content("CODE", make.SEVERITY, make.SEVERE)]
ALGORITHM = make.content("TEXT", ("111001", "DCM", "Algorithm Name"), "another program")


@pytest.mark.parametrize(
    ("groups", "elements", "outcome"),
    [
        ((make.graded(),), {}, "S1"),
        ((make.graded(make.SEVERE),), {}, "S3"),
        ((make.graded(),), {"observer": None}, "S1"),  # PS3.16 TID 1002: a person where nothing is said
        ((PRIVATE,), {}, "S2"),
        ((NESTED,), {}, "S3"),
        ((make.graded(), make.graded()), {}, "S1"),
        ((make.graded(), make.graded(make.SEVERE)), {}, rr.AMBIGUOUS),
        ((make.graded(finding=make.FIBROSIS),), {}, rr.NO_GRADE),
        ((make.content("TEXT", make.FINDING, "severe steatosis, S3"),), {}, rr.NO_GRADE),
        ((), {}, rr.NO_GRADE),
        ((make.graded(),), {"observer": make.DEVICE}, rr.BY_A_DEVICE),
        ((make.graded(), ALGORITHM), {}, rr.BY_A_DEVICE),
        ((make.graded(),), {"ManufacturerModelName": MANUFACTURER_MODEL_NAME}, rr.OURS),
        ((make.graded(),), {"ContributingEquipmentSequence": [OURS]}, rr.OURS),
        ((make.graded(),), {"SeriesDescription": "AI hepatic steatosis report - RESEARCH USE ONLY"}, rr.OURS),
    ],
)
def test_by_coded_concepts_alone(
    groups: tuple[Dataset, ...], elements: dict[str, Any], outcome: str, tmp_path: Path
) -> None:
    assert rr.read_report(make.saved(make.report(*groups, **elements), tmp_path / "r.dcm")).outcome == outcome


def test_who_when_and_of_what(tmp_path: Path) -> None:
    evidence = Dataset()
    evidence.StudyInstanceUID = "1.2.9"
    ds = make.report(make.graded(), CurrentRequestedProcedureEvidenceSequence=[evidence])
    found = rr.read_report(make.saved(ds, tmp_path / "r.dcm"))
    assert found.studies == (make.STUDY, "1.2.9")
    assert found.reader == "Reader^Ada"
    assert found.graded_at == datetime(2026, 11, 24, 8, 15, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(("date", "zone"), [("00010101", "+1200"), ("99991231", "-1200")])
def test_a_date_at_the_end_of_the_calendar_is_no_date(tmp_path: Path, date: str, zone: str) -> None:
    """Placeholders that systems write; in UTC they lie in no year that there is."""
    ds = make.report(make.graded(), ContentDate=date, ContentTime="235959" if date[0] == "9" else "000000")
    ds.TimezoneOffsetFromUTC = zone
    found = rr.read_report(make.saved(ds, tmp_path / "sr.dcm"))
    assert (found.outcome, found.graded_at) == ("S1", None)


def test_what_is_no_report_is_no_fault(tmp_path: Path) -> None:
    junk = tmp_path / "junk.dcm"
    junk.write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 300)
    assert rr.read_report(junk).outcome == rr.UNREADABLE
    assert rr.read_report(tmp_path / "absent.dcm").outcome == rr.UNREADABLE
    deflated = "1.2.840.10008.1.2.1.99"
    assert rr.read_report(make.saved(make.report(make.graded()), tmp_path / "d.dcm", deflated)).outcome == "S1"
    bomb = make.report(make.graded(), TextValue="0" * (rr._LARGEST + 1))
    path = make.saved(bomb, tmp_path / "bomb.dcm", deflated)
    assert path.stat().st_size < 100_000
    assert rr.read_report(path).outcome == rr.UNREADABLE
    deep = make.graded()
    for _ in range(120):
        deep = make.content("CONTAINER", make.GROUP, children=(deep,))
    nested = make.saved(make.report(deep), tmp_path / "deep.dcm")
    assert rr.read_report(nested).outcome in ("S1", rr.UNREADABLE), "no crash, whatever the depth"


def test_a_report_that_was_cut_anywhere_is_no_fault(tmp_path: Path) -> None:
    whole = make.saved(make.report(make.graded()), tmp_path / "whole.dcm").read_bytes()
    cut = tmp_path / "cut.dcm"
    for length in range(132, len(whole)):
        cut.write_bytes(whole[:length])
        assert rr.read_report(cut).outcome in (rr.UNREADABLE, rr.NO_GRADE, "S1")


def arrived(scene: Scene, tmp_path: Path, ds: Dataset, instance: str, **header: str) -> None:
    """A report that was received: its row in the ledger, its file in the store."""
    scene.arrive(study=make.STUDY, instance=instance, sop_class_uid=SR, **header)
    with scene.ledger.read() as connection:
        query = sa.select(t.instances.c.sha256).order_by(t.instances.c.id.desc()).limit(1)
        sha256 = connection.execute(query).scalar_one()
    make.saved(ds, Layout(tmp_path).instance(sha256))


def test_received_reports_are_looked_at_once_each(scene: Scene, tmp_path: Path) -> None:
    looking = ReaderReports(
        ledger=scene.ledger, layout=Layout(tmp_path), secret=lambda: b"key", log=structlog.get_logger()
    )
    scene.arrive(study=make.STUDY)
    arrived(scene, tmp_path, make.report(make.graded()), "sr1")
    arrived(scene, tmp_path, make.report(make.graded(), observer=make.DEVICE), "sr2")
    arrived(scene, tmp_path, make.report(make.graded()), "sr3", manufacturer_model_name=MANUFACTURER_MODEL_NAME)
    arrived(scene, tmp_path, make.report(make.graded(), StudyInstanceUID="9.9.9"), "sr4")
    assert looking.look(scene.now + 5) == 1
    assert looking.look(scene.now + 9) == 0
    (kept,) = reader_grades.of_study(scene.ledger, make.STUDY)
    assert (kept["grade"], kept["source"]) == ("S1", "sr")
    assert kept["reader"] == reader_grades.reader_hash(b"key", "Ada  READER")
    with scene.ledger.read() as connection:
        outcomes = connection.execute(sa.select(t.reader_reports.c.outcome)).scalars().all()
    assert sorted(outcomes) == sorted(["S1", rr.BY_A_DEVICE, rr.UNKNOWN_STUDY])
    assert set(GRADES) & set(outcomes) == {"S1"}
