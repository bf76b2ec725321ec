"""What no honest sender does: the answer is defined, nothing is left behind, and the listener lives on."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest
from pydicom import config

from agent.worklist import tables as t
from tests.unit.receive.reception import (
    STUDY,
    ULTRASOUND,
    Hand,
    Reception,
    encoded,
    instance,
    pdu,
    store_command,
    value,
    wait_for,
)

HOSTILE = [
    "../../x",
    "/etc/x",
    "a\\b",
    "..",
    ".",
    "1..2",
    "1.2.",
    ".1",
    "1.2\n3",
    "1.2\x003.4",
    "1" * 65,
    "9" * 4096,
    "1.2.3 4",
    "<script>",
    "\u00e9",
]
ABORT, CLOSED = 7, 0


@pytest.fixture(scope="module", params=["fast", "stock"])
def reception(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Reception]:
    with Reception(tmp_path_factory.mktemp("outer") / "data", receive_path=request.param) as listening:
        yield listening
        with Hand.associated(listening.port) as hand:
            data = encoded(instance(1))
            assert hand.store(store_command(f"{STUDY}.1".encode()), data) == 0


@pytest.fixture(autouse=True)
def _lives_on_and_leaves_nothing(reception: Reception) -> Iterator[None]:
    before = reception.everything(), len(reception.rows(t.instances))
    yield
    wait_for(lambda: not reception.temporaries())
    wait_for(lambda: all(row.closed_at is not None for row in reception.rows(t.associations)))
    assert (reception.everything(), len(reception.rows(t.instances))) == before


@pytest.mark.parametrize("uid", HOSTILE)
def test_instance_uid_that_may_not_name_anything(reception: Reception, uid: str) -> None:
    ds = encoded(instance(SOPInstanceUID="1.2.3")).replace(b"1.2.3\0", uid.encode("latin-1")[:6].ljust(6, b"\0"))
    with Hand.associated(reception.port) as hand:
        assert hand.store(store_command(uid.encode("latin-1")), ds) == 0xC000


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"])
@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_uid_in_the_data_set_that_may_not_name_anything(reception: Reception, keyword: str) -> None:
    with Hand.associated(reception.port) as hand:
        for uid in HOSTILE[:12]:
            with config.disable_value_validation():
                data = encoded(instance(**{keyword: uid}))
            assert hand.store(store_command(f"{STUDY}.1".encode()), data) == 0xC000


@pytest.mark.parametrize("said", [b"1.2.840.10008.5.1.4.1.1.7", b"1.2.3", b"../x", b"1" * 70, b""])
def test_sop_class_of_the_command_that_was_not_negotiated(reception: Reception, said: bytes) -> None:
    with Hand.associated(reception.port) as hand:
        assert hand.store(store_command(f"{STUDY}.1".encode(), said), encoded(instance())) == 0xA900


def test_data_set_that_is_another_instance(reception: Reception) -> None:
    with Hand.associated(reception.port) as hand:
        assert hand.store(store_command(b"1.2.3"), encoded(instance())) == 0xA900
        assert hand.store(store_command(f"{STUDY}.1".encode()), encoded(instance(sop_class="1.2.3"))) == 0xA900


@pytest.mark.parametrize("data", [b"", b"\0", b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 4096, b"\x08\0\x16\0UI\xff\xff1.2"])
def test_data_set_that_is_none(reception: Reception, data: bytes) -> None:
    with Hand.associated(reception.port) as hand:
        assert hand.store(store_command(b"1.2.3"), data) == 0xC000


DATA = value(b"\0" * 16, last=False)
COMMAND = value(store_command(b"1.2.3"), command=True)
ABORTED = {
    "an empty value": struct.pack(">LB", 1, 1),
    "a value of length 0": struct.pack(">LB", 0, 1),
    "a value longer than its PDU": struct.pack(">LBB", 0x80000000, 1, 3) + b"x",
    "a value of 4 GiB": struct.pack(">LBB", 0xFFFFFFFF, 1, 3) + b"x",
    "data before a command": DATA,
    "a second command": COMMAND + COMMAND,
    "a command after data began": COMMAND + DATA + COMMAND,
    "a context that changes": COMMAND + value(b"\0" * 16, context=3),
    "a command that is none": value(b"\1\2\3\4\5\6\7\10" * 8, command=True),
    "a command without a field": value(store_command(b"1.2.3")[12:26], command=True),
    "an unknown command": value(
        store_command(b"1.2.3").replace(b"\0\1\2\0\0\0\1\0", b"\0\1\2\0\0\0\x77\x77"), command=True
    ),
    "a command of 128 KiB": b"".join(value(b"\0" * 65_000, command=True, last=False) for _ in range(2)),
}


@pytest.mark.parametrize("what", ABORTED)
def test_values_that_do_not_follow(reception: Reception, what: str) -> None:
    with Hand.associated(reception.port) as hand:
        hand.send(pdu(4, ABORTED[what]))
        assert hand.answer()[0] == ABORT


@pytest.mark.parametrize("length", [131_073, 1 << 20, 0xFFFFFFFF])
def test_pdu_over_the_negotiated_maximum(reception: Reception, length: int) -> None:
    with Hand.associated(reception.port) as hand:
        hand.send(struct.pack(">BBL", 4, 0, length), b"\0" * 1024)
        assert hand.answer()[0] == ABORT


@pytest.mark.parametrize("kind", [0, 2, 3, 5, 6, 8, 255])
def test_pdu_out_of_place_in_mid_object(reception: Reception, kind: int) -> None:
    with Hand.associated(reception.port) as hand:
        hand.send(pdu(4, COMMAND + DATA), pdu(kind, bytes(4)))
        assert hand.answer()[0] in (ABORT, CLOSED, 6)  # an A-RELEASE-RQ is answered


@pytest.mark.parametrize(
    "first",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + bytes(64),
        bytes(64),
        pdu(4, DATA),
    ],
)
def test_what_is_no_association_request(reception: Reception, first: bytes) -> None:
    with Hand.connect(reception.port) as hand:
        hand.send(first)
        hand.connection.shutdown(1)
        assert hand.answer()[0] in (ABORT, CLOSED)


def test_cut_at_any_byte(reception: Reception) -> None:
    whole = pdu(4, COMMAND) + pdu(4, value(b"\0" * 64))
    for cut in range(0, len(whole), 13):
        with Hand.associated(reception.port) as hand:
            hand.send(whole[:cut])


def test_command_without_priority_is_answered(reception: Reception) -> None:
    with Hand.associated(reception.port) as hand:
        assert hand.store(store_command(b"1.2.3", priority=b""), b"") == 0xC000
        assert hand.store(store_command(b"1.2.3", priority=b"\7\0"), b"") == 0xC000
        assert hand.store(store_command(b"1.2.3", ULTRASOUND.encode()), b"") == 0xC000
