"""Which commits of the ledger reach the disk before they return, as strace sees it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.peers

_SCRIPT = """
import sys
from pathlib import Path
from agent.worklist.ledger import Ledger
ledger = Ledger.in_folder(Path(sys.argv[1]))
ledger.prepare()
for number, durable in enumerate((False, False, True, False)):
    print("commit", number, file=sys.stderr, flush=True)
    with ledger.write_prepared(durable=durable) as driver:
        driver.execute(f"INSERT INTO leases (name, owner, until) VALUES ('{number}', 'x', 0)")
print("commit over", file=sys.stderr, flush=True)
"""


def test_only_a_durable_commit_waits_for_the_disk(tmp_path: Path, peer_tool: Callable[[str], Path]) -> None:
    told = tmp_path / "calls"
    command = [str(peer_tool("strace")), "-f", "-yy", "-e", "trace=write,fsync,fdatasync", "-o", str(told)]
    command += [sys.executable, "-c", _SCRIPT, str(tmp_path / "ledger.sqlite")]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120)
    parts = re.split(r"\bwrite\(2<[^\n]*\"commit", told.read_text())[1:]
    synced = [len(re.findall(r"\bf(?:data)?sync\(\d+<[^>]*ledger\.sqlite-wal>", part)) for part in parts]
    assert synced[:-1] == [0, 0, 1, 0]  # closing the ledger syncs, too
