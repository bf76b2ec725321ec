"""Protobuf's wire format, as far as an ONNX file needs it: fields out of bytes, and bytes out of fields.

Serving has no use for the schema compiler's classes: it walks graphs and joins them, which takes a few field numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types (protobuf encoding); groups are not used by ONNX
_LONGEST_VARINT: Final = 70

Span = tuple[int, int, int, int]
"""Number, wire type, and the start and end of a field's content; of a varint the value stands in place of the start."""


class OnnxFileError(Exception):
    """The bytes are not an ONNX model of the kind that is needed; says why."""


def spans(content: bytes, start: int, end: int) -> Iterator[Span]:
    """Walk the fields of one message.

    Raises
    ------
    OnnxFileError
        The bytes are no message.
    """
    position = start
    while position < end:
        key, position = _varint(content, position, end)
        number, wire = key >> 3, key & 7
        if wire == VARINT:
            value, position = _varint(content, position, end)
            yield number, wire, value, value
            continue
        if wire == BYTES:
            size, position = _varint(content, position, end)
        elif wire in (FIXED64, FIXED32):
            size = 8 if wire == FIXED64 else 4
        else:
            raise OnnxFileError(f"is damaged: wire type {wire}")
        if size > end - position:
            raise OnnxFileError("is damaged: a field ends beyond its message")
        yield number, wire, position, position + size
        position += size


def parts(content: bytes, number: int) -> list[bytes]:
    """Contents of every field of that number, which must be bytes, strings or messages, in their order."""
    return [content[first:last] for found, wire, first, last in _all(content) if found == number and wire == BYTES]


def text_of(content: bytes, number: int) -> str:
    """Text of a string field; empty where there is none."""
    return b"".join(parts(content, number)).decode()


def number_of(content: bytes, number: int, default: int = 0) -> int:
    """Value of a varint field; the last one counts."""
    values = [first for found, wire, first, _ in _all(content) if found == number and wire == VARINT]
    return values[-1] if values else default


def without(content: bytes, numbers: frozenset[int]) -> bytes:
    """Give the message without the fields of those numbers, the others encoded afresh in their order."""
    kept = []
    for found, wire, first, last in _all(content):
        if found in numbers:
            continue
        if wire == VARINT:
            kept.append(varint_field(found, first))
        elif wire == BYTES:
            kept.append(bytes_field(found, content[first:last]))
        else:
            kept.append(_key(found, wire) + content[first:last])
    return b"".join(kept)


def bytes_field(number: int, content: bytes | str) -> bytes:
    """Encode a field of bytes, of a string or of a message."""
    raw = content.encode() if isinstance(content, str) else content
    return _key(number, BYTES) + _encoded(len(raw)) + raw


def varint_field(number: int, value: int) -> bytes:
    """Encode a field of a whole number that is not negative."""
    return _key(number, VARINT) + _encoded(value)


def _all(content: bytes) -> Iterator[Span]:
    return spans(content, 0, len(content))


def _key(number: int, wire: int) -> bytes:
    return _encoded(number << 3 | wire)


def _encoded(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _varint(content: bytes, position: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, _LONGEST_VARINT, 7):
        if position >= end:
            break
        byte = content[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise OnnxFileError("is damaged: a number does not end")
