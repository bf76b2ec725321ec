"""Ten thousand associations one after another: nothing is left of them."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Final

import pytest

from tests.load.fuzz_pdus import echo
from tests.load.receivers import Agent
from tests.unit.receive.reception import Hand, associate_request, encoded, instance, pdu, store_command, value

pytestmark = [pytest.mark.bench, pytest.mark.timeout(900)]

LONGEST_SECONDS: Final = 30.0
MANY: Final = int(os.environ.get("BENCH_ASSOCIATIONS", "10000"))
CALLERS: Final = 8


def one_of_many(port: int, number: int, told: Counter[str]) -> None:
    """Open an association and end it in one of the ways that peers have; every fourth sends an object first."""
    with Hand.connect(port) as hand:
        hand.connection.settimeout(LONGEST_SECONDS)
        hand.send(associate_request())
        kind, _ = hand.answer()
        if kind != 2:
            told[f"PDU {kind} to a request"] += 1
            return
        way = ("release", "store and release", "abort", "close", "release in mid-object")[number % 5]
        ds = instance(number, size=2000)
        command = pdu(4, value(store_command(ds.SOPInstanceUID.encode()), command=True))
        if way == "store and release":
            hand.send(command, pdu(4, value(encoded(ds))))
            told[f"status {hand.status():04X}"] += 1
        if way == "release in mid-object":
            hand.send(command, pdu(4, value(encoded(ds)[:500], last=False)))
        if way != "close":
            hand.send(pdu(7, bytes(4)) if way == "abort" else pdu(5, bytes(4)))
        if way.endswith("release"):
            way += ", released" if hand.answer()[0] == 6 else ", not released"
        told[way] += 1


def standing(receiver: Agent) -> dict[str, int]:
    """What the listeners hold, once nobody calls any more.

    The ledger's descriptors are counted apart: SQLite opens three files a connection, and its pool keeps as many
    connections as were ever needed at the same moment, up to ten a process.
    """
    listeners = receiver.listeners()
    targets = [where for one in listeners for where in descriptors(one.pid)]
    of_ledger = sum("/ledger.sqlite" in where for where in targets)
    return {
        "descriptors": len(targets) - of_ledger,
        "descriptors of the ledger": of_ledger,
        "threads": sum(one.num_threads() for one in listeners),
        "kilobytes": sum(one.memory_info().rss for one in listeners) // 1024,
    }


def descriptors(pid: int) -> list[str]:
    """What each descriptor of a process refers to."""
    found = []
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # of our own look, or just closed
            found.append(str(path.readlink()))
    return found


def test_ten_thousand_one_after_another(tmp_path: Path) -> None:
    """Descriptors and threads are given back, and memory is flat once everything has been used once."""
    told, numbers, marks = Counter[str](), iter(range(MANY)), dict[int, dict[str, int]]()
    lock = threading.Lock()
    with Agent(tmp_path / "receiver") as receiver:
        assert isinstance(receiver, Agent)

        def call(until: int) -> None:
            while True:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return
                try:
                    one_of_many(receiver.port, number, told)
                except (OSError, AssertionError) as error:
                    told[f"failed: {type(error).__name__}"] += 1
                if number + 1 >= until:
                    return

        for until in (MANY // 5, MANY // 2, MANY):
            callers = [threading.Thread(target=call, args=(until - n,)) for n in range(CALLERS)]
            for caller in callers:
                caller.start()
            for caller in callers:
                caller.join()
            time.sleep(3)
            marks[until] = standing(receiver)
            print(until, dict(told), marks[until], flush=True)
        stored = list((tmp_path / "receiver" / "var" / "instances").glob("*/*.dcm"))
        left = list((tmp_path / "receiver" / "var" / "incoming").iterdir())
        seconds = echo(receiver.port)
    first, half, last = marks[MANY // 5], marks[MANY // 2], marks[MANY]
    print(f"C-ECHO afterwards in {1000 * seconds:.0f} ms", flush=True)
    assert told["status 0000"] == len(stored)
    assert not any(name.startswith(("failed", "PDU")) for name in told)
    assert left == []
    assert seconds < 1
    assert last["descriptors"] <= first["descriptors"]
    assert last["descriptors of the ledger"] <= (os.cpu_count() or 1) * 10 * 3
    assert last["threads"] <= first["threads"] + 4
    # a heap is as large as what ever waited for a collection at once: its top comes late, not after the first thousands
    assert last["kilobytes"] < half["kilobytes"] * 1.1
