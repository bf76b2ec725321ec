"""`agent reconcile` against a real archive: what was scored, refused, missed and why, and what is not ours to score."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from agent.domain.study import InstanceHeader, StoredFile
from agent.domain.work_item import State
from agent.worklist import arrivals, closing
from agent.worklist import tables as t
from agent.worklist.grouping import GroupBy
from agent.worklist.ledger import Ledger
from tests.peers.orthanc import Orthanc
from tests.unit.deliver.outbox_fixture import secondary_capture
from tests.unit.retrieve.spool_fixture import ultrasound
from tests.unit.worklist.conftest import BUNDLE, PATIENCE, US

pytestmark = pytest.mark.peers
ROOT = "1.2.826.0.1.3680043.8.498.7"


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[Orthanc]:
    with Orthanc(tmp_path / "peer", {"STEATOSIS": ("127.0.0.1", 11112)}) as server:
        yield server


def _receive(ledger: Ledger, study: str, images: int, *, state: State | None, reason: str | None = None) -> None:
    """Record images of a study, close it, and let its work item end as told."""
    for number in range(1, images + 1):
        header = InstanceHeader(
            sop_instance_uid=f"{study}.1.{number}",
            sop_class_uid=US,
            study_instance_uid=study,
            series_instance_uid=f"{study}.1",
            patient_id="P",
            study_date="20261123",
        )
        digest = f"{hash((study, number)) & (2**64 - 1):064x}"
        stored = StoredFile(sha256=digest, bytes=1, transfer_syntax_uid="1.2.840.10008.1.2.1", header=header)
        arrivals.record_instance(ledger, stored, association_id=None, group_by=GroupBy.STUDY, now=1000.0)
    if state is None:
        return
    closing.close_complete_groups(ledger, patience=PATIENCE, bundle_digest=BUNDLE, now=2000.0)
    ended = {"state": state, "reason": reason, "finished_at": 2001.0}
    with ledger.write() as connection:
        connection.execute(sa.update(t.work_items).where(t.work_items.c.study_instance_uid == study).values(ended))


def _reconcile(home: Path, archive: str, *arguments: str) -> tuple[int, dict[str, Any], str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AGENT_")}
    environment |= {"AGENT_STORAGE__DATA_DIR": str(home), "AGENT_ARCHIVE__QUERY": archive}
    command = [sys.executable, "-m", "agent", "reconcile", "--since", "2000-01-01", "--json", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    found = {entry["study_instance_uid"]: entry for entry in json.loads(done.stdout)}
    return done.returncode, found, done.stderr


def test_each_miss_has_its_reason(tmp_path: Path, orthanc: Orthanc) -> None:
    home = tmp_path / "var"
    home.mkdir()
    ledger = Ledger.in_folder(home / "ledger.sqlite")
    ledger.prepare()
    names = ("scored", "refused", "failed", "partial", "pending", "unknown", "report")
    studies = {name: f"{ROOT}.{number}" for number, name in enumerate(names, 1)}
    for name, uid in studies.items():
        for number in (1, 2):
            if name == "report":
                orthanc.store(secondary_capture(uid, f"{uid}.1", f"{uid}.1.{number}", odd=False))
            else:
                orthanc.store(ultrasound(uid, f"{uid}.1", f"{uid}.1.{number}", seed=number))
    _receive(ledger, studies["scored"], 2, state=State.COMPLETED)
    _receive(ledger, studies["refused"], 2, state=State.CANCELED, reason="not-liver")
    _receive(ledger, studies["failed"], 2, state=State.CANCELED, reason="delivery-failed: refused")
    _receive(ledger, studies["partial"], 1, state=State.COMPLETED)
    _receive(ledger, studies["pending"], 2, state=None)
    ledger.close()

    code, found, told = _reconcile(home, orthanc.archive, "--all")
    outcomes = {name: found[uid]["outcome"] for name, uid in studies.items() if uid in found}
    assert outcomes.pop("report", "not eligible") == "not eligible"
    assert outcomes == {
        "scored": "scored",
        "refused": "refused",
        "failed": "missed",
        "partial": "missed",
        "pending": "pending",
        "unknown": "missed",
    }
    reasons = {name: found[studies[name]]["reason"] for name in outcomes}
    assert reasons["refused"] == "not-liver"
    assert reasons["failed"].startswith("delivery-failed")
    assert "1 of the archive's 2" in reasons["partial"]
    assert "never received" in reasons["unknown"]
    assert code == 1
    assert "3 missed" in told

    code, missed, _ = _reconcile(home, orthanc.archive)
    assert code == 1
    assert set(missed) == {studies["failed"], studies["partial"], studies["unknown"]}


def test_nothing_missed_is_exit_0_and_no_archive_is_told(tmp_path: Path, orthanc: Orthanc) -> None:
    home = tmp_path / "var"
    home.mkdir()
    Ledger.in_folder(home / "ledger.sqlite").prepare()
    code, missed, told = _reconcile(home, orthanc.archive)
    assert (code, missed) == (0, {})
    assert "0 ultrasound studies" in told
