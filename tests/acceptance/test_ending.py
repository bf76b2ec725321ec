"""Beginning and ending: refusals to start, SIGTERM in mid-study, odd files, and no patient in any stream."""

from __future__ import annotations

import subprocess
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file

from agent.demo.patients import make_study
from agent.demo.sender import send_study
from tests.acceptance.conftest import WHEN
from tests.support.agent_process import AGENT, AgentProcess, wait_until

pytestmark = pytest.mark.acceptance

ULTRASOUND_OF_PYDICOM = (
    "examples_ybr_color.dcm",
    "examples_palette.dcm",
    "examples_rgb_color.dcm",
    "examples_jpeg2k.dcm",
    "ExplVR_BigEnd.dcm",
)
CANARY = ("Zanzibar^Quintessa", "CANARY-4711", "19010203")


@pytest.fixture
def agent(tmp_path: Path, free_port: Callable[[], int]) -> AgentProcess:
    return AgentProcess(tmp_path, dicom_port=free_port(), web_port=free_port())


@pytest.fixture(autouse=True)
def _ended(agent: AgentProcess):
    yield
    if agent.process is not None and agent.process.poll() is None:
        agent.kill()


def test_it_refuses_to_listen_beyond_this_machine_without_peers(agent: AgentProcess) -> None:
    agent.environment["AGENT_DICOM__HOST"] = "0.0.0.0"
    done = agent.run("serve", check=False)
    assert done.returncode == 2
    assert "dicom.peers" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_second_serve_on_the_same_folder_is_refused(agent: AgentProcess) -> None:
    agent.start()
    done = agent.run("serve", check=False)
    assert done.returncode == 2
    assert "another `agent serve`" in done.stderr


def test_sigterm_in_mid_study(agent: AgentProcess) -> None:
    study = make_study(3, seed=5, when=WHEN)
    agent.start()
    send_study(study.instances, host="127.0.0.1", port=agent.dicom_port)
    time.sleep(1.4)
    code, seconds = agent.stop()
    assert code == 0
    assert seconds < 20, "what Kubernetes is told to wait"
    agent.start()
    shown = agent.await_state(study.study_instance_uid)
    assert {result["state"] for result in shown["results"]} == {"kept"}
    assert len({result["sop_instance_uid"] for result in shown["results"]}) == 5


def test_odd_files_are_scored_or_given_a_reason(agent: AgentProcess) -> None:
    files = {name: Path(str(get_testdata_file(name))) for name in ULTRASOUND_OF_PYDICOM}
    agent.start()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sets = {name: dcmread(path) for name, path in files.items()}
        for ds in sets.values():
            send_study([ds], host="127.0.0.1", port=agent.dicom_port)
    for name, ds in sets.items():
        uid = str(ds.StudyInstanceUID)
        wait_until(lambda uid=uid: agent.show(uid).get("state") in ("COMPLETED", "CANCELED"), 60, name)
        shown = agent.show(uid)
        views = [view for view in shown["views"] if view["sop_instance_uid"] == str(ds.SOPInstanceUID)]
        assert views, name
        assert all(view["used"] or view["reason"] for view in views), name
        if shown["state"] == "CANCELED":
            assert shown["reason"], name
            assert shown["results"], "a refusal is reported too"


def test_no_patient_in_any_stream(agent: AgentProcess) -> None:
    study = make_study(2, seed=9, when=WHEN)
    for ds in study.instances:
        ds.PatientName, ds.PatientID, ds.PatientBirthDate = CANARY
    broken = study.instances[0]
    agent.start()
    send_study(study.instances, host="127.0.0.1", port=agent.dicom_port)
    agent.await_state(study.study_instance_uid)
    broken.PixelData = b"\0\0"  # a version that cannot be decoded, under the same UID
    send_study([broken], host="127.0.0.1", port=agent.dicom_port)
    uid = study.study_instance_uid
    told = [agent.run(*words, check=False) for words in (("show", uid), ("worklist",), ("doctor",), ("replay", uid))]
    agent.stop()
    streams = agent.log.read_text(errors="replace") + "".join(done.stdout + done.stderr for done in told)
    assert "instance stored" in streams
    for word in (*CANARY, "Zanzibar", "Quintessa"):
        assert word not in streams


def test_commands_never_show_a_traceback(agent: AgentProcess) -> None:
    for words in (["show", "1.2.3"], ["show", "../x"], ["score", "/nonexistent"], ["worklist", "--state", "odd"]):
        done = subprocess.run([*AGENT, *words], env=agent.environment, capture_output=True, text=True, check=False)
        assert done.returncode in (2, 3), (words, done.stderr)
        assert "Traceback" not in done.stderr
        assert done.stdout == ""
