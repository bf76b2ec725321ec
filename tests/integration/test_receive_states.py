"""Any PDU in any state, cuts at every byte, odd commands, clocks that jump: a defined answer, and nothing is left."""

from __future__ import annotations

import contextlib
import re
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pynetdicom.dul import DULServiceProvider
from sqlalchemy import update

from agent.worklist import arrivals
from agent.worklist import tables as t
from tests.support.pdu_corpus import REQUESTS, SEQUENCES, command
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

ACCEPT, REJECT, DATA, RELEASED, ABORT, CLOSED = 2, 3, 4, 6, 7, 0
COMMAND = pdu(4, value(store_command(f"{STUDY}.1".encode()), command=True))
PART = pdu(4, value(encoded(instance(1))[:50], last=False))
REST = pdu(4, value(encoded(instance(1))[50:]))


@pytest.fixture(scope="module", params=["fast", "stock"])
def reception(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Reception]:
    with Reception(tmp_path_factory.mktemp("states"), receive_path=request.param) as listening:
        yield listening
        wait_for(lambda: all(row.closed_at for row in listening.rows(t.associations)), 20)
        assert listening.send(instance(1)) == [0]


def nothing_is_left(reception: Reception) -> None:
    wait_for(lambda: not reception.temporaries(), 20)


STATES: dict[str, bytes] = {
    "connected": b"",
    "associated": associate_request(),
    "after a command": associate_request() + COMMAND,
    "in mid-object": associate_request() + COMMAND + PART,
    "after an object": associate_request() + COMMAND + PART + REST,
    "after a release": associate_request() + pdu(5, bytes(4)),
}
SENT: dict[str, bytes | None] = {
    "A-ASSOCIATE-RQ": associate_request(),
    "A-ASSOCIATE-AC": pdu(2, bytes(68)),
    "A-ASSOCIATE-RJ": pdu(3, b"\0\1\1\1"),
    "P-DATA-TF": pdu(4, value(b"\0" * 16)),
    "A-RELEASE-RQ": pdu(5, bytes(4)),
    "A-RELEASE-RP": pdu(6, bytes(4)),
    "A-ABORT": pdu(7, bytes(4)),
    "A-ABORT of no known source": pdu(7, b"\0\0\x53\0"),
    "unknown": pdu(0x42, bytes(8)),
    "close": None,
}


ODD_REQUESTS: dict[str, bytes] = {
    "no transfer syntax": associate_request(syntax=None),
    "no abstract syntax": associate_request(sop_class=None),
}


@pytest.mark.parametrize("what", SENT)
@pytest.mark.parametrize("state", STATES)
def test_any_pdu_in_any_state(reception: Reception, state: str, what: str) -> None:
    with Hand.connect(reception.port) as hand:
        hand.send(STATES[state])
        sent = SENT[what]
        if sent is not None:
            with contextlib.suppress(OSError):
                hand.send(sent)
                hand.connection.shutdown(1)
            answers = []
            while (kind := hand.answer()[0]) != CLOSED:
                answers.append(kind)
            assert set(answers) <= {ACCEPT, DATA, RELEASED, ABORT}
    nothing_is_left(reception)


