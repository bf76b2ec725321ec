"""An object of ours read back from its bytes: strictly, as they stand there, and no further than the gate's rules ask.

Little Endian with explicit VRs and stated lengths (PS3.5 section 7), but for the pixels of one compressed frame (A.4);
tests hold it against what pydicom reads.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from pydicom.datadict import keyword_for_tag

_SHORT: Final = struct.Struct("<HH2sH")
_LONG: Final = struct.Struct("<I")
_LONG_VRS: Final = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"UC", b"UN", b"UR", b"UT"})
_WHOLE: Final = frozenset({b"LT", b"ST", b"UT"})
"""VRs of one value, in which a backslash is a sign like others (PS3.5 section 6.2)."""
_ITEM: Final = 0xE000FFFE
_DELIMITER: Final = 0xE0DDFFFE
_UNDEFINED: Final = 0xFFFFFFFF
_ENCAPSULATED: Final = struct.Struct("<IIII")
_END: Final = struct.Struct("<II")
_PREAMBLE: Final = 132
_META_LENGTH: Final = struct.Struct("<HH2sHI")
_KEPT: Final = 200
"""Bytes of a sequence that is read once for all: a code."""


class NotReadableError(ValueError):
    """The bytes are no data set of ours."""


class Item:
    """A data set: its elements by keyword, in the order of their bytes."""

    __slots__ = ("elements",)

    def __init__(self, elements: dict[str, tuple[bytes, bytes | tuple[Item, ...]]]) -> None:
        self.elements = elements
        """VR, and value as it stands there or the items of a sequence."""

    def __contains__(self, keyword: str) -> bool:
        return keyword in self.elements

    def raw(self, keyword: str) -> bytes | None:
        """Value as it stands there; None where it is absent, or a sequence."""
        value = self.elements.get(keyword, (b"", None))[1]
        return None if isinstance(value, tuple) else value

    def items(self, keyword: str) -> tuple[Item, ...]:
        """Items of a sequence; none where it is absent."""
        value = self.elements.get(keyword, (b"", ()))[1]
        return value if isinstance(value, tuple) else ()

    def values(self, keyword: str) -> list[str]:
        """Values of a text, without padding; none where it is absent or empty."""
        found = self.elements.get(keyword)
        return [] if found is None else values_of(*found)

    def text(self, keyword: str) -> str:
        """Join the values of a text with backslashes; empty where it is absent."""
        return "\\".join(self.values(keyword))

    def number(self, keyword: str) -> int:
        """Value of VR US or UL; 0 where it is absent."""
        return int.from_bytes(self.raw(keyword) or b"", "little")

    def everything(self) -> Iterator[Item]:
        """Give this data set and every one inside it."""
        yield self
        for _, value in self.elements.values():
            if isinstance(value, tuple):
                for item in value:
                    yield from item.everything()


def values_of(vr: bytes, value: bytes | tuple[Item, ...]) -> list[str]:
    """Values of an element of text; none of a sequence. What is no ASCII becomes a sign that is none either."""
    if isinstance(value, tuple) or not value:
        return []
    text = value.rstrip(b"\0 ").decode("ascii", "replace")
    if not text:
        return []
    return [text] if vr in _WHOLE else [one.rstrip(" ") for one in text.split("\\")]


def read_back(encoded: bytes) -> tuple[Item, Item]:
    """Read a DICOM file of ours: its file meta information and its data set.

    Raises
    ------
    NotReadableError
        It breaks off, or an element is not where or as long as the standard wants it.
    """
    try:
        group, number, vr, length, meta = _META_LENGTH.unpack_from(encoded, _PREAMBLE)
    except struct.error as error:
        raise NotReadableError("it has no file meta information") from error
    if encoded[128:_PREAMBLE] != b"DICM" or (group, number, vr, length) != (2, 0, b"UL", 4):
        raise NotReadableError("it does not begin as a DICOM file does")
    begin = _PREAMBLE + _META_LENGTH.size
    return _data_set(encoded, begin, begin + meta), _data_set(encoded, begin + meta, len(encoded))


def _data_set(read: bytes, at: int, end: int) -> Item:
    elements: dict[str, tuple[bytes, bytes | tuple[Item, ...]]] = {}
    last = -1
    try:
        while at < end:
            group, number, vr, length = _SHORT.unpack_from(read, at)
            at += 8
            if vr in _LONG_VRS:
                (length,) = _LONG.unpack_from(read, at)
                at += 4
            tag, stop = group << 16 | number, at + length
            if vr == b"OB" and length == _UNDEFINED:
                at, stop = _fragment(read, at)
            if tag <= last or (stop - at) % 2 or stop > end:
                raise NotReadableError(f"({group:04X},{number:04X}) is out of order or of impossible length")
            # pixels are counted, never looked at: they are not copied for it
            value: bytes = memoryview(read)[at:stop] if vr == b"OB" else read[at:stop]  # type: ignore[assignment]
            elements[_name(tag)] = vr, value if vr != b"SQ" else _kept(value) if length <= _KEPT else _sequence(value)
            last, at = tag, stop + _END.size if length == _UNDEFINED else stop
    except struct.error as error:
        raise NotReadableError("it breaks off") from error
    return Item(elements)


def _fragment(read: bytes, at: int) -> tuple[int, int]:
    """Where the one fragment of a compressed frame begins and ends; an empty offset table stands before it."""
    table, none, item, length = _ENCAPSULATED.unpack_from(read, at)
    begin = at + _ENCAPSULATED.size
    if (table, none, item) != (_ITEM, 0, _ITEM) or _END.unpack_from(read, begin + length) != (_DELIMITER, 0):
        raise NotReadableError("compressed pixels are not one fragment behind an empty offset table")
    return begin, begin + length


def _sequence(read: bytes) -> tuple[Item, ...]:
    items, at = [], 0
    while at < len(read):
        tag, length = struct.unpack_from("<II", read, at)
        stop = at + 8 + length
        if tag != _ITEM or stop > len(read):
            raise NotReadableError("a sequence holds something else than items of stated length")
        items.append(_data_set(read, at + 8, stop))
        at = stop
    return tuple(items)


_kept = lru_cache(maxsize=1024)(_sequence)
"""A report holds the same few codes hundreds of times, and the same bytes read the same."""


@lru_cache(maxsize=512)
def _name(tag: int) -> str:
    """Keyword, or the number of what the dictionary does not know."""
    return keyword_for_tag(tag) or f"{tag:08X}"
