"""The order check against DCMTK's Modality Worklist server."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from agent.domain.errors import AgentError
from agent.domain.identifiers import Archive
from agent.scu.association import associate
from agent.scu.worklist import WORKLIST_CONTEXT, orders_of
from tests.unit.deliver.wayward_archive import SCU

pytestmark = pytest.mark.peers


def order(number: str, patient: str, name: str) -> Dataset:
    """Make a worklist entry as wlmscpfs keeps it (PS3.4 Table K.6-1)."""
    made, step = Dataset(), Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = "1.2.276.0.7230010.3.1.0.1"
    made.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    made.SpecificCharacterSet = "ISO_IR 100"
    made.AccessionNumber, made.PatientID, made.PatientName = number, patient, name
    made.PatientBirthDate, made.PatientSex = "19700101", "O"
    made.StudyInstanceUID, made.RequestedProcedureID = "1.2.3", "RP1"
    made.RequestedProcedureDescription = "US abdomen"
    step.Modality, step.ScheduledStationAETitle = "US", "US1"
    step.ScheduledProcedureStepStartDate, step.ScheduledProcedureStepStartTime = "20261123", "0900"
    step.ScheduledPerformingPhysicianName = "X^Y"
    step.ScheduledProcedureStepDescription, step.ScheduledProcedureStepID = "US abdomen", "SPS1"
    made.ScheduledProcedureStepSequence = [step]
    return made


@pytest.fixture
def ris(tmp_path: Path, free_port: Callable[[], int], peer_tool: Callable[[str], Path]) -> Iterator[Archive]:
    folder = tmp_path / "worklists" / "RIS"
    folder.mkdir(parents=True)
    (folder / "lockfile").touch()
    for place, entry in enumerate((order("A-1", "P-1", "One^Patient"), order("A-2", "P-2", "Two^Patient"))):
        entry.save_as(folder / f"{place}.wl", enforce_file_format=True)
    archive = Archive(ae_title="RIS", host="127.0.0.1", port=free_port())
    command = [str(peer_tool("wlmscpfs")), "-dfp", str(folder.parent), str(archive.port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        _await(archive)
        yield archive
        server.terminate()


def _await(archive: Archive) -> None:
    for _ in range(100):
        try:
            with associate(archive, SCU, [WORKLIST_CONTEXT]):
                return
        except AgentError:
            time.sleep(0.1)
    raise AssertionError("wlmscpfs does not answer")


@pytest.mark.parametrize(("number", "patients"), [("A-1", ["P-1"]), ("A-2", ["P-2"]), ("A-3", [])])
def test_orders_are_found_by_accession_number(ris: Archive, number: str, patients: list[str]) -> None:
    with associate(ris, SCU, [WORKLIST_CONTEXT]) as association:
        found = list(orders_of(association, number))
    assert [one.patient_id for one in found] == patients
    assert all(one.study_instance_uid == "1.2.3" for one in found)
