"""Commands that look at what an agent keeps, where none keeps anything."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

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
