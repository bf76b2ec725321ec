"""Reading the elements up to (0020,000E) of an instance: bounded, whatever the file holds.

Text that cannot be decoded never refuses an instance: its bytes stay on disk as they came. Only a UID that is missing
or impossible does, since nothing could name it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Final

from pydicom.charset import decode_bytes, python_encoding
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from agent.domain.errors import RequestorError
from agent.domain.identifiers import checked_uid
from agent.domain.study import InstanceHeader
from agent.store.elements import Element, Walk

MOST_BYTES: Final = 1 << 20
"""Elements up to (0020,000E) beyond this are not looked at (design, section 3.1); also the limit of inflation."""
_MOST_META_BYTES: Final = 1 << 16
_MOST_TEXT: Final = 256
_PREAMBLE: Final = 128
_CANNOT_UNDERSTAND: Final = 0xC000  # PS3.4 Table B.2-1
_META_GROUP: Final = 0x0002
_TRANSFER_SYNTAX_UID: Final = 0x00020010
_CHARACTER_SET: Final = 0x00080005
_CONTRIBUTING_EQUIPMENT: Final = 0x0018A001
_MODEL_NAME: Final = 0x00081090
_MANUFACTURER: Final = 0x00080070
_LAST_TAG: Final = 0x0020000E
_ESCAPE: Final = b"\x1b"  # ISO 2022 (PS3.5 section 6.1.2.5)

_UIDS: Final = {
    0x00080016: ("sop_class_uid", "SOP Class UID"),
    0x00080018: ("sop_instance_uid", "SOP Instance UID"),
    0x0020000D: ("study_instance_uid", "Study Instance UID"),
    _LAST_TAG: ("series_instance_uid", "Series Instance UID"),
}
_TEXTS: Final = {
    0x00080020: "study_date",
    0x00080050: "accession_number",
    0x00080060: "modality",
    0x00080080: "institution_name",
    _MANUFACTURER: "manufacturer",
    0x00081010: "station_name",
    0x00081030: "study_description",
    0x0008103E: "series_description",
    _MODEL_NAME: "manufacturer_model_name",
    0x00100020: "patient_id",
    0x00100021: "issuer_of_patient_id",
    0x00181002: "device_uid",
    0x00189004: "content_qualification",
}
_IMAGE_TYPE: Final = 0x00080008
_Decode = Callable[[bytes], str]


def read_header(file: BinaryIO) -> tuple[InstanceHeader, str, int]:
    """Read a Part 10 file's header.

    Returns
    -------
    tuple
        The header with its UIDs checked, the transfer syntax UID, and the offset of the data set.

    Raises
    ------
    RequestorError
        It cannot be read, or a UID that names the instance is missing or impossible.
    """
    head = file.read(_PREAMBLE + 4 + _MOST_META_BYTES)
    if head[_PREAMBLE : _PREAMBLE + 4] != b"DICM":
        raise _unreadable("it does not begin as a DICOM file")
    transfer_syntax_uid, offset = _meta(head)
    file.seek(offset)
    encoded = file.read(MOST_BYTES)
    return header_of(encoded, transfer_syntax_uid), transfer_syntax_uid, offset


def header_of(encoded: bytes, transfer_syntax_uid: str) -> InstanceHeader:
    """Read the header from the first bytes of an encoded data set.

    Raises
    ------
    RequestorError
        It cannot be read, or a UID that names the instance is missing or impossible.
    """
    return _header_of(encoded, transfer_syntax_uid)[0]


def header_at_hand(beginning: bytes, transfer_syntax_uid: str) -> InstanceHeader | None:
    """Read the header from a data set's beginning; None where that may not hold all of it, or holds faults."""
    try:
        header, is_whole = _header_of(beginning, transfer_syntax_uid)
    except RequestorError:
        return None
    return header if is_whole else None


