"""The order of the kernel's own calls, as strace sees it: nothing of ours is in between.

write, fdatasync of the file, rename, fsync of its folder, the ledger's commit, and only then Success on the socket.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.load.receivers import Agent
from tests.unit.receive.reception import STUDY, Hand, encoded, instance, store_command

pytestmark = pytest.mark.peers

_CALLS = "openat,write,writev,fdatasync,fsync,rename,pwrite64,sendto,sendmsg,close"
_STEPS = {
    "data": r"\bwritev\(\d+<[^>]*/incoming/",
    "sync file": r"\bfdatasync\(\d+<[^>]*/incoming/[^>]*>\)",
    "rename": r"\brename\(\"[^\"]*/incoming/[^\"]*\", \"[^\"]*/instances/",
    "sync folder": r"\bfsync\(\d+<[^>]*/instances/[^>]*>\)",
    "ledger": r"\bpwrite64\(\d+<[^>]*ledger\.sqlite-wal",
    "Success": r"\b(?:write|sendto)\(\d+<(?:TCP|socket):.*?>, \"\\4\\0",
}


class _OneListener(Agent):
    settings: Mapping[str, str] = {"AGENT_DICOM__LISTENERS": "1"}


def _attached(strace: Path, receiver: Agent, told: Path) -> subprocess.Popen[bytes]:
    (listener,) = receiver.listeners()
    command = [str(strace), "-f", "-yy", "-e", f"trace={_CALLS}", "-o", str(told), "-p", str(listener.pid)]
    with told.with_name("strace").open("wb") as log:
        tracer = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    status = Path(f"/proc/{listener.pid}/status")
    deadline = time.monotonic() + 10
    while "TracerPid:\t0" in status.read_text():
        if tracer.poll() is not None or time.monotonic() > deadline:
            pytest.skip(f"strace may not attach here: {told.with_name('strace').read_text()}")
        time.sleep(0.05)
    time.sleep(0.5)  # its threads are attached one after another
    return tracer


@pytest.mark.parametrize("size", [900, 120_000, 900_000], ids=["small", "larger", "in many reads"])
def test_order_of_the_kernels_calls(tmp_path: Path, peer_tool: Callable[[str], Path], size: int) -> None:
    strace, told = peer_tool("strace"), tmp_path / "calls"
    with _OneListener(tmp_path / "receiver") as receiver:
        with Hand.associated(receiver.port) as hand:
            assert hand.store(store_command(f"{STUDY}.1".encode()), encoded(instance(1))) == 0  # made once
            assert isinstance(receiver, Agent)
            tracer = _attached(strace, receiver, told)
            assert hand.store(store_command(f"{STUDY}.2".encode()), encoded(instance(2, size=size))) == 0
            time.sleep(0.3)
        os.kill(tracer.pid, signal.SIGINT)
        tracer.wait(10)
    lines = told.read_text().splitlines()
    at = {step: [n for n, line in enumerate(lines) if re.search(shape, line)] for step, shape in _STEPS.items()}
    assert all(at.values()), {step: len(found) for step, found in at.items()}
    success = at["Success"][0]
    before = {step: [n for n in found if n <= success] for step, found in at.items()}
    assert before["data"][-1] < before["sync file"][0] < before["rename"][0] < before["sync folder"][0]
    assert before["sync folder"][0] < before["ledger"][0] <= before["ledger"][-1] < success
    assert at["data"] == before["data"]
    assert len(before["sync file"]) == len(before["rename"]) == 1
