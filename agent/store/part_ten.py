"""Part 10 files (PS3.10 section 7) as we write them, and the headers of anybody's.

A file is 128 zero bytes, "DICM", file meta information with class, UID and transfer syntax, then the data set. The
meta is deterministic, so the same data set makes the same file. A preamble is never taken from a sender: it could make
the file executable (CVE-2019-11687).
"""

from __future__ import annotations

import functools
import struct
from pathlib import Path
from typing import Final

from agent.domain.identifiers import checked_uid
from agent.domain.study import InstanceHeader
from agent.store.header import read_header

IMPLEMENTATION_CLASS_UID: Final = "2.25.248531197263471593716022641385627154921"
IMPLEMENTATION_VERSION_NAME: Final = "STEATOSIS_AGENT"
PREAMBLE: Final = b"\0" * 128 + b"DICM"


@functools.lru_cache(maxsize=64)
def _classes(sop_class_uid: str, transfer_syntax_uid: str) -> tuple[bytes, bytes]:
    """Encode what stands before and after the instance UID; it alone differs from object to object."""
    before = struct.pack("<HH2sHL", 2, 0x0001, b"OB", 0, 2) + b"\0\1" + _element(0x0002, b"UI", sop_class_uid)
    after = (
        _element(0x0010, b"UI", transfer_syntax_uid),
        _element(0x0012, b"UI", IMPLEMENTATION_CLASS_UID),
        _element(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME),
    )
    return before, b"".join(after)


def file_meta(sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> bytes:
    """Encode file meta information (PS3.10 Table 7.1-1), always the same for the same UIDs."""
    before, after = _classes(sop_class_uid, transfer_syntax_uid)
    elements = before + _element(0x0003, b"UI", sop_instance_uid) + after
    return struct.pack("<HH2sHL", 2, 0, b"UL", 4, len(elements)) + elements


def _element(number: int, vr: bytes, text: str) -> bytes:
    value = text.encode("ascii")
    value += (b" " if vr == b"SH" else b"\0") * (len(value) % 2)
    return struct.pack("<HH2sH", 2, number, vr, len(value)) + value


def read_part_ten_header(path: Path) -> tuple[InstanceHeader, str, int]:
    """Read header, transfer syntax and where the data set begins, of a Part 10 file of anybody's."""
    with path.open("rb") as file:
        return read_header(file)


def read_file_header(path: Path) -> tuple[InstanceHeader, str]:
    """Read header and transfer syntax of a Part 10 file; its UIDs are checked.

    Raises
    ------
    RequestorError
        It is no DICOM file, or its UIDs are missing or impossible.
    """
    header, transfer_syntax_uid, _ = read_part_ten_header(path)
    checked_uid(header.study_instance_uid, "Study Instance UID")
    return header, transfer_syntax_uid
