"""Killed anywhere, it loses nothing and reports every study once."""

from __future__ import annotations

import gc
import json
import os
import random
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.demo.patients import make_study
from agent.demo.sender import send_study
from agent.domain.errors import ArchiveError
from tests.acceptance.conftest import WHEN, Hospital
from tests.support.agent_process import wait_until

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.peers,
    # pynetdicom leaves the socket of a connection that was refused or cut to the garbage collector
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

KILLS = int(os.environ.get("TEST_KILLS", "3"))
STUDIES = int(os.environ.get("TEST_STUDIES", "4"))


def _push(hospital: Hospital, studies: list[Any], acknowledged: set[str], until: float) -> list[Any]:
    """Push studies until a moment comes; return those that are not acknowledged whole."""
    left = list(studies)
    while left and time.monotonic() < until:
        instances = left[0]
        try:
            send_study(instances, host="127.0.0.1", port=hospital.agent.dicom_port)
        except (ArchiveError, OSError, RuntimeError, AttributeError):
            return left
        acknowledged.update(str(ds.SOPInstanceUID) for ds in instances)
        left.pop(0)
    return left


def _reports(hospital: Hospital) -> Counter[str]:
    """Count the reports of each study in the archive."""
    counted: Counter[str] = Counter()
    for instance in hospital.orthanc.instance_ids():
        tags = hospital.orthanc.rest(f"/instances/{instance}/simplified-tags")
        if tags["Modality"] == "SR":
            counted[tags["StudyInstanceUID"]] += 1
    return counted


@pytest.mark.parametrize("fault", ["kill", "kill and empty broker", "archive down"])
def test_every_study_is_reported_once(hospital: Hospital, fault: str, peer_tool: Callable[[str], Path]) -> None:
    agent, rng = hospital.agent, random.Random(fault)
    made = [make_study(number, seed=11, when=WHEN) for number in range(1, STUDIES + 1)]
    agent.environment["AGENT_STUDY__QUIET_SECONDS"] = "3"
    if fault == "archive down":
        hospital.orthanc.stop()
    left, acknowledged = [study.instances for study in made], set[str]()
    agent.start(ready=False)
    for _ in range(1 if fault == "archive down" else KILLS):
        wait_until(lambda: agent.get("/healthz"), 60, "the page answers")
        left = _push(hospital, left, acknowledged, until=time.monotonic() + rng.uniform(0.0, 6.0))
        time.sleep(rng.uniform(0.0, 3.0))
        if fault != "archive down":
            agent.kill()
            if fault == "kill and empty broker":
                shutil.rmtree(agent.home / "var/broker")
            agent.start(ready=False)
            assert _echoes_within(hospital, peer_tool("echoscu"), 10.0)
    wait_until(agent.is_ready, 60, "ready")
    while left:
        left = _push(hospital, left, acknowledged, until=time.monotonic() + 60)
    if fault == "archive down":
        time.sleep(5)
        hospital.orthanc.start()
    for study in made:
        shown = agent.await_state(study.study_instance_uid, seconds=120)
        have = {instance["sop_instance_uid"] for instance in shown["instances"]}
        assert {str(ds.SOPInstanceUID) for ds in study.instances} <= have
        stored = {instance["sha256"] for instance in shown["instances"]}
        assert all((agent.home / f"var/instances/{name[:2]}/{name}.dcm").exists() for name in stored)
    finished = [item for item in agent.get("/api/worklist") if item["state"] == "COMPLETED"]
    newest = {item["study_instance_uid"]: item for item in reversed(finished)}
    counted = _reports(hospital)
    assert set(counted) == {study.study_instance_uid for study in made}
    for uid in counted:
        of_study = [item for item in finished if item["study_instance_uid"] == uid]
        keys = {item["result_key"] for item in of_study}
        assert counted[uid] == len(keys), "one report for each set of instances that was complete"
        assert newest[uid]["replaces_key"] is None or newest[uid]["replaces_key"] in keys
    Path(agent.home / "outcome.json").write_text(json.dumps(counted))


def _echoes_within(hospital: Hospital, echoscu: Path, seconds: float) -> bool:
    command = [str(echoscu), "-aec", "STEATOSIS", "127.0.0.1", str(hospital.agent.dicom_port)]

    def echo() -> bool:
        return subprocess.run(command, capture_output=True, timeout=20, check=False).returncode == 0

    return bool(wait_until(echo, seconds, "C-ECHO after restart"))


@pytest.fixture(autouse=True)
def _leaked_sockets() -> Iterator[None]:
    """Collect what pynetdicom leaked while this module's filter still applies."""
    yield
    gc.collect()