def _header_of(encoded: bytes, transfer_syntax_uid: str) -> tuple[InstanceHeader, bool]:
    if transfer_syntax_uid == DeflatedExplicitVRLittleEndian:
        encoded = _inflated(encoded)
    implicit = transfer_syntax_uid == ImplicitVRLittleEndian
    try:
        walk = Walk(encoded[:MOST_BYTES], implicit=implicit, little=transfer_syntax_uid != ExplicitVRBigEndian)
        found = {element.tag: element for element in walk.elements(len(walk.encoded), _LAST_TAG)}
        is_whole = walk.passed
    except struct.error as error:
        raise _unreadable("an element is cut off") from error
    fields: dict[str, Any] = dict(_uids(walk, found))
    decode = _decoder(_value(walk, found, _CHARACTER_SET))
    fields |= {name: decode(_value(walk, found, tag)) for tag, name in _TEXTS.items() if tag in found}
    image_type = _plain(_value(walk, found, _IMAGE_TYPE))
    fields["image_type"] = tuple(part.strip() for part in image_type.split("\\")) if image_type else ()
    fields["algorithm_names"] = tuple(_equipment(walk, found, _MODEL_NAME, decode))
    fields["equipment_manufacturers"] = tuple(_equipment(walk, found, _MANUFACTURER, decode))
    return InstanceHeader(**fields), is_whole


def _meta(head: bytes) -> tuple[str, int]:
    """Transfer syntax and where the data set begins: where group 2 ends, whatever its group length says."""
    walk = Walk(head, implicit=False, little=True, start=_PREAMBLE + 4)
    found = {element.tag: element for element in walk.elements(len(head), (_META_GROUP << 16) + 0xFFFF)}
    if _TRANSFER_SYNTAX_UID not in found:
        raise _unreadable("its file meta information names no transfer syntax")
    value = _plain(walk.value(found[_TRANSFER_SYNTAX_UID]))
    return checked_uid(value, "Transfer Syntax UID"), walk.position


def _inflated(encoded: bytes) -> bytes:
    """Inflate no more than is looked at (PS3.5 Annex A.5): a bomb stays small."""
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(encoded, MOST_BYTES)
    except zlib.error as error:
        raise _unreadable("it is not deflated as its transfer syntax says") from error


def _uids(walk: Walk, found: dict[int, Element]) -> Iterator[tuple[str, str]]:
    for tag, (name, shown) in _UIDS.items():
        if tag not in found:
            raise _unreadable(f"no {shown} within {MOST_BYTES} bytes")
        yield name, checked_uid(_plain(_value(walk, found, tag)), shown)


def _equipment(walk: Walk, found: dict[int, Element], tag: int, decode: _Decode) -> Iterator[str]:
    if _CONTRIBUTING_EQUIPMENT not in found:
        return
    for item in walk.items(found[_CONTRIBUTING_EQUIPMENT]):
        yield from (decode(walk.value(element)) for element in item if element.tag == tag)


def _value(walk: Walk, found: dict[int, Element], tag: int) -> bytes:
    return walk.value(found[tag]) if tag in found else b""


def _plain(value: bytes) -> str:
    """Decode what is ASCII by its nature: padding goes, anything else shows as not ASCII."""
    return value.decode("ascii", "replace").strip(" \0")


def _decoder(character_set: bytes) -> _Decode:
    """Decode text by Specific Character Set (PS3.3 C.12.1.1.2); unknown sets read as Latin-1."""
    terms = _plain(character_set).split("\\")
    known = [python_encoding[term.strip()] for term in terms if term.strip() in python_encoding] or ["iso8859"]

    def decode(value: bytes) -> str:
        try:
            text = decode_bytes(value, known, {0x5C}) if _ESCAPE in value else value.decode(known[0], "replace")
        except (LookupError, UnicodeError, ValueError, Warning):
            text = value.decode("iso8859", "replace")
        return text.strip(" \0")[:_MOST_TEXT]

    return decode


def _unreadable(why: str) -> RequestorError:
    return RequestorError(
        f"the data set cannot be read up to its Series Instance UID: {why}",
        status=_CANNOT_UNDERSTAND,
        remedy="the sender encoded it wrongly, or with more than 1 MiB before Series Instance UID",
    )