@pytest.mark.parametrize("state", STATES)
def test_who_waits_does_not_look(reception: Reception, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[float] = []
    look = DULServiceProvider._process_recv_primitive

    def counted(reactor: DULServiceProvider) -> bool:
        looks.append(time.monotonic())
        return look(reactor)

    with Hand.connect(reception.port) as hand:
        hand.send(STATES[state])
        time.sleep(0.3)
        monkeypatch.setattr(DULServiceProvider, "_process_recv_primitive", counted)
        time.sleep(1.0)
    assert len(looks) <= 20, "pynetdicom's own looks 1,000 times a second"


@pytest.mark.parametrize("request_", ODD_REQUESTS.values(), ids=ODD_REQUESTS)
def test_a_request_against_the_standard_is_aborted(reception: Reception, request_: bytes) -> None:
    with Hand.connect(reception.port) as hand:
        hand.send(request_)
        assert [hand.answer()[0], hand.answer()[0]] == [ABORT, CLOSED]


def test_cut_at_every_byte_of_an_object(reception: Reception) -> None:
    whole = SEQUENCES["a store in pieces"].replace(f"{STUDY}.1".encode(), f"{STUDY}.8".encode())
    before = {row.sha256 for row in reception.rows(t.instances)}
    for cut in range(0, len(whole), 3 if reception.config.receive_path == "fast" else 17):
        with Hand.associated(reception.port) as hand:
            hand.send(whole[:cut])
    nothing_is_left(reception)
    assert {row.sha256 for row in reception.rows(t.instances)} == before


def test_cut_at_every_byte_of_a_request(reception: Reception) -> None:
    whole = REQUESTS["ultrasound"]
    for cut in range(len(whole)):
        with Hand.connect(reception.port) as hand:
            hand.send(whole[:cut])
    with Hand.associated(reception.port) as hand:
        assert hand.store(store_command(f"{STUDY}.1".encode()), encoded(instance(1))) == 0


def test_value_lengths_about_what_the_pdu_holds(reception: Reception) -> None:
    """n-1 and n+1 of a PDU's own length, and odd fragments."""
    for off in (-3, -2, -1, 1, 2, 3, 0x7FFFFFFF):
        content = value(b"\0" * 16)
        wrong = struct.pack(">L", struct.unpack_from(">L", content)[0] + off & 0xFFFFFFFF) + content[4:]
        with Hand.associated(reception.port) as hand:
            hand.send(COMMAND, pdu(4, wrong))
            assert hand.answer()[0] in (ABORT, DATA)
    with Hand.associated(reception.port) as hand:
        data = encoded(instance(1))
        hand.send(
            COMMAND, *(pdu(4, value(data[at : at + 7], last=at + 7 >= len(data))) for at in range(0, len(data), 7))
        )
        assert hand.status() == 0
    nothing_is_left(reception)


_MISSING = {0x0000, 0x0002, 0x0100, 0x0110, 0x0700, 0x0800, 0x1000}


@pytest.mark.parametrize("number", sorted(_MISSING))
@pytest.mark.parametrize("how", ["missing", "empty", "long", "twice"])
def test_each_element_of_a_command(reception: Reception, number: int, how: str) -> None:
    """A status or an abort, never silence and never a crash."""
    whole = store_command(f"{STUDY}.1".encode())
    found = re.search(re.escape(struct.pack("<HH", 0, number)), whole)
    assert found
    length = struct.unpack_from("<L", whole, found.start() + 4)[0]
    start, stop = found.start(), found.start() + 8 + length
    changed = {
        "missing": b"",
        "empty": element(number, b""),
        "long": element(number, whole[start + 8 : stop] + b"1" * 70),
        "twice": whole[start:stop] * 2,
    }[how]
    with Hand.associated(reception.port) as hand:
        hand.send(pdu(4, value(whole[:start] + changed + whole[stop:], command=True)))
        hand.send(pdu(4, value(encoded(instance(1)))))
        assert hand.answer()[0] in (DATA, ABORT)
    nothing_is_left(reception)


@pytest.mark.parametrize(
    "field", [0x0001, 0x0010, 0x0020, 0x0021, 0x0030, 0x0100, 0x0110, 0x0120, 0x0130, 0x0140, 0x0150]
)
def test_every_other_command_on_a_storage_context(reception: Reception, field: int) -> None:
    with Hand.associated(reception.port) as hand:
        hand.send(pdu(4, value(command(field), command=True)))
        hand.connection.shutdown(1)
        assert hand.answer()[0] in (DATA, ABORT, CLOSED)


def test_interleaved_associations(reception: Reception) -> None:
    """Two objects of the same UID grow at the same time on two associations; both come whole."""
    data = [encoded(instance(20, size=9000, Rows=rows)) for rows in (1, 2)]
    with Hand.associated(reception.port) as one, Hand.associated(reception.port) as other:
        hands = (one, other)
        for hand in hands:
            hand.send(pdu(4, value(store_command(f"{STUDY}.20".encode()), command=True)))
        for at in range(0, len(data[0]), 1000):
            for hand, encoded_set in zip(hands, data, strict=True):
                part = encoded_set[at : at + 1000]
                hand.send(pdu(4, value(part, last=at + 1000 >= len(encoded_set))))
        assert [hand.status() for hand in hands] == [0, 0]
    rows = [row for row in reception.rows(t.instances) if row.sop_instance_uid == f"{STUDY}.20"]
    assert sorted(row.conflict for row in rows) == [False, True]
    assert all(reception.files.digest_of(row.sha256) == row.sha256 for row in rows)


# Clocks


@pytest.mark.parametrize("jump", [-400 * 86_400.0, 400 * 86_400.0])
def test_a_clock_that_jumps_while_it_receives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump: float) -> None:
    with Reception(tmp_path) as reception:
        hand = Hand.associated(reception.port)
        with hand:
            assert hand.store(store_command(f"{STUDY}.1".encode()), encoded(instance(1))) == 0
            real = time.time
            monkeypatch.setattr(time, "time", lambda: real() + jump)
            assert hand.store(store_command(f"{STUDY}.2".encode()), encoded(instance(2))) == 0
            assert reception.send(instance(3)) == [0]
        assert len(reception.stored()) == 3


def test_an_association_of_the_future_does_not_stay_for_ever(reception: Reception) -> None:
    """Its listener died, and the clock was set back after its last heartbeat."""
    now = time.time()
    row = arrivals.open_association(reception.ledger, 99, owner="dead:1", calling="X", called="Y", host="::1", now=now)
    with reception.ledger.write() as connection:
        future = update(t.associations).where(t.associations.c.id == row).values(heartbeat_at=now + 1e7)
        connection.execute(future)
    before = arrivals.count_associations(reception.ledger, now, calling="X", host="::1")
    assert (before, arrivals.close_lost_associations(reception.ledger, now)) == (0, 1)
