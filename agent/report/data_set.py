"""Data sets of ours and their encoding with explicit VRs, Little Endian (PS3.5 section 7, Annexes A.2 and A.4).

A report has a thousand small elements, and pydicom takes its time to encode them: it is made for whatever may come.
Ours are few in kind, so they are written straight away. Nothing leaves before the gate has read it back; tests have
pydicom encode every object anew and compare the bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from pydicom.datadict import dictionary_VR, tag_for_keyword

_LONG: Final = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "UC", "UN", "UR", "UT"})
"""VRs whose length has 32 bits, behind two reserved bytes (PS3.5 Table 7.1-1)."""
_PACKED: Final = {"FD": "d", "FL": "f", "SL": "i", "SS": "h", "UL": "I", "US": "H"}
_ZERO_PADDED: Final = frozenset({"OB", "UI", "UN"})
_ITEM: Final = b"\xfe\xff\x00\xe0"
_DELIMITER: Final = b"\xfe\xff\xdd\xe0\0\0\0\0"
_UNDEFINED: Final = 0xFFFFFFFF
_CHOSEN: Final = {"PixelData": "OB"}
"""Where the dictionary leaves a choice of VR."""


class DataSet:
    """Attributes by keyword; sequences are lists of data sets, or of what `encoded` made of them.

    Text is ASCII (`words.plain`); bytes are written as they are, padded to an even length.
    """

    if TYPE_CHECKING:

        def __getattr__(self, keyword: str) -> Any: ...
        def __setattr__(self, keyword: str, value: Any) -> None: ...


@dataclass(frozen=True)
class Compressed:
    """Pixels of one frame as a compressed stream: Pixel Data is an empty offset table and one fragment (PS3.5 A.4)."""

    stream: bytes


def encoded(data_set: DataSet) -> bytes:
    """Encode a data set, without its file meta information."""
    return b"".join(_parts(data_set))


def part_ten(data_set: DataSet, meta: DataSet) -> bytes:
    """Make a DICOM file (PS3.10 section 7.1).

    Parameters
    ----------
    meta
        File meta information, without its length and version.
    """
    meta.FileMetaInformationVersion = b"\0\1"
    information = encoded(meta)
    length = DataSet()
    length.FileMetaInformationGroupLength = len(information)
    return b"".join((b"\0" * 128, b"DICM", encoded(length), information, *_parts(data_set)))


def _parts(data_set: DataSet) -> list[bytes]:
    parts: list[bytes] = []
    for (_, head, vr, length), value in sorted((_element(name), value) for name, value in vars(data_set).items()):
        content = _content(vr, value)
        size = _UNDEFINED if isinstance(value, Compressed) else len(content)
        parts += (head, length.pack(size), content)
    return parts


@cache
def _element(keyword: str) -> tuple[int, bytes, str, struct.Struct]:
    """Tag, what stands before the length, VR, and how the length is written."""
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise KeyError(keyword)
    vr = _CHOSEN.get(keyword) or dictionary_VR(tag)
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr.encode())
    return (tag, head + b"\0\0", vr, struct.Struct("<I")) if vr in _LONG else (tag, head, vr, struct.Struct("<H"))


def _content(vr: str, value: Any) -> bytes:
    if vr == "SQ":
        return _sequence(value)
    if value is None:
        return b""
    if isinstance(value, Compressed):
        stream = value.stream + b"\0" * (len(value.stream) % 2)
        return b"".join((_ITEM, bytes(4), _ITEM, struct.pack("<I", len(stream)), stream, _DELIMITER))
    if vr in _PACKED:
        values: Sequence[Any] = value if isinstance(value, (list, tuple)) else (value,)
        return struct.pack(f"<{len(values)}{_PACKED[vr]}", *values)
    if isinstance(value, (bytes, memoryview)):
        content: Any = value
    else:
        text = "\\".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
        content = text.encode("ascii", "replace")
    if len(content) % 2:
        content = bytes(content) + (b"\0" if vr in _ZERO_PADDED else b" ")
    return content  # type: ignore[no-any-return]


def _sequence(items: Iterable[DataSet | bytes]) -> bytes:
    parts: list[bytes] = []
    for item in items:
        content = item if isinstance(item, bytes) else encoded(item)
        parts += (_ITEM, struct.pack("<I", len(content)), content)
    return b"".join(parts)
