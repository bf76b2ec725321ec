"""Fuzz a listener over real connections, or the reader of the fast path alone, and say what was seen.

    python -m tests.load.fuzz_pdus --seconds 60            # over connections, a listener in a process of its own
    python -m tests.load.fuzz_pdus --core --pdus 1000000   # the fast path's reader, in this process

It fails where the listener or one of its threads dies, a peer is left without an answer, C-ECHO comes late, something
leaks, what nobody sent whole is kept, or a temporary file stays.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import random
import socket
import struct
import tempfile
import threading
import time
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil

from agent.receive.fast.messages import Messages
from agent.receive.fast.stream import DataStream, MalformedError
from agent.receive.spooling import Arriving
from agent.store.durable import make_directory
from agent.store.instance_files import InstanceFiles
from agent.store.layout import Layout
from tests.support.pdu_corpus import REQUESTS, SEQUENCES, VERIFICATION, count_pdus, mutated
from tests.unit.receive.reception import ULTRASOUND, Hand, Reception, associate_request, element, pdu, value

_ECHO_EVERY, _LATE_SECONDS = 200, 1.0


def _listen(folder: str, path: str, pipe: Connection) -> None:
    """Serve until told to stop; then say what was kept."""
    import structlog

    died = Counter[str]()
    threading.excepthook = lambda error: died.update([repr(error.exc_value)])
    structlog.configure(processors=[structlog.dev.ConsoleRenderer()], logger_factory=structlog.ReturnLoggerFactory())
    with Reception(Path(folder), receive_path=path) as reception:
        pipe.send(reception.port)
        pipe.recv()
        time.sleep(2)
        broken = [p.name for p in reception.stored() if reception.files.digest_of(p.stem) != p.stem]
        pipe.send((len(reception.temporaries()), broken, len(reception.stored()), dict(died)))


def echo(port: int) -> float:
    """Seconds for a C-ECHO on an association of its own."""
    started = time.monotonic()
    with Hand.associated(port, sop_class=VERIFICATION.decode(), syntax="1.2.840.10008.1.2") as hand:
        body = element(2, VERIFICATION) + element(0x100, b"\x30\0") + element(0x110, b"\1\0") + element(0x800, b"\1\1")
        hand.send(pdu(4, value(element(0, struct.pack("<L", len(body))) + body, command=True)))
        if hand.status() != 0:
            raise AssertionError("C-ECHO failed")
    return time.monotonic() - started


def one_association(port: int, rng: random.Random, seen: Counter[str]) -> None:
    """Send a mutated request, or an honest one with mutated PDUs behind it."""
    honest = rng.random() < 0.8
    request = rng.choice(list(REQUESTS.values()))
    stream = (
        b""
        if not honest
        else b"".join(mutated(rng, rng.choice(list(SEQUENCES.values()))) for _ in range(rng.choice((1, 1, 2, 4))))
    )
    first = associate_request() if honest else mutated(rng, request)
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        seen["associations"] += 1
        seen["pdus"] += count_pdus(first) + count_pdus(stream)
        connection.sendall(first)
        hand = Hand(connection)
        if honest:
            hand.answer()
            connection.sendall(stream)
        connection.shutdown(socket.SHUT_WR)
        try:
            while (kind := hand.answer()[0]) != 0:
                seen[f"answer {kind}"] += 1
        except TimeoutError:
            seen["left without an answer"] += 1


def over_connections(seconds: float, seed: int, path: str) -> dict[str, Any]:
    """Fuzz a real listener."""
    rng, seen, worst = random.Random(seed), Counter[str](), 0.0
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    with tempfile.TemporaryDirectory() as folder:
        process = multiprocessing.get_context("spawn").Process(target=_listen, args=(folder, path, theirs))
        process.start()
        port = ours.recv()
        listener = psutil.Process(process.pid)
        _warm_up(port, rng)
        before, until = _used(listener), time.monotonic() + seconds
        while time.monotonic() < until:
            one_association(port, rng, seen)
            if seen["associations"] % _ECHO_EVERY == 0:
                worst = max(worst, echo(port))
        time.sleep(6)  # two looks of the listener for what ended without a word
        after = _used(listener)
        worst = max(worst, echo(port))
        ours.send("stop")
        temporaries, broken, stored, died = ours.recv()
        process.join(20)
    told = {"path": path, "seed": seed, **seen, "worst_echo_s": round(worst, 3), "before": before, "after": after}
    faults = {
        "temporary files left": temporaries,
        "files that are not their digest": broken,
        "exit code": process.exitcode,
        "threads died": died,
        "left without an answer": seen["left without an answer"],
        "late C-ECHO": worst > _LATE_SECONDS,
        "descriptors leaked": after["descriptors"] > before["descriptors"] + 8,
        "threads leaked": after["threads"] > before["threads"] + 8,
    }
    return {**told, "stored": stored, "faults": {name: found for name, found in faults.items() if found}}


def _warm_up(port: int, rng: random.Random) -> None:
    for _ in range(100):
        one_association(port, rng, Counter())
    time.sleep(2)


def _used(process: psutil.Process) -> dict[str, int]:
    return {
        "rss_mb": process.memory_info().rss >> 20,
        "descriptors": process.num_fds(),
        "threads": process.num_threads(),
    }


class _Room:
    """What stands for the association around the reader: files are real, answers are counted."""

    def __init__(self, files: InstanceFiles, seen: Counter[str]) -> None:
        self._files, self._seen = files, seen
        self._opened: list[Arriving] = []

    def begin(self, command: Any, context_id: int) -> Arriving | None:
        """Open a file, as `FastSocket.begin` does."""
        if command.sop_class_uid != ULTRASOUND or context_id != 1:
            return None
        file = self._files.begin(
            sop_class_uid=ULTRASOUND, sop_instance_uid="1.2.3", transfer_syntax_uid="1.2.840.10008.1.2.1"
        )
        self._opened.append(Arriving(file, file.error))
        return self._opened[-1]

    def finish(self, store: Any) -> None:
        """Count a whole store."""
        self._seen["stores"] += 1
        store.arriving.close()

    def pass_on(self, _primitive: Any) -> bool:
        """Count another message's value; each counts as a message."""
        self._seen["others"] += 1
        return True

    def end(self) -> None:
        """Drop what is not whole."""
        for arriving in self._opened:
            arriving.close()


