"""DCMTK's archive: probed, delivered to, proved."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.deliver.deliver_result import deliver_result
from agent.deliver.probe import probe_archive
from agent.domain.identifiers import Archive
from agent.domain.results import Proof
from agent.domain.work_item import State
from agent.scu.config import ScuConfig
from tests.support.ports import free_port
from tests.unit.deliver.outbox_fixture import LOG, OWNER, make_desk

pytestmark = pytest.mark.peers
SCU = ScuConfig(ae_title="STEATOSIS")


@pytest.fixture(scope="module")
def dcmqrscp(tmp_path_factory: pytest.TempPathFactory, peer_tool: Callable[[str], Path]) -> Iterator[Archive]:
    program, folder = peer_tool("dcmqrscp"), tmp_path_factory.mktemp("dcmqrscp")
    port = free_port()
    (folder / "images").mkdir()
    (folder / "dcmqrscp.cfg").write_text(
        f"NetworkTCPPort = {port}\nMaxPDUSize = 16384\nMaxAssociations = 16\n"
        "HostTable BEGIN\nHostTable END\nVendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\nQRSCP {folder / 'images'} RW (200, 1024mb) ANY\nAETable END\n"
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, "-c", str(folder / "dcmqrscp.cfg")], stdout=log, stderr=log)
    archive = Archive(ae_title="QRSCP", host="127.0.0.1", port=port)
    try:
        end = time.monotonic() + 10
        while not probe_archive(archive, SCU)[0].ok and time.monotonic() < end:
            time.sleep(0.05)
        yield archive
    finally:
        process.terminate()
        process.wait(10)


def test_delivered_and_proved(tmp_path: Path, dcmqrscp: Archive) -> None:
    desk = make_desk(tmp_path, (str(dcmqrscp),))
    now, source = time.time, random.Random(1)
    outcome = deliver_result(desk.ledger, desk.layout, desk.item, OWNER, SCU, now, source, LOG, commitment_seconds=10.0)
    assert outcome.state is State.COMPLETED
    assert {row.proof for row in desk.rows()} == {Proof.C_FIND}, "it offers no storage commitment"


def test_probe(dcmqrscp: Archive) -> None:
    findings = {one.subject.removeprefix(f"{dcmqrscp} "): one for one in probe_archive(dcmqrscp, SCU, retrieve=True)}
    assert [one.message for one in findings.values() if not one.ok] == []
    assert findings["retrieval"].message == "by C-GET and C-MOVE"
    assert findings["storage commitment"].message.startswith("not offered")
