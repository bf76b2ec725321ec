"""From the release before: its own code runs, studies wait in its ledger, and this release takes over in place.

The release before is the parent of the commit that brought the newest migration (`UPGRADE_FROM` names another).
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from agent.demo.patients import make_study
from agent.worklist.ledger import HEAD_REVISION
from tests.acceptance.conftest import WHEN
from tests.acceptance.test_fault_matrix import ends_of, reports_in
from tests.peers.orthanc import Orthanc
from tests.peers.postgresql import Postgresql
from tests.peers.valkey import Valkey
from tests.support.agent_process import AgentProcess, wait_until
from tests.support.modality import Modality

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.peers,
    # pynetdicom leaves the socket of a connection that was refused or cut to the garbage collector
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

REPOSITORY = Path(__file__).parents[2]


def git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"the repository's history is not here: git {arguments[0]}: {done.stderr.strip()[:200]}")
    return done.stdout.strip()


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the code of the release before."""
    newest = f"agent/worklist/migrations/versions/rev_{HEAD_REVISION}*.py"
    added = git("log", "-1", "-m", "--first-parent", "--diff-filter=A", "--format=%H", "--", newest)
    revision = os.environ.get("UPGRADE_FROM") or f"{added}^"
    folder = tmp_path_factory.mktemp("before")
    git("archive", "--output", str(folder / "code.tar"), revision, "agent", "inference", "training")
    with tarfile.open(folder / "code.tar") as code:
        code.extractall(folder, filter="data")
    return folder


def as_before(process: AgentProcess, folder: Path) -> AgentProcess:
    """Let the process run the code in a folder, whatever the working directory is."""
    process.environment |= {"PYTHONPATH": str(folder), "PYTHONSAFEPATH": "1"}
    return process


def revision_of(url: str) -> str:
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        found = str(connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one())
    engine.dispose()
    return found


@pytest.fixture
def orthanc(tmp_path: Path, peer_tool: Callable[[str], Path]) -> Iterator[Orthanc]:
    peer_tool("Orthanc")
    with Orthanc(tmp_path, is_verbose=False) as one:
        yield one
    gc.collect()


def settings_of(orthanc: Orthanc, **more: str) -> dict[str, str]:
    return {
        "AGENT_RESULTS__DESTINATIONS": json.dumps([orthanc.archive]),
        "AGENT_RESULTS__COMMITMENT_SECONDS": "0",
        "AGENT_STUDY__QUIET_SECONDS": "2",
        **more,
    }


def test_one_host_upgraded_in_place(
    before: Path, orthanc: Orthanc, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    ports = {"dicom_port": free_port(), "web_port": free_port()}
    old = as_before(AgentProcess(tmp_path / "agent", **ports, settings=settings_of(orthanc)), before)
    url = f"sqlite:///{tmp_path}/agent/var/ledger.sqlite"
    old.start()
    with Modality(ports["dicom_port"], "in place", make_study(5, seed=7, when=WHEN).instances) as modality:
        time.sleep(6.0)
    assert revision_of(url) < HEAD_REVISION
    states = {entry["state"] for entry in old.get("/api/worklist")}
    assert states & {"RECEIVING", "SCHEDULED", "IN PROGRESS"}, "some wait"
    assert old.stop()[0] == 0
    new = AgentProcess(tmp_path / "agent", **ports, settings=settings_of(orthanc))
    new.start()
    try:
        sent = list(modality.acknowledged)
        wait_until(lambda: ends_of(new, sent), 120, f"all proved; see {new.log}", every=0.5)
        assert revision_of(url) == HEAD_REVISION
        counted = reports_in(orthanc)
        assert {uid: counted[uid] for uid in sent} == dict.fromkeys(sent, 1), "one report a study"
        print(
            f"\n{len(sent)} studies sent to the release before, states at its end {sorted(states)}: each reported once"
        )
    finally:
        new.kill()


def test_hosts_upgraded_one_after_another(
    before: Path, orthanc: Orthanc, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    ports = {"dicom_port": free_port(), "web_port": free_port()}
    with Postgresql(free_port()) as postgresql, Valkey(tmp_path / "valkey", free_port()) as valkey:
        settings = settings_of(orthanc, AGENT_DATABASE__URL=postgresql.url, AGENT_BROKER__URL=valkey.url)
        running = {
            role: as_before(AgentProcess(tmp_path / "shared", **ports, settings=settings, role=role), before)
            for role in ("listener", "worker", "web")
        }
        for process in running.values():
            process.start(ready=False)
        try:
            wait_until(running["web"].is_ready, 120, "ready")
            told = {}
            with Modality(ports["dicom_port"], "rolling", make_study(5, seed=7, when=WHEN).instances) as modality:
                time.sleep(4.0)
                new = AgentProcess(tmp_path / "shared", **ports, settings=settings, role="web")
                assert revision_of(postgresql.url) < HEAD_REVISION
                new.run("migrate")
                assert revision_of(postgresql.url) == HEAD_REVISION
                time.sleep(4.0)  # the release before goes on with the new shape
                told["before and migrated"] = len(modality.acknowledged)
                for role in ("listener", "worker", "web"):
                    running[role].stop()
                    running[role] = AgentProcess(tmp_path / "shared", **ports, settings=settings, role=role)
                    running[role].start(ready=False)
                    time.sleep(4.0)
                    told[f"{role} exchanged"] = len(modality.acknowledged)
            sent = list(modality.acknowledged)
            wait_until(lambda: ends_of(running["web"], sent), 180, f"all proved; see {tmp_path}", every=0.5)
            counted = reports_in(orthanc)
            assert {uid: counted[uid] for uid in sent} == dict.fromkeys(sent, 1), "one report a study"
            print(f"\n{len(sent)} studies, acknowledged by the time of {told}; the modality saw {dict(modality.seen)}")
        finally:
            for process in running.values():
                if process.process is not None and process.process.poll() is None:
                    process.kill()
