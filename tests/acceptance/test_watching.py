"""A real agent that is watched: a shadow bundle, a reader's report and click, drift, and what the audit says of it."""

from __future__ import annotations

import base64
import json
import re
import shutil
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from agent.demo.patients import make_study
from agent.demo.sender import send_study
from agent.settings import SHIPPED_BUNDLE
from tests.support.agent_process import AgentProcess, wait_until
from tests.unit.watch import reports

pytestmark = pytest.mark.acceptance

TOKEN = "a-token-of-the-test-alone"
WHEN = datetime(2026, 11, 23, 9, tzinfo=UTC)


@pytest.fixture
def agent(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[AgentProcess]:
    """An agent whose shadow is the shipped bundle under another calibration: other answers, another digest."""
    shadow = tmp_path / "shadow"
    shutil.copytree(SHIPPED_BUNDLE, shadow)
    description = json.loads((shadow / "bundle.json").read_text())
    description["name"], description["calibration"]["fat_fraction"]["intercept"] = "candidate", 12.0
    (shadow / "bundle.json").write_text(json.dumps(description))
    settings = {"AGENT_WEB__TOKEN": TOKEN, "AGENT_MODEL__SHADOW_BUNDLE": str(shadow)}
    made = AgentProcess(tmp_path / "agent", dicom_port=free_port(), web_port=free_port(), settings=settings)
    made.token = TOKEN
    yield made
    if made.process is not None and made.process.poll() is None:
        made.stop()


def reader_report(study: Any, severity: reports.Code, **elements: Any) -> Dataset:
    """A workstation's report of a study: of the same patient, or the study would be held."""
    ds = reports.report(reports.graded(severity), **elements)
    uid = study.study_instance_uid
    ds.StudyInstanceUID, ds.SOPInstanceUID, ds.SeriesInstanceUID = uid, f"{uid}.5.1", f"{uid}.5"
    ds.PatientID, ds.PatientName = study.instances[0].PatientID, study.instances[0].PatientName
    ds.file_meta = study.instances[0].file_meta.__class__()
    ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    return ds


def told(agent: AgentProcess, *command: str) -> Any:
    done = agent.run(*command, "--json", check=False)
    assert done.returncode in (0, 1), done.stderr
    return json.loads(done.stdout)


class Form:
    """Somebody at the page, with a session."""

    def __init__(self, agent: AgentProcess) -> None:
        self.base = f"http://127.0.0.1:{agent.web_port}"
        self.opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
        self.post("/login", token=TOKEN)

    def get(self, path: str) -> str:
        return str(self.opener.open(self.base + path, timeout=10).read().decode())

    def post(self, path: str, **form: str) -> str:
        data = urllib.parse.urlencode(form).encode()
        return str(self.opener.open(self.base + path, data=data, timeout=10).read().decode())


def test_an_agent_is_watched(agent: AgentProcess) -> None:
    studies = [
        make_study(number, seed=number, when=WHEN + timedelta(hours=number), fat_fraction_percent=fat)
        for number, fat in ((1, 3.0), (2, 28.0))
    ]
    agent.start(ready=False)
    wait_until(agent.is_ready, 120, f"ready beside a shadow; see {agent.log}")
    for study in studies:
        send_study(study.instances, host="127.0.0.1", port=agent.dicom_port)
        agent.await_state(study.study_instance_uid, seconds=120)
    first, second = (study.study_instance_uid for study in studies)

    # the shadow answers, and nothing of it becomes an object
    def compared() -> Any:
        found = told(agent, "shadow", "report")
        return found if found["studies"] == 2 else None

    found = wait_until(compared, 120, f"both scored by the shadow; see {agent.log}", every=1.0)
    assert found["waiting"] == 0
    assert 8.0 < found["fat_fraction"]["bias"] < 13.0, "the intercept was raised by eleven points"
    assert "candidate" in agent.run("shadow", "report").stdout
    shown = agent.show(first)
    assert {result["kind"] for result in shown["results"]} >= {"structured-report", "summary"}
    assert shown["model"]["name"] == "reference"
    assert len(shown["work_items"]) == 1

    # a reader's report is taken back, a device's is not
    for study, observer in zip(studies, (reports.PERSON, reports.DEVICE), strict=True):
        sent = reader_report(study, reports.MILD, observer=observer)
        send_study([sent], host="127.0.0.1", port=agent.dicom_port)
    wait_until(lambda: told(agent, "readers")["grades"], 30, "the report's grade", every=1.0)

    # a reader's grade from the page
    person = Form(agent)
    page = person.get(f"/studies/{second}/grade")
    (form_token,) = set(re.findall(r'name="form_token" value="([0-9a-f]+)"', page))
    given = {"form_token": form_token, "grade": "S3", "reader": "ada reader", "confirmed": "yes"}
    assert "S3</b> by" in person.post(f"/studies/{second}/grade", **given)
    readers = told(agent, "readers")
    assert readers["grades"] == 2
    assert [part["studies"] for part in readers["readers"]] == [2], "the same person in both ways"
    page = person.get("/watch")
    assert "candidate" in page
    assert "Weighted kappa" in page

    # figures are kept by scanner and site, and compared with the bundle's reference if it has one
    entries = told(agent, "drift")
    assert {entry["kind"] for entry in entries} == {"scanner", "site"}
    assert {entry["verdict"] for entry in entries} <= {"gathering", "few"}
    assert {"brightness", "liver_logit", "grade"} <= {entry["figure"] for entry in entries}
    assert "steatosis_watched_studies" in person.get("/metrics")

    # what was done from the page is in the audit trail, which is whole
    trail = agent.run("audit", "export").stdout
    (graded,) = (line for line in trail.splitlines() if 'csd-code="110111"' in line)
    assert 'csd-code="grade"' in graded
    assert second in graded
    assert base64.b64encode(b"S3").decode() in graded
    (verified,) = told(agent, "audit", "verify")
    assert verified["ok"]
    assert re.search(r"\bada\b", agent.log.read_text() + trail, re.IGNORECASE) is None, "no reader is named"
    assert agent.stop()[0] == 0
