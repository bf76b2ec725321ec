"""Listener, workers and page as separate processes over PostgreSQL and a Valkey with a password: each is killed, both
services are restarted under load, and nothing is lost and nothing reported twice.
"""

from __future__ import annotations

import gc
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.demo.patients import make_study
from tests.acceptance.conftest import WHEN, Hospital
from tests.acceptance.test_kills import _push, _reports
from tests.peers.orthanc import Orthanc
from tests.peers.postgresql import Postgresql
from tests.peers.valkey import Valkey
from tests.support.agent_process import AgentProcess, wait_until

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.peers,
    # pynetdicom leaves the socket of a connection that was refused or cut to the garbage collector
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@dataclass
class Department:
    """Every process by its role, and what they lean on."""

    roles: dict[str, AgentProcess]
    postgresql: Postgresql
    valkey: Valkey
    orthanc: Orthanc

    @property
    def page(self) -> AgentProcess:
        return self.roles["web"]

    def restart(self, name: str) -> None:
        self.roles[name].kill()
        self.roles[name].start(ready=False)


@pytest.fixture
def department(tmp_path: Path, free_port: Callable[[], int], peer_tool: Callable[[str], Path]) -> Iterator[Department]:
    peer_tool("Orthanc")
    dicom_port, web_port = free_port(), free_port()
    with (
        Orthanc(tmp_path, {"STEATOSIS": ("127.0.0.1", dicom_port)}) as orthanc,
        Postgresql(free_port()) as postgresql,
        Valkey(tmp_path / "valkey", free_port()) as valkey,
    ):
        settings = {
            "AGENT_RESULTS__DESTINATIONS": json.dumps([orthanc.archive]),
            "AGENT_DATABASE__URL": postgresql.url,
            "AGENT_BROKER__URL": valkey.url,
            "AGENT_STUDY__QUIET_SECONDS": "3",
        }
        roles = {
            role: AgentProcess(
                tmp_path / "shared", dicom_port=dicom_port, web_port=web_port, settings=settings, role=role
            )
            for role in ("listener", "worker", "web")
        }
        for process in roles.values():
            process.start(ready=False)
        try:
            yield Department(roles, postgresql, valkey, orthanc)
        finally:
            for process in roles.values():
                if process.process is not None and process.process.poll() is None:
                    process.kill()
            gc.collect()


def test_any_process_and_both_services_may_fail_under_load(department: Department) -> None:
    d = department
    wait_until(d.page.is_ready, 120, f"ready; see {d.page.home}")
    made = [make_study(number, seed=13, when=WHEN) for number in range(1, 7)]
    hospital = Hospital(d.roles["listener"], d.orthanc)
    acknowledged: set[str] = set()
    over = threading.Event()

    def send() -> None:
        left = [study.instances for study in made]
        while left and not over.is_set():
            left = _push(hospital, left, acknowledged, until=time.monotonic() + 2)
            time.sleep(1.0)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        for role in ("listener", "worker", "web"):
            d.restart(role)
            time.sleep(3.0)
        d.postgresql.stop()
        time.sleep(2.0)
        d.postgresql.start()
        time.sleep(3.0)
        d.valkey.kill()
        time.sleep(2.0)
        d.valkey.start()
        sender.join(timeout=180)
        assert not sender.is_alive(), "every study was acknowledged in the end"
    finally:
        over.set()
        sender.join()
    wait_until(d.page.is_ready, 120, "ready again")
    for study in made:
        shown = d.page.await_state(study.study_instance_uid, seconds=240)
        have = {instance["sop_instance_uid"] for instance in shown["instances"]}
        assert {str(ds.SOPInstanceUID) for ds in study.instances} <= have
    assert acknowledged == {str(ds.SOPInstanceUID) for study in made for ds in study.instances}
    finished = [item for item in d.page.get("/api/worklist") if item["state"] == "COMPLETED"]
    reports = _reports(hospital)
    assert set(reports) == {study.study_instance_uid for study in made}
    for uid, count in reports.items():
        keys = {item["result_key"] for item in finished if item["study_instance_uid"] == uid}
        assert count == len(keys), "one report for each set of instances that was complete"


def test_a_wrong_password_is_told_by_name(department: Department) -> None:
    d = department
    wait_until(d.page.is_ready, 120, "ready")
    environment = {**d.page.environment, "AGENT_BROKER__URL": d.valkey.url.replace("also-of", "not")}
    d.page.environment, kept = environment, d.page.environment
    told = json.loads(d.page.run("doctor", "--json", check=False).stdout)
    d.page.environment = kept
    faults = json.dumps(told)
    assert "broker" in faults
    assert "not-the-test-alone" not in faults, "no password in any output"
