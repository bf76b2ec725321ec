"""`agent replay --since`: planned, carried out with progress, and nothing new for what is known."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.demo.patients import SyntheticStudy
from agent.demo.sender import send_study
from agent.settings import SHIPPED_BUNDLE
from tests.acceptance.test_wayward_archive import reports
from tests.support.agent_process import AgentProcess
from tests.support.many_studies import another
from tests.unit.deliver.wayward_archive import WaywardArchive

pytestmark = pytest.mark.acceptance
STUDIES = 4


@pytest.fixture
def pacs() -> Iterator[WaywardArchive]:
    with WaywardArchive(commits=True) as archive:
        yield archive


@pytest.fixture
def agent(tmp_path: Path, free_port: Callable[[], int], pacs: WaywardArchive) -> Iterator[AgentProcess]:
    settings = {"AGENT_RESULTS__DESTINATIONS": json.dumps([pacs.name])}
    process = AgentProcess(tmp_path / "agent", dicom_port=free_port(), web_port=free_port(), settings=settings)
    yield process
    if process.process is not None and process.process.poll() is None:
        process.kill()


def other_bundle(folder: Path) -> Path:
    """The shipped bundle under another name: another digest, so another result."""
    shutil.copytree(SHIPPED_BUNDLE, folder)
    described = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps(described | {"name": "another"}))
    return folder


def test_replay_in_bulk(agent: AgentProcess, pacs: WaywardArchive, study: SyntheticStudy, tmp_path: Path) -> None:
    agent.start()
    studies = []
    for number in range(STUDIES):
        uid, instances = another(study.instances, f"B{number}", views=1)
        send_study(instances, host="127.0.0.1", port=agent.dicom_port)
        studies.append(uid)
    for uid in studies:
        assert {one["proof"] for one in agent.await_state(uid)["results"]} == {"storage-commitment"}
    before, received = dict(pacs.stored), len(pacs.received)

    planned = agent.run("replay", "--since", "2020-01-01", "--dry-run", "--json")
    entries = json.loads(planned.stdout)
    assert [entry["study_instance_uid"] for entry in entries] == studies
    assert {(entry["state"], entry["work_item"]) for entry in entries} == {("would be scheduled", None)}
    assert f"{STUDIES} of {STUDIES} planned" in planned.stderr
    assert len(agent.get("/api/worklist")) == STUDIES

    lost = pacs.received[0]
    del pacs.stored[lost], pacs.where[lost]
    done = agent.run("replay", "--since", "2020-01-01", "--wait", "--json")
    assert [entry["state"] for entry in json.loads(done.stdout)] == ["COMPLETED"] * STUDIES
    assert f"{STUDIES} of {STUDIES} ended: {STUDIES} COMPLETED" in done.stderr
    assert pacs.received[received:] == [lost], "only what was missing was sent"
    assert pacs.stored == before, "byte for byte, and nothing new"

    bundle = other_bundle(tmp_path / "other")
    agent.run("replay", "--since", "2020-01-01", "--model", str(bundle), "--wait")
    assert reports(pacs) == sorted(studies * 2), "a new report each, beside the one that it replaces"
