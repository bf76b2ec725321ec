"""A study goes in, a report comes back: DCMTK pushes, Orthanc keeps, validators judge."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from agent.demo.patients import SyntheticStudy
from tests.acceptance.conftest import Hospital, save

pytestmark = [pytest.mark.acceptance, pytest.mark.peers]

SR_CLASS = "1.2.840.10008.5.1.4.1.1.88.34"
SC_CLASS = "1.2.840.10008.5.1.4.1.1.7"


def push(storescu: Path, hospital: Hospital, files: list[Path]) -> None:
    """Send with DCMTK: plain syntaxes and JPEG baseline need profiles of their own."""
    target = ["-aet", "US1", "-aec", "STEATOSIS", "127.0.0.1", str(hospital.agent.dicom_port)]
    for proposal in ("-xe", "-xy"):
        wanted = [str(path) for path in files if _is_jpeg(path) == (proposal == "-xy")]
        if wanted:
            subprocess.run([str(storescu), proposal, *target, *wanted], check=True, timeout=60)


def _is_jpeg(path: Path) -> bool:
    return dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.4.50"


def results_of(hospital: Hospital) -> dict[str, Any]:
    return {uid: dcmread(io.BytesIO(encoded)) for uid, encoded in hospital.orthanc.files().items()}


def test_the_whole_way(
    hospital: Hospital, study: SyntheticStudy, tmp_path: Path, peer_tool: Callable[[str], Path]
) -> None:
    storescu, uid = peer_tool("storescu"), study.study_instance_uid
    first, late = save(study.instances[:2], tmp_path / "first"), save(study.instances[2:], tmp_path / "late")
    agent = hospital.agent
    agent.start()

    # a study of two views, then the same pushed again
    push(storescu, hospital, first)
    shown = agent.await_state(uid)
    assert {result["proof"] for result in shown["results"]} == {"storage-commitment"}
    one = results_of(hospital)
    assert sorted(ds.SOPClassUID for ds in one.values()) == [SC_CLASS] * 3 + [SR_CLASS]
    assert {ds.StudyInstanceUID for ds in one.values()} == {uid}
    assert shown["score"]["quality"] == "limited", "two of three views"
    told = {json.loads(line).get("event") for line in agent.log.read_text().splitlines() if line.startswith("{")}
    assert {"scored", "reported", "object sent", "object proved", "delivered"} <= told, "workers tell what they do"
    push(storescu, hospital, first)
    time.sleep(3)
    assert set(results_of(hospital)) == set(one)
    assert len(agent.show(uid)["work_items"]) == 1

    # a late view makes one addendum that replaces the first report
    push(storescu, hospital, late)
    agent.await_state(uid, "RECEIVING", 10)
    shown = agent.await_state(uid)
    assert [item["cause"] for item in shown["work_items"]] == ["addendum", "new"]
    two = {key: ds for key, ds in results_of(hospital).items() if key not in one}
    (report,) = (ds for ds in two.values() if ds.SOPClassUID == SR_CLASS)
    assert len(two) == 5, "report, summary, a heatmap for each of three views"
    replaced = report.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert replaced.ReferencedSOPInstanceUID in one
    assert replaced.PurposeOfReferenceCodeSequence[0].CodeValue == "121360"

    # a replay proves again and adds nothing; what was deleted comes back byte for byte
    before = hospital.orthanc.files()
    agent.run("replay", uid, "--wait")
    assert hospital.orthanc.files() == before
    hospital.orthanc.delete_all()
    agent.run("replay", uid, "--wait")
    again = hospital.orthanc.files()
    assert set(again) == set(two)
    assert all(again[key] == before[key] for key in again)
    _judge(again, tmp_path, peer_tool)


def test_an_emptied_spool_is_fetched_back(
    hospital: Hospital, study: SyntheticStudy, tmp_path: Path, peer_tool: Callable[[str], Path]
) -> None:
    uid, agent = study.study_instance_uid, hospital.agent
    files = save(study.instances, tmp_path / "study")
    for path in files:
        hospital.orthanc.store(path.read_bytes())
    agent.start()
    push(peer_tool("storescu"), hospital, files)
    agent.await_state(uid)
    before = hospital.orthanc.files()
    shutil.rmtree(tmp_path / "agent/var/instances")
    done = agent.run("replay", uid, "--wait", check=False)
    assert done.returncode == 0, done.stderr
    assert hospital.orthanc.files() == before, "the same instances and model: no new object"
    steps = [step["step"] for step in agent.show(uid)["times"]["steps"]]
    assert "retrieve" in steps


def test_a_study_that_is_nowhere(hospital: Hospital) -> None:
    hospital.agent.start()
    done = hospital.agent.run("replay", "1.2.3.4.5", check=False)
    assert done.returncode == 3
    assert "neither in the spool nor" in done.stderr
    assert "Traceback" not in done.stderr


def _judge(objects: dict[str, bytes], folder: Path, peer_tool: Callable[[str], Path]) -> None:
    for uid, encoded in objects.items():
        path = folder / f"{uid}.dcm"
        path.write_bytes(encoded)
        told = subprocess.run([str(peer_tool("dciodvfy")), str(path)], capture_output=True, text=True, check=False)
        assert not [line for line in told.stderr.splitlines() if line.startswith("Error")], told.stderr
        if dcmread(path, stop_before_pixels=True).SOPClassUID == SR_CLASS:
            dumped = subprocess.run([str(peer_tool("dsrdump")), str(path)], capture_output=True, text=True, check=True)
            assert "Imaging Measurement Report" in dumped.stdout
