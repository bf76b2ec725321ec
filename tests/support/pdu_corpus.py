"""Seeds and mutations for fuzzing: PDUs as they should be, and what makes them otherwise."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from typing import Final

from tests.unit.receive.reception import (
    STUDY,
    ULTRASOUND,
    associate_request,
    element,
    encoded,
    instance,
    pdu,
    store_command,
    value,
)

VERIFICATION = b"1.2.840.10008.1.1"
_INTERESTING: Final = (
    0,
    1,
    2,
    3,
    4,
    5,
    6,
    7,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
)
_Mutation = Callable[[random.Random, bytearray], None]


def command(field: int, *elements: bytes, data_set_type: int = 0x0101) -> bytes:
    """A command set with any command field (PS3.7 Annex E)."""
    body = element(0x0002, ULTRASOUND.encode()) + element(0x0100, struct.pack("<H", field))
    body += element(0x0110, b"\1\0") + element(0x0800, struct.pack("<H", data_set_type)) + b"".join(elements)
    return element(0, struct.pack("<L", len(body))) + body


def _store(number: int, cuts: int = 1) -> bytes:
    data = encoded(instance(number, size=600))
    step = -(-len(data) // cuts)
    parts = [data[at : at + step] for at in range(0, len(data), step)]
    values = [value(part, last=at == len(parts) - 1) for at, part in enumerate(parts)]
    return pdu(4, value(store_command(f"{STUDY}.{number}".encode()), command=True)) + b"".join(
        pdu(4, v) for v in values
    )


REQUESTS: Final = {
    "ultrasound": associate_request(),
    "other class": associate_request(sop_class="1.2.840.10008.5.1.4.1.1.88.34"),
    "odd title": associate_request(calling=b"\x1b[31m\r\n"),
    "unknown class": associate_request(sop_class="1.2.3"),
}
SEQUENCES: Final = {
    "a store": _store(1),
    "a store in pieces": _store(1, cuts=7),
    "two stores": _store(1) + _store(2),
    "two stores in one PDU": pdu(
        4,
        value(store_command(f"{STUDY}.1".encode()), command=True)
        + value(encoded(instance(1)))
        + value(store_command(f"{STUDY}.2".encode()), command=True)
        + value(encoded(instance(2))),
    ),
    "an echo": pdu(4, value(command(0x0030), command=True)),
    "a cancel": pdu(4, value(command(0x0FFF), command=True)),
    "a find": pdu(4, value(command(0x0020, data_set_type=1), command=True)) + pdu(4, value(encoded(instance(1)))),
    "an event report": pdu(4, value(command(0x0100, element(0x1002, b"\1\0"), data_set_type=1), command=True))
    + pdu(4, value(encoded(instance(1)))),
    "a response": pdu(4, value(command(0x8001, element(0x0900, b"\0\0")), command=True)),
    "hostile UIDs": pdu(4, value(store_command(b"../../../etc/passwd"), command=True)) + pdu(4, value(b"x" * 64)),
    "a release": pdu(5, bytes(4)),
    "an abort": pdu(7, bytes(4)),
    "a second request": associate_request(),
    "an accept": pdu(2, bytes(68)),
    "unknown type": pdu(0x77, bytes(8)),
    "nothing": pdu(4, b""),
}


def _flip(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(len(data))
    data[at] ^= 1 << rng.randrange(8)


def _byte(rng: random.Random, data: bytearray) -> None:
    data[rng.randrange(len(data))] = rng.randrange(256)


def _length(rng: random.Random, data: bytearray) -> None:
    """Overwrite what may be a length, in any width and order."""
    form = rng.choice((">H", "<H", ">L", "<L"))
    size = struct.calcsize(form)
    if len(data) >= size:
        at = rng.randrange(len(data) - size + 1)
        struct.pack_into(form, data, at, rng.choice(_INTERESTING) & (0xFFFF if size == 2 else 0xFFFFFFFF))


def _head(rng: random.Random, data: bytearray) -> None:
    """Overwrite the length of the first PDU."""
    if len(data) >= 6:
        struct.pack_into(
            ">L", data, 2, rng.choice((*_INTERESTING, len(data), len(data) - 7 & 0xFFFF, 131_072, 131_073))
        )


def _cut(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(len(data))
    del data[at : at + rng.choice((1, 2, 4, 8, len(data)))]


def _insert(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(len(data))
    data[at:at] = rng.randbytes(rng.choice((1, 2, 4, 6, 32)))


def _again(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(len(data))
    part = data[at : at + rng.choice((1, 6, 12, 64))]
    data[at:at] = part


MUTATIONS: Final[tuple[_Mutation, ...]] = (_flip, _byte, _length, _head, _cut, _insert, _again)


def mutated(rng: random.Random, seed: bytes) -> bytes:
    """Change a seed in one to four places."""
    data = bytearray(seed)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        if data:
            rng.choice(MUTATIONS)(rng, data)
    return bytes(data)


def count_pdus(stream: bytes) -> int:
    """How many PDU headers a stream holds, as it frames itself."""
    at = found = 0
    while at + 6 <= len(stream):
        found += 1
        at += 6 + struct.unpack_from(">L", stream, at + 2)[0]
    return found
