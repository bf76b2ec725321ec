"""Kill a real agent while it receives, again and again, and look whether anything that it acknowledged is lost.

    python -m tests.load.kill_ingest --kills 100 --groups 10

Senders push instances of 300 bytes to 2 MB without pause. At random moments one process (listener, worker, page) or the
whole process group is killed. At the end every acknowledged instance must lie in the store with the bytes that were
sent and have its row, no file may differ from its name, and a clean start must leave no temporary file.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from agent.store.instance_files import InstanceFiles
from agent.store.layout import Layout
from tests.load.fuzz_pdus import echo
from tests.support.agent_process import AGENT, AgentProcess, wait_until
from tests.support.ports import free_port
from tests.unit.receive.reception import STUDY, Hand, encoded, instance, pdu, store_command, value

_SIZES = (64, 64, 2000, 20_000, 138_000, 2_000_000)
_SENDERS = 3
_PIECE = 60_000
_ECHO_SECONDS = 120.0


@dataclass
class Ingest:
    """Senders, and what was acknowledged to them."""

    port: int
    acknowledged: dict[str, str] = field(default_factory=dict)
    """sha256 of the data set by SOP Instance UID."""
    seen: Counter[str] = field(default_factory=Counter)
    stopped: threading.Event = field(default_factory=threading.Event)

    def send(self, number: int) -> None:
        """Push until stopped, over a new association wherever the last one broke."""
        rng, at = random.Random(number), number * 10_000_000
        while not self.stopped.is_set():
            with contextlib.suppress(OSError, AssertionError, ValueError), Hand.associated(self.port) as hand:
                self.seen["associations"] += 1
                for _ in range(rng.randint(1, 30)):
                    at += 1
                    self._store(hand, at, rng.choice(_SIZES))
                    if self.stopped.is_set():
                        break
                hand.send(pdu(5, bytes(4)))
                hand.answer()
            time.sleep(0.01)

    def _store(self, hand: Hand, number: int, size: int) -> None:
        uid = f"{STUDY}.{number}"
        data = encoded(instance(number, size=size))
        parts = [data[at : at + _PIECE] for at in range(0, len(data), _PIECE)]
        hand.send(pdu(4, value(store_command(uid.encode()), command=True)))
        for part in parts[:-1]:
            hand.send(pdu(4, value(part, last=False)))
        hand.send(pdu(4, value(parts[-1])))
        status = hand.status()
        self.seen[f"status {status:04X}"] += 1
        if status == 0:
            self.acknowledged[uid] = hashlib.sha256(data).hexdigest()


class _Agent(AgentProcess):
    """An agent of one role."""

    role = "all"

    def start(self, *, ready: bool = False) -> None:
        """Start it, without waiting."""
        del ready
        self.home.mkdir(parents=True, exist_ok=True)
        broker = {} if self.role == "all" else {"AGENT_BROKER__URL": "redis://127.0.0.1:1/0"}  # listeners need none
        with self.log.open("ab") as log:
            command = [*AGENT, "serve", "--role", self.role]
            self.process = subprocess.Popen(
                command, env=self.environment | broker, stdout=log, stderr=log, start_new_session=True
            )


def _children(agent: AgentProcess) -> dict[int, str]:
    if agent.process is None:
        return {}
    found = {}
    for child in psutil.Process(agent.process.pid).children():
        with contextlib.suppress(psutil.Error):
            line = child.cmdline()
            found[child.pid] = (
                line[line.index("agent.serve.children") + 1] if "agent.serve.children" in line else "broker"
            )
    return found


def _kill_one(agent: AgentProcess, rng: random.Random, seen: Counter[str]) -> None:
    """Kill one child; listeners three times in four, since they receive."""
    children = _children(agent)
    listeners = [pid for pid, name in children.items() if name.startswith("listener")]
    others = [pid for pid in children if pid not in listeners]
    chosen = listeners if listeners and rng.random() < 0.75 else others or listeners
    if chosen:
        pid = rng.choice(chosen)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            seen[f"killed {children[pid].split('-')[0]}"] += 1


class _Machine:
    """What the machine gave meanwhile: how fast Python was on it, and how much of it others had."""

    def __init__(self) -> None:
        self._loops: list[float] = []
        self._stolen_before = _stolen()

    def look(self) -> None:
        """Time a loop, in processor time of this thread alone."""
        started, total = time.thread_time(), 0
        for number in range(100_000):
            total += number
        self._loops.append(time.thread_time() - started)

    def told(self) -> dict[str, Any]:
        """Say it."""
        stolen, total = (after - before for after, before in zip(_stolen(), self._stolen_before, strict=True))
        loops = sorted(self._loops) or [0.0]
        return {
            "loop_ms": [round(1000 * loops[int(len(loops) * at)], 1) for at in (0, 0.5, 0.95)],
            "stolen_percent": round(100 * stolen / max(total, 1), 1),
        }


def _stolen() -> tuple[int, int]:
    """Time that the host gave to other machines, and all there was (proc_stat(5))."""
    fields = [int(field) for field in Path("/proc/stat").read_text(encoding="utf-8").splitlines()[0].split()[1:9]]
    return fields[7], sum(fields)


def _seconds_to_echo(port: int) -> float:
    """Wait until C-ECHO is answered; time in which this process itself was stopped or starved is not counted."""
    seconds = 0.0
    while seconds < _ECHO_SECONDS:
        started = time.monotonic()
        with contextlib.suppress(OSError, AssertionError, ValueError):
            echo(port)
            return seconds + time.monotonic() - started
        time.sleep(0.02)
        seconds += min(time.monotonic() - started, 1.0)
    raise AssertionError(f"no C-ECHO within {_ECHO_SECONDS:g} s")


@contextlib.contextmanager
def _sending(ingest: Ingest) -> Iterator[None]:
    """Have senders push meanwhile."""
    senders = [threading.Thread(target=ingest.send, args=(number,)) for number in range(1, _SENDERS + 1)]
    for sender in senders:
        sender.start()
    try:
        yield
    finally:
        ingest.stopped.set()
        for sender in senders:
            sender.join(60)


@dataclass
class Torment:
    """Kills of an agent, and how long it took to answer again after each."""

    agent: _Agent
    ingest: Ingest
    rng: random.Random
    machine: _Machine = field(default_factory=_Machine)
    after_one: list[float] = field(default_factory=list)
    after_group: list[float] = field(default_factory=list)

    def kill(self, rounds: list[str], pause: float, seconds: float) -> None:
        """Kill as `rounds` says, "one" process or the whole "group", no longer than `seconds`."""
        ends = time.monotonic() + seconds
        for number, kind in enumerate(rounds):
            if time.monotonic() > ends:
                break
            if number % 50 == 0:
                print(json.dumps({"kills": number, **self.ingest.seen}), file=sys.stderr, flush=True)
            time.sleep(self.rng.uniform(0.0, pause))
            self.machine.look()
            if kind == "group":
                self.agent.kill()
                self.ingest.seen["killed group"] += 1
                self.agent.start()
                self.after_group.append(_seconds_to_echo(self.agent.dicom_port))
            else:
                _kill_one(self.agent, self.rng, self.ingest.seen)
                self.after_one.append(_seconds_to_echo(self.agent.dicom_port))


def run(kills: int, groups: int, seed: int, pause: float, role: str, seconds: float) -> dict[str, Any]:
    """Kill `kills` times, `groups` of them the whole group, no longer than `seconds`; returns what was seen."""
    rng = random.Random(seed)
    rounds = ["group"] * groups + ["one"] * (kills - groups)
    rng.shuffle(rounds)
    with tempfile.TemporaryDirectory() as folder:
        agent = _agent(Path(folder), role)
        torment = Torment(agent, Ingest(agent.dicom_port), rng)
        agent.start()
        _seconds_to_echo(agent.dicom_port)
        try:
            with _sending(torment.ingest):
                torment.kill(rounds, pause, seconds)
                time.sleep(1)
        finally:
            agent.kill()
        faults, records = _after(agent, torment.ingest)
    return {
        "seed": seed,
        **torment.ingest.seen,
        "acknowledged": len(torment.ingest.acknowledged),
        "machine": torment.machine.told(),
        "echo_after_one_s": _spread(torment.after_one),
        "echo_after_group_s": _spread(torment.after_group),
        "audit_records": records,
        "faults": faults,
    }


def _agent(folder: Path, role: str) -> _Agent:
    quiet = {"AGENT_STUDY__QUIET_SECONDS": "3600", "AGENT_STUDY__MAX_WAIT_SECONDS": "7200"}
    made = _Agent(
        folder, dicom_port=free_port(), web_port=free_port(), settings=quiet | {"AGENT_DICOM__LISTENERS": "2"}
    )
    made.role = role
    return made


def _after(agent: _Agent, ingest: Ingest) -> tuple[dict[str, Any], int]:
    """Start the whole agent once more, and look; returns what is wrong, and the records of the audit trail."""
    agent.role = "all"
    agent.start()
    _seconds_to_echo(agent.dicom_port)
    with contextlib.suppress(AssertionError):  # what does not settle is told as a fault
        wait_until(lambda: not _faults(Layout(agent.home / "var"), {}), 60, "rows are rebuilt", every=1.0)
    faults = _faults(Layout(agent.home / "var"), ingest.acknowledged)
    trail = json.loads(agent.run("audit", "verify", "--json").stdout)[0]
    agent.stop()
    return faults | ({} if trail["ok"] else {"audit trail": trail["fault"]}), trail["records"]


def _faults(layout: Layout, acknowledged: dict[str, str]) -> dict[str, Any]:
    files = InstanceFiles(layout, 0)
    with contextlib.closing(sqlite3.connect(layout.ledger)) as ledger:
        rows = {sha256 for (sha256,) in ledger.execute("SELECT sha256 FROM instances")}
    kept = set(files.digests())
    told = {
        "acknowledged without file": [uid for uid, sha256 in acknowledged.items() if sha256 not in kept],
        "acknowledged without row": [uid for uid, sha256 in acknowledged.items() if sha256 not in rows],
        "files that are not their digest": [sha256 for sha256 in kept if files.digest_of(sha256) != sha256],
        "files without row": list(kept - rows),
        "temporary files": [path.name for path in layout.incoming.iterdir()],
    }
    return {name: found[:5] for name, found in told.items() if found}


def _spread(seconds: list[float]) -> dict[str, Any]:
    ordered = [round(one, 3) for one in sorted(seconds)] or [0.0]
    return {
        "median": ordered[len(ordered) // 2],
        "p95": ordered[int(len(ordered) * 0.95)],
        "worst": ordered[-1],
        "within 1 s": f"{sum(one <= 1 for one in seconds)} of {len(seconds)}",
        "all": ordered,
    }


def main() -> int:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--groups", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--role", choices=["all", "listener"], default="all", help="listener: kills come faster")
    parser.add_argument("--pause", type=float, default=1.0, help="longest time between two kills, s")
    parser.add_argument("--seconds", type=float, default=1e9, help="kill no longer; what was acknowledged is checked")
    chosen = parser.parse_args()
    told = run(chosen.kills, chosen.groups, chosen.seed, chosen.pause, chosen.role, chosen.seconds)
    print(json.dumps(told))
    return 1 if told["faults"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
