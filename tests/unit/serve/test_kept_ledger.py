"""Commands that look at what an agent keeps, where none keeps anything."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.domain.errors import SettingsError
from agent.serve.composition.context import kept_ledger_of, ledger_of
from agent.settings import load_settings

_COMMANDS = (
    ["worklist"],
    ["show", "1.2.3"],
    ["retry", "--state", "failed"],
    ["cancel", "1.2.3"],
    ["replay", "1.2.3"],
)


@pytest.mark.parametrize("command", _COMMANDS, ids=lambda command: command[0])
def test_a_folder_without_a_ledger_is_not_an_empty_worklist(command: list[str], tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AGENT_")}
    ended = subprocess.run(
        [sys.executable, "-m", "agent", *command],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 3, ended.stderr
    assert str(tmp_path / "var") in ended.stderr
    assert "run it where `agent serve` runs" in ended.stderr
    assert not any(tmp_path.iterdir())


@pytest.fixture
def another_users(tmp_path: Path) -> Iterator[Path]:
    """A folder that whoever runs the test may not look into; root becomes somebody else meanwhile."""
    folder = tmp_path / "var"
    folder.mkdir()
    folder.chmod(0o000)
    was = os.geteuid()
    if was == 0:
        os.seteuid(65534)
    yield folder
    os.seteuid(was)
    folder.chmod(0o700)


def test_a_folder_of_another_user_is_no_crash(another_users: Path) -> None:
    settings = load_settings(None, {"AGENT_STORAGE__DATA_DIR": str(another_users)})
    with pytest.raises(SettingsError, match=r"cannot be read: Permission denied.*as the user that `agent serve` runs"):
        kept_ledger_of(settings)


def test_a_driver_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)  # as where it is not installed
    settings = load_settings(None, {"AGENT_DATABASE__URL": "postgresql+psycopg://agent@127.0.0.1:1/agent"})
    with pytest.raises(SettingsError, match=r"package psycopg \(pip install"):
        ledger_of(settings)
