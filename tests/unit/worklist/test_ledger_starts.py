"""Processes that open a new ledger at the same moment."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_OPEN = """
import sys
from pathlib import Path
from agent.worklist.ledger import Ledger
sys.stdin.readline()
ledger = Ledger.in_folder(Path(sys.argv[1]))
ledger.prepare()
"""


def test_new_ledger_opened_by_several_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _OPEN, str(tmp_path / "ledger.sqlite")]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        _, told = process.communicate(timeout=60)
        assert process.returncode == 0, told
