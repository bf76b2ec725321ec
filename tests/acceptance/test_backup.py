"""The runbook's backup and restore, done while the agent runs and as the runbook says."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.demo.patients import make_study
from agent.demo.sender import send_study
from tests.support.agent_process import AgentProcess

pytestmark = pytest.mark.acceptance
FOLDERS = ("instances", "results")


def _back_up(var: Path, backup: Path) -> None:
    """Files first, the ledger last; SQLite's own backup while others write."""
    for folder in FOLDERS:
        shutil.copytree(var / folder, backup / folder)
    shutil.copy2(var / "secret", backup / "secret")
    with (
        closing(sqlite3.connect(var / "ledger.sqlite")) as live,
        closing(sqlite3.connect(backup / "ledger.sqlite")) as to,
    ):
        live.backup(to)


def test_a_restored_agent_knows_everything_and_makes_nothing_twice(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    study = make_study(5, seed=7, when=datetime(2026, 11, 23, 9, tzinfo=UTC))
    uid = study.study_instance_uid
    agent = AgentProcess(tmp_path / "first", dicom_port=free_port(), web_port=free_port())
    try:
        agent.start()
        send_study(study.instances, host="127.0.0.1", port=agent.dicom_port)
        before = agent.await_state(uid, seconds=120)
        _back_up(agent.home / "var", tmp_path / "backup")
    finally:
        agent.kill()

    restored = AgentProcess(tmp_path / "second", dicom_port=free_port(), web_port=free_port())
    shutil.copytree(tmp_path / "backup", restored.home / "var")
    try:
        restored.start()
        assert restored.run("doctor", "--deep").returncode == 0
        after = restored.show(uid)
        assert (after["score"], after["results"]) == (before["score"], before["results"])
        restored.run("replay", uid, "--wait")
        again = restored.show(uid)
        uids = [{result["sop_instance_uid"] for result in shown["results"]} for shown in (before, again)]
        assert uids[0] == uids[1]
    finally:
        restored.kill()
