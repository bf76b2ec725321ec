"""One prospective study through every door: notified, fetched, compared, scored blind, released, told; then a UPS."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hl7apy.parser import parse_message
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE

from agent.demo.patients import SyntheticStudy, make_study
from agent.domain.notices import RESEARCH_STATEMENT
from tests.acceptance.conftest import WHEN, Hospital, save
from tests.integration.test_orders import ModalityWorklist
from tests.support.agent_process import wait_until
from tests.support.message_servers import Fhir, Mllp, running
from tests.support.ups_scp import UpsWorklist

pytestmark = [pytest.mark.acceptance, pytest.mark.peers]

NOTIFICATION = "1.2.840.10008.5.1.4.33"


@dataclass
class Neighbours:
    """Whom the agent talks to besides its archive."""

    fhir: Fhir
    mllp: Mllp
    ris: ModalityWorklist
    ups: UpsWorklist


@pytest.fixture
def neighbours(hospital: Hospital) -> Iterator[Neighbours]:
    with running(Fhir()) as fhir, running(Mllp()) as mllp, ModalityWorklist() as ris, UpsWorklist() as ups:
        hospital.agent.environment |= {
            "AGENT_RESULTS__BLINDED": "true",
            "AGENT_MESSAGES__FHIR": fhir.base,
            "AGENT_MESSAGES__HL7": mllp.address,
            "AGENT_WORKLIST__QUERY": str(ris.archive),
            "AGENT_WORKLIST__PERFORM": str(ups.archive),
            "AGENT_WORKLIST__PERFORM_SECONDS": "1",
            "AGENT_ARCHIVE__NOTIFICATIONS": "true",
        }
        yield Neighbours(fhir, mllp, ris, ups)


def notify(port: int, study: SyntheticStudy) -> int:
    """Say to the agent that the archive has a study."""
    told, series = Dataset(), Dataset()
    told.StudyInstanceUID, told.ReferencedPerformedProcedureStepSequence = study.study_instance_uid, []
    series.SeriesInstanceUID, series.ReferencedSOPSequence = study.instances[0].SeriesInstanceUID, []
    for instance in study.instances:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = instance.SOPClassUID, instance.SOPInstanceUID
        item.InstanceAvailability, item.RetrieveAETitle = "ONLINE", "ORTHANC"
        series.ReferencedSOPSequence.append(item)
    told.ReferencedSeriesSequence = [series]
    ae = AE(ae_title="ORTHANC")
    ae.add_requested_context(NOTIFICATION)
    association = ae.associate("127.0.0.1", port, ae_title="STEATOSIS")
    assert association.is_established
    answer, _ = association.send_n_create(told, NOTIFICATION, generate_uid())
    association.release()
    return int(answer.Status)


def withheld(hospital: Hospital, uid: str) -> dict[str, Any]:
    def reached() -> dict[str, Any] | None:
        shown = hospital.agent.get(f"/api/studies/{uid}")
        return shown if shown and shown.get("reason") == "withheld" else None

    found: dict[str, Any] = wait_until(reached, 90, f"{uid} is withheld; see {hospital.agent.log}")
    return found


def test_a_prospective_study(
    hospital: Hospital, neighbours: Neighbours, study: SyntheticStudy, tmp_path: Path, peer_tool: Callable[[str], Path]
) -> None:
    agent, uid, images = hospital.agent, study.study_instance_uid, study.instances
    first = images[0]
    number = str(first.get("AccessionNumber", ""))
    neighbours.ris.orders = [(number, str(first.PatientID))]
    for path in save(images, tmp_path / "study"):
        hospital.orthanc.store(path.read_bytes())
    agent.start()

    # the archive says that it has the study: fetched, scored, compared with its order, and withheld
    assert notify(agent.dicom_port, study) == 0
    shown = withheld(hospital, uid)
    assert (shown["score"], shown["withheld"]) == (None, True)
    assert shown["order"]["result"] == ("match" if number else "no-accession-number")
    assert shown["results"] == [], "how many objects there are would tell a refusal"
    assert {view["reason"] for view in shown["views"]} == {"withheld until it is released"}
    assert len(hospital.orthanc.files()) == len(images), "nothing of ours has come"
    assert (neighbours.fhir.transactions, neighbours.mllp.received) == (0, [])
    told = agent.run("show", uid).stdout
    assert "withheld" in told
    assert "fat fraction" not in told
    assert "fat fraction" in agent.run("show", uid, "--unblind").stdout
    assert not [line for line in agent.log.read_text().splitlines() if '"grade"' in line]

    # a replay stays withheld
    agent.run("replay", uid, "--wait")
    assert withheld(hospital, uid)["score"] is None

    # released: sent, told, proved
    released = json.loads(agent.run("release", uid, "--json").stdout)
    assert [entry["study_instance_uid"] for entry in released] == [uid]
    assert json.loads(agent.run("release", uid, "--json").stdout) == []
    done = agent.await_state(uid)
    assert {result["proof"] for result in done["results"]} == {"storage-commitment", "fhir-read", "hl7-ack"}
    (report,) = (one for name, one in neighbours.fhir.kept.items() if name.startswith("DiagnosticReport"))
    assert report["conclusion"].startswith(RESEARCH_STATEMENT)
    assert done["score"]["grade"] in report["conclusion"]
    assert parse_message(neighbours.mllp.received[0]).msh.msh_9.value == "ORU^R01^ORU_R01"
    assert RESEARCH_STATEMENT in neighbours.mllp.received[0]
    audited = agent.run("audit", "export").stdout
    assert "released from blinding" in _decoded(audited)
    assert "seen while withheld" in _decoded(audited)

    # somebody else's worklist wants another study scored
    other = make_study(6, seed=8, when=WHEN + timedelta(hours=1))
    for path in save(other.instances, tmp_path / "other"):
        hospital.orthanc.store(path.read_bytes())
    neighbours.ups.schedule("1.2.9", other.study_instance_uid)
    withheld(hospital, other.study_instance_uid)
    assert neighbours.ups.states() == ["IN PROGRESS"]
    agent.run("release", "--all")
    agent.await_state(other.study_instance_uid)
    wait_until(lambda: neighbours.ups.states() == ["COMPLETED"], 20, "the step is completed")
    assert neighbours.ups.outputs("1.2.9") <= set(hospital.orthanc.files())


def _decoded(exported: str) -> str:
    """Decode the details of audit messages, which stand in base64."""
    import base64
    import re

    return " ".join(base64.b64decode(found).decode() for found in re.findall(r'value="([^"]+)"', exported))