def core(pdus: int, seed: int) -> dict[str, Any]:
    """Fuzz the fast path's reader: it may refuse, and do nothing else that was not asked for."""
    rng, seen = random.Random(seed), Counter[str]()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        layout = Layout(Path(folder))
        make_directory(layout.incoming)
        files = InstanceFiles(layout, 0)
        while seen["pdus"] < pdus:
            room = _Room(files, seen)
            stream, messages = DataStream(131_072), Messages(room)
            sent = b"".join(mutated(rng, rng.choice(list(SEQUENCES.values()))) for _ in range(rng.choice((1, 2, 4))))
            seen["associations"] += 1
            try:
                _feed(stream, messages, sent, rng)
                seen["foreign"] += bool(stream.foreign)
            except MalformedError:
                seen["refused"] += 1
            seen["pdus"] += stream.pdus
            room.end()
        left = len(list(layout.incoming.iterdir()))
    faults = {"temporary files left": left} if left else {}
    return {"path": "core", "seed": seed, **seen, "seconds": round(time.monotonic() - started, 1), "faults": faults}


def _feed(stream: DataStream, messages: Messages, sent: bytes, rng: random.Random) -> None:
    at = 0
    while at < len(sent) and not stream.foreign:
        step = rng.choice((1, 3, 6, 7, 100, 100_000))
        for piece in stream.pieces(memoryview(sent)[at : at + step]):
            if piece is None:
                messages.end_pdu()
            else:
                messages.take(piece)
        at += step


def main() -> int:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--path", choices=["fast", "stock"], default="fast")
    parser.add_argument("--core", action="store_true")
    parser.add_argument("--pdus", type=int, default=1_000_000)
    chosen = parser.parse_args()
    over = lambda: over_connections(chosen.seconds, chosen.seed, chosen.path)  # noqa: E731
    told = core(chosen.pdus, chosen.seed) if chosen.core else over()
    print(json.dumps(told))
    return 1 if told["faults"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
