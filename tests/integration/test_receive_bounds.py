"""How much time and space a peer gets, on both ways of reading."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from agent.domain.identifiers import Peer
from agent.receive import spooling
from agent.receive.bounds import Bounds, Doorkeeper, Pace, TooSlowError
from agent.store.instance_files import InstanceFiles
from agent.worklist import tables as t
from tests.unit.receive.reception import (
    STUDY,
    Hand,
    Reception,
    associate_request,
    encoded,
    instance,
    pdu,
    store_command,
    value,
    wait_for,
)

ABORT, CLOSED, REJECT = 7, 0, 3
IMPATIENT = Bounds(associate_seconds=0.6, idle_seconds=0.6, min_bytes_per_second=1e6)
Started = Callable[..., Reception]


@pytest.fixture(params=["fast", "stock"])
def started(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Started]:
    opened: list[Reception] = []

    def start(max_object_bytes: int = 1 << 62, **config: Any) -> Reception:
        reception = Reception(tmp_path, receive_path=request.param, **config)
        reception.files.__init__(reception.layout, 0, max_object_bytes)  # type: ignore[misc]
        opened.append(reception.__enter__())
        return reception

    yield start
    for reception in opened:
        reception.__exit__(None, None, None)


def cut_off(hand: Hand, pieces: Iterable[bytes], pause: float = 0.02) -> bool:
    """Send piece by piece; whether the listener made an end of it."""
    try:
        for piece in pieces:
            hand.send(piece)
            time.sleep(pause)
        ended(hand)
    except OSError:
        return True
    return ended(hand) == CLOSED


def ended(hand: Hand) -> int:
    """What the listener says last; the connection is closed after it."""
    hand.connection.settimeout(20)
    return hand.answer()[0]


def test_silence_before_a_request(started: Started) -> None:
    with Hand.connect(started(bounds=IMPATIENT).port) as hand:
        assert ended(hand) in (ABORT, CLOSED)


def test_drip_feed_before_a_request(started: Started) -> None:
    """A byte at a time keeps every wait short; the whole has to come in time all the same."""
    with Hand.connect(started(bounds=IMPATIENT).port) as hand:
        assert cut_off(hand, (bytes([byte]) for byte in associate_request() * 4))


def test_idle_association(started: Started) -> None:
    with Hand.associated(started(bounds=IMPATIENT).port) as hand:
        assert ended(hand) == ABORT


@pytest.mark.parametrize("how", ["bytes", "small PDUs", "silence"])
def test_slow_in_mid_object(started: Started, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """Small PDUs restart every timer of pynetdicom's; only a pace over the whole message ends them."""
    monkeypatch.setattr("agent.receive.bounds._GRACE_SECONDS", 0.5)
    reception = started(bounds=Bounds(min_bytes_per_second=1e6))
    drops = {
        "bytes": [b"\4", b"\0", *[bytes([byte]) for byte in struct.pack(">LLBB", 60_000, 59_996, 1, 0)], *[b"x"] * 500],
        "small PDUs": [pdu(4, value(b"\0" * 8, last=False))] * 500,
        "silence": [],
    }
    with Hand.associated(reception.port) as hand:
        hand.send(pdu(4, value(store_command(b"1.2.3"), command=True)), pdu(4, value(b"\0" * 100, last=False)))
        assert cut_off(hand, drops[how])
    wait_for(lambda: not reception.temporaries())
    wait_for(lambda: [row.outcome for row in reception.rows(t.associations)] == ["aborted"])
    assert reception.send(instance()) == [0]


def test_object_over_the_limit(started: Started) -> None:
    reception = started(max_object_bytes=100_000)
    assert reception.send(instance(1, size=150_000), instance(2, size=50_000)) == [0xA700, 0]
    assert (len(reception.stored()), reception.temporaries()) == (1, [])


def test_object_that_grows_past_the_limit_is_dropped_before_its_end(tmp_path: Path) -> None:
    files = InstanceFiles(Reception(tmp_path).layout, 0, max_object_bytes=1 << 20)
    file = files.begin(sop_class_uid="1.2", sop_instance_uid="1.2.3", transfer_syntax_uid="1.2.840.10008.1.2")
    for _ in range(130):
        file.write(bytes(1 << 19))
    assert file.error is not None
    assert list(file.path.parent.iterdir()) == []


def test_refused_object_without_end(started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spooling, "_MOST_DROPPED_BYTES", 100_000)
    reception = started(max_object_bytes=10_000)
    with Hand.associated(reception.port) as hand:
        hand.send(pdu(4, value(store_command(f"{STUDY}.1".encode()), command=True)))
        assert cut_off(hand, [pdu(4, value(bytes(16_000), last=False))] * 500, pause=0.001)
    wait_for(lambda: not reception.temporaries())


def test_associations_of_one_peer(started: Started) -> None:
    reception = started(max_associations_per_peer=2)
    held = [reception.associate() for _ in range(2)]
    with structlog.testing.capture_logs() as logs:
        assert not reception.associate().is_established
        other = reception.associate(calling="OTHER")
    assert other.is_established
    assert "max_associations_per_peer is 2" in next(log["cause"] for log in logs if "rejected" in log["event"])
    for association in (*held, other):
        association.release()
    wait_for(lambda: all(row.closed_at for row in reception.rows(t.associations)))
    assert reception.send(instance()) == [0]


def test_strangers_hold_few_threads(started: Started) -> None:
    reception = started(peers=(Peer.parse("CART@192.0.2.1"),))
    waiting = [socket.create_connection(("127.0.0.1", reception.port)) for _ in range(12)]
    try:
        dropped = 0
        for connection in waiting:
            connection.settimeout(0.5)
            with contextlib.suppress(TimeoutError):
                dropped += connection.recv(1) == b""
        assert dropped == 4
    finally:
        for connection in waiting:
            connection.close()

    def is_heard() -> bool:
        with contextlib.suppress(OSError), Hand.connect(reception.port) as hand:
            hand.send(associate_request())
            return hand.answer()[0] == REJECT
        return False

    wait_for(is_heard)  # once the listener has seen that the others are gone


def test_paces() -> None:
    pace = Pace(100)
    pace.waited(19)
    pace.received(500)
    pace.waited(5)
    with pytest.raises(TooSlowError):
        pace.waited(2)
    Pace(0).waited(1e9)


def test_doorkeeper_forgets_who_left() -> None:
    doorkeeper = Doorkeeper(0, lambda _host: True)
    assert [doorkeeper.arrive("h", port) for port in range(64)] == [None] * 64
    assert doorkeeper.arrive("h", 99) is not None
    doorkeeper.leave("h", 3)
    doorkeeper.leave("h", 3)
    assert doorkeeper.arrive("h", 99) is None


def test_whole_objects_are_untouched(started: Started) -> None:
    reception = started(bounds=Bounds(min_bytes_per_second=1e9), max_object_bytes=10**9)
    with Hand.associated(reception.port) as hand:
        assert hand.store(store_command(f"{STUDY}.1".encode()), encoded(instance(1, size=60_000))) == 0
