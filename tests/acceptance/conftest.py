"""An agent with an Orthanc beside it, both real."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.demo.patients import SyntheticStudy, make_study
from tests.peers.orthanc import Orthanc
from tests.support.agent_process import AgentProcess

WHEN = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)


@dataclass
class Hospital:
    """One agent and its archive."""

    agent: AgentProcess
    orthanc: Orthanc

    def result_uids(self) -> set[str]:
        """SOP Instance UIDs of everything of ours in the archive: we send nothing but results."""
        return set(self.orthanc.files())


@pytest.fixture
def hospital(tmp_path: Path, free_port: Callable[[], int], peer_tool: Callable[[str], Path]) -> Iterator[Hospital]:
    """Start Orthanc; the agent is configured for it but not started."""
    peer_tool("Orthanc")
    dicom_port = free_port()
    with Orthanc(tmp_path, {"STEATOSIS": ("127.0.0.1", dicom_port)}) as orthanc:
        settings = {
            "AGENT_RESULTS__DESTINATIONS": json.dumps([orthanc.archive]),
            "AGENT_ARCHIVE__QUERY": orthanc.archive,
        }
        agent = AgentProcess(tmp_path / "agent", dicom_port=dicom_port, web_port=free_port(), settings=settings)
        yield Hospital(agent, orthanc)
        if agent.process is not None and agent.process.poll() is None:
            agent.kill()


@pytest.fixture
def study() -> SyntheticStudy:
    """Two single images and a JPEG cine of one synthetic patient."""
    return make_study(5, seed=7, when=WHEN)


def save(instances: tuple[object, ...], folder: Path) -> list[Path]:
    """Write instances as files, for senders that take files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, ds in enumerate(instances):
        path = folder / f"{number}.dcm"
        ds.save_as(path, enforce_file_format=True)  # type: ignore[attr-defined]
        paths.append(path)
    return paths
