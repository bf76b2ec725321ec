"""The same bytes to the fast path and to the stock path: the same answers, byte for byte, and the same files."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.worklist import tables as t
from tests.unit.receive.reception import (
    STUDY,
    Hand,
    Reception,
    associate_request,
    element,
    encoded,
    instance,
    pdu,
    store_command,
    value,
    wait_for,
)

DATA = encoded(instance(1, size=3000))
UID = f"{STUDY}.1".encode()
COMMAND = value(store_command(UID), command=True)
ECHO_BODY = element(0x0002, b"1.2.840.10008.1.1") + element(0x0100, b"\x30\0") + element(0x0110, b"\7\0")
ECHO_BODY += element(0x0800, b"\1\1")
ECHO = value(element(0, struct.pack("<L", len(ECHO_BODY))) + ECHO_BODY, command=True)
RELEASE, ABORT = pdu(5, bytes(4)), pdu(7, bytes(4))


def fragments(data: bytes, size: int) -> list[bytes]:
    at = range(0, len(data), size)
    return [value(data[start : start + size], last=start == at[-1]) for start in at]


def halves(command: bytes) -> bytes:
    return value(command[:40], command=True, last=False) + value(command[40:], command=True)


SENT: dict[str, list[bytes]] = {
    "a C-STORE": [pdu(4, COMMAND), pdu(4, value(DATA)), RELEASE],
    "in one PDU": [pdu(4, COMMAND + value(DATA)), RELEASE],
    "in many fragments": [pdu(4, COMMAND), *(pdu(4, one) for one in fragments(DATA, 50)), RELEASE],
    "many fragments in a PDU": [pdu(4, COMMAND + b"".join(fragments(DATA, 70))), RELEASE],
    "an empty last fragment": [pdu(4, COMMAND), pdu(4, value(DATA, last=False)), pdu(4, value(b"")), RELEASE],
    "an empty PDU between": [pdu(4, COMMAND), pdu(4, b""), pdu(4, value(DATA)), RELEASE],
    "a command in halves": [pdu(4, halves(store_command(UID))), pdu(4, value(DATA)), RELEASE],
    "two in one PDU": [
        pdu(4, COMMAND + value(DATA) + value(store_command(b"1.2.3", message_id=2), command=True) + value(DATA)),
        RELEASE,
    ],
    "from a C-MOVE": [
        pdu(4, value(store_command(UID, more=element(0x1030, b"STEATOSIS ") + element(0x1031, b"\1\0")), command=True)),
        pdu(4, value(DATA)),
        RELEASE,
    ],
    "the UID with a zero": [pdu(4, value(store_command(UID + b"\0"), command=True)), pdu(4, value(DATA)), RELEASE],
    "another UID": [pdu(4, value(store_command(b"1.2.3"), command=True)), pdu(4, value(DATA)), RELEASE],
    "another class": [pdu(4, value(store_command(UID, b"1.2.3"), command=True)), pdu(4, value(DATA)), RELEASE],
    "an impossible UID": [pdu(4, value(store_command(b"../../x"), command=True)), pdu(4, value(DATA)), RELEASE],
    "a data set that is none": [pdu(4, COMMAND), pdu(4, value(b"\0" * 99)), RELEASE],
    "an empty data set": [pdu(4, COMMAND), pdu(4, value(b"")), RELEASE],
    "an echo in an ultrasound context": [pdu(4, ECHO), RELEASE],
    "a C-STORE, then an echo": [pdu(4, COMMAND), pdu(4, value(DATA)), pdu(4, ECHO), RELEASE],
    "a context that was not accepted": [
        pdu(4, value(store_command(UID), command=True, context=7)),
        pdu(4, value(DATA, context=7)),
    ],
    "a context that changes": [pdu(4, COMMAND), pdu(4, value(DATA[:9], last=False)), pdu(4, value(DATA, context=3))],
    "data first": [pdu(4, value(DATA))],
    "a second command": [pdu(4, COMMAND), pdu(4, COMMAND)],
    "a command after data": [pdu(4, COMMAND), pdu(4, value(DATA, last=False)), pdu(4, COMMAND)],
    "a length within that lies": [pdu(4, COMMAND), pdu(4, struct.pack(">LBB", 999, 1, 2) + b"x")],
    "whole, then a length that lies, in one PDU": [pdu(4, COMMAND), pdu(4, value(DATA) + struct.pack(">LBB", 9, 1, 2))],
    "five bytes too many": [pdu(4, COMMAND), pdu(4, value(DATA) + b"12345")],
    "a PDU over the maximum": [pdu(4, COMMAND), struct.pack(">BBL", 4, 0, 131_073)],
    "a PDU of no type": [pdu(4, COMMAND), pdu(9, b"")],
    "a release in mid-object": [pdu(4, COMMAND), pdu(4, value(DATA, last=False)), RELEASE],
    "an abort in mid-object": [pdu(4, COMMAND), pdu(4, value(DATA, last=False)), ABORT],
}


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Reception, Reception]]:
    folder = tmp_path_factory.mktemp("paths")
    with Reception(folder / "1", receive_path="fast") as fast, Reception(folder / "2", receive_path="stock") as stock:
        assert fast.listener._handlers.is_fast
        assert not stock.listener._handlers.is_fast
        yield fast, stock


ANSWERS = {"two in one PDU": 2, "a C-STORE, then an echo": 2, "a release in mid-object": 0}
"""How many come before the release is asked for, where it is not one: a peer waits for them."""


def told(reception: Reception, what: str, seed: int) -> list[tuple[int, bytes]]:
    """Send the PDUs cut anywhere; return every answer until the connection is closed."""
    *first, last = SENT[what]
    if last != RELEASE:
        first, last = SENT[what], b""
    cut, stream, at, answers = random.Random(seed), b"".join(first), 0, []
    with Hand.associated(reception.port) as hand:
        while at < len(stream):
            count = cut.choice((1, 5, 7, 60, 1000, 1 << 20))
            hand.send(stream[at : at + count])
            at += count
        answers += [hand.answer() for _ in range(ANSWERS.get(what, 1) if last else 0)]
        hand.send(last)
        while (answer := hand.answer())[0]:
            answers.append(answer)
    return answers


def kept(reception: Reception) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in reception.stored()}


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("what", SENT)
def test_same_answers_and_same_files(both: tuple[Reception, Reception], what: str, seed: int) -> None:
    fast, stock = both
    assert told(fast, what, seed) == told(stock, what, seed)
    for reception in both:
        wait_for(lambda reception=reception: not reception.temporaries())
        wait_for(lambda reception=reception: all(row.closed_at for row in reception.rows(t.associations)))
    outcomes = [[row.outcome for row in reception.rows(t.associations)][-1] for reception in both]
    assert outcomes[0] == outcomes[1]
    assert kept(fast) == kept(stock)
    counts = [[(row.sha256, row.times_received) for row in reception.rows(t.instances)] for reception in both]
    assert counts[0] == counts[1]


def test_objects_over_many_reads(both: tuple[Reception, Reception]) -> None:
    data = encoded(instance(77, size=5_000_003))
    command = pdu(4, value(store_command(instance(77).SOPInstanceUID.encode()), command=True))
    stream = command + b"".join(pdu(4, one) for one in fragments(data, 131_066))
    for reception in both:
        with Hand.associated(reception.port) as hand:
            hand.send(stream)
            assert hand.status() == 0
    assert kept(both[0]) == kept(both[1])
    assert any(content.endswith(data) for content in kept(both[0]).values())


def test_peer_that_takes_small_pdus_only(tmp_path: Path) -> None:
    with Reception(tmp_path) as reception, Hand.connect(reception.port) as hand:
        item = struct.Struct(">BBHL")  # Maximum Length sub-item (PS3.8 Table D.1-1)
        hand.send(associate_request().replace(item.pack(0x51, 0, 4, 16384), item.pack(0x51, 0, 4, 32)))
        assert hand.answer()[0] == 2
        hand.send(pdu(4, COMMAND), pdu(4, value(DATA)))
        answer = b""
        while True:
            kind, content = hand.answer()
            assert kind == 4
            assert len(content) <= 32
            answer += content[6:]
            if content[5] & 2:
                break
        assert element(0x0900, b"\0\0") in answer
