"""Two hundred associations at once: each served or refused with a reason; ten thousand in turn: nothing is left."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from tests.load.fuzz_pdus import echo
from tests.load.receivers import Agent
from tests.unit.receive.reception import Hand, associate_request, encoded, instance, pdu, store_command, value

pytestmark = [pytest.mark.bench, pytest.mark.timeout(900)]

ASSOCIATIONS: Final = 200
OBJECTS: Final = 5
LONGEST_SECONDS: Final = 30.0
LIMIT: Final = 120
MANY: Final = int(os.environ.get("BENCH_ASSOCIATIONS", "10000"))
CALLERS: Final = 8


class LimitedAgent(Agent):
    name = "agent"
    settings: Mapping[str, str] = {"AGENT_DICOM__MAX_ASSOCIATIONS": str(LIMIT)}


def one(port: int, number: int, start: threading.Barrier, told: list[tuple[str, float]]) -> None:
    """Open an association and send; note its outcome and its longest wait for an answer."""
    stores = []
    for n in range(OBJECTS):
        ds = instance(number * 100 + n, size=60_000)
        command = pdu(4, value(store_command(ds.SOPInstanceUID.encode(), message_id=n + 1), command=True))
        stores.append((command, pdu(4, value(encoded(ds)))))
    waits = []

    def timed(hand: Hand) -> tuple[int, bytes]:
        asked = time.monotonic()
        answer = hand.answer()
        waits.append(time.monotonic() - asked)
        return answer

    start.wait()
    with Hand.connect(port) as hand:
        hand.connection.settimeout(4 * LONGEST_SECONDS)
        hand.send(associate_request())
        kind, content = timed(hand)
        if kind != 2:
            told.append((f"refused {tuple(content[1:4])}" if kind == 3 else f"PDU {kind}", max(waits)))
            return
        statuses = []
        for store in stores:
            hand.send(*store)
            statuses.append(b"\0\0\0\x09\2\0\0\0\0\0" in timed(hand)[1])
        hand.send(pdu(5, bytes(4)))
        released = timed(hand)[0] == 6
    told.append(("served" if all(statuses) and released else f"answered {statuses}", max(waits)))


@pytest.mark.parametrize("kind", [Agent, LimitedAgent], ids=["within the limit", f"at most {LIMIT}"])
def test_two_hundred_at_once(tmp_path: Path, kind: type[Agent]) -> None:
    told: list[tuple[str, float]] = []
    start = threading.Barrier(ASSOCIATIONS)
    with kind(tmp_path / "receiver") as receiver:
        senders = [
            threading.Thread(target=one, args=(receiver.port, number, start, told)) for number in range(ASSOCIATIONS)
        ]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        served = Counter(outcome for outcome, _ in told)
        longest = max(wait for _, wait in told)
        print(f"{dict(served)}; longest wait {longest:.1f} s; {receiver.peak_bytes / 1e6:.0f} MB", flush=True)
        files = list((tmp_path / "receiver" / "var" / "instances").glob("*/*.dcm"))
    assert set(served) <= {"served", "refused (2, 3, 2)"}
    assert served["served"] + served["refused (2, 3, 2)"] == ASSOCIATIONS
    assert served["served"] == ASSOCIATIONS if kind is Agent else served["refused (2, 3, 2)"]
    assert len(files) == served["served"] * OBJECTS
    assert longest < LONGEST_SECONDS


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
