"""The command set of a C-STORE (PS3.7 section 9.3.1), read and answered without building anything of it.

Only what is written as the standard says is read here; anything else returns None and goes to pynetdicom, so that
there is one place that decides over what is odd.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

_ELEMENT: Final = struct.Struct("<HHL")
_SHORT: Final = struct.Struct("<H")
_HEAD: Final = struct.Struct(">BBLLBB")  # P-DATA-TF and one presentation data value (PS3.8 Tables 9-22 and 9-23)

# PS3.7 Table 9.3-1 and Annex E
_GROUP_LENGTH: Final = 0x0000
_AFFECTED_SOP_CLASS_UID: Final = 0x0002
_COMMAND_FIELD: Final = 0x0100
_MESSAGE_ID: Final = 0x0110
_MESSAGE_ID_BEING_RESPONDED_TO: Final = 0x0120
_DATA_SET_TYPE: Final = 0x0800
_STATUS: Final = 0x0900
_AFFECTED_SOP_INSTANCE_UID: Final = 0x1000
_MOVE_ORIGINATOR_MESSAGE_ID: Final = 0x1031
_C_STORE_RQ: Final = b"\x01\x00"
_C_STORE_RSP: Final = b"\x01\x80"
_NO_DATA_SET: Final = b"\x01\x01"
_LAST_COMMAND: Final = 3  # message control header (PS3.8 Annex E.2): command, last fragment
_VALUE_HEAD: Final = 6


@dataclass(frozen=True)
class StoreCommand:
    """What a C-STORE-RQ says. UIDs are as sent, without padding; nobody has checked them."""

    sop_class_uid: str
    sop_instance_uid: str
    message_id: int
    has_originator: bool
    """It is a sub-operation of a C-MOVE."""


def read_store(encoded: bytes) -> StoreCommand | None:
    """Read a C-STORE-RQ that announces a data set; None for every other command and whatever is written oddly."""
    elements = _elements(encoded)
    if elements is None or elements.get(_COMMAND_FIELD) != _C_STORE_RQ:
        return None
    kind, message_id = elements.get(_DATA_SET_TYPE, _NO_DATA_SET), elements.get(_MESSAGE_ID, b"")
    if kind == _NO_DATA_SET or len(kind) != _SHORT.size or len(message_id) != _SHORT.size:
        return None
    uids = elements.get(_AFFECTED_SOP_CLASS_UID, b""), elements.get(_AFFECTED_SOP_INSTANCE_UID, b"")
    if not (uids[0].isascii() and uids[1].isascii()):
        return None
    return StoreCommand(
        sop_class_uid=_plain(uids[0]),
        sop_instance_uid=_plain(uids[1]),
        message_id=_SHORT.unpack(message_id)[0],
        has_originator=_MOVE_ORIGINATOR_MESSAGE_ID in elements,
    )


def store_response(command: StoreCommand, context_id: int, status: int, maximum_length: int) -> bytes:
    """Encode the C-STORE-RSP (PS3.7 Table 9.3-2) as P-DATA-TF PDUs.

    Parameters
    ----------
    maximum_length
        Maximum Length that the peer negotiated (PS3.8 Annex D.1), bytes; 0: no limit.
    """
    body = b"".join(
        (
            _element(_AFFECTED_SOP_CLASS_UID, command.sop_class_uid.encode()),
            _element(_COMMAND_FIELD, _C_STORE_RSP),
            _element(_MESSAGE_ID_BEING_RESPONDED_TO, _SHORT.pack(command.message_id)),
            _element(_DATA_SET_TYPE, _NO_DATA_SET),
            _element(_STATUS, _SHORT.pack(status)),
            _element(_AFFECTED_SOP_INSTANCE_UID, command.sop_instance_uid.encode()),
        )
    )
    encoded = _element(_GROUP_LENGTH, struct.pack("<L", len(body))) + body
    most = max(1, maximum_length - _VALUE_HEAD) if maximum_length else len(encoded)
    return b"".join(
        _pdu(context_id, encoded[at : at + most], is_last=at + most >= len(encoded))
        for at in range(0, len(encoded), most)
    )


def _elements(encoded: bytes) -> dict[int, bytes] | None:
    """Split Implicit VR Little Endian elements of group 0000, each there once."""
    found: dict[int, bytes] = {}
    at, end = 0, len(encoded)
    while at + _ELEMENT.size <= end:
        group, number, length = _ELEMENT.unpack_from(encoded, at)
        at += _ELEMENT.size
        if group != 0 or number in found or at + length > end:
            return None
        found[number] = encoded[at : at + length]
        at += length
    return found if at == end else None


def _plain(value: bytes) -> str:
    return value.decode("ascii").strip(" \0")


def _element(number: int, value: bytes) -> bytes:
    value += b"\0" * (len(value) % 2)
    return _ELEMENT.pack(0, number, len(value)) + value


def _pdu(context_id: int, fragment: bytes, *, is_last: bool) -> bytes:
    length = len(fragment) + 2  # presentation context id and message control header
    control = _LAST_COMMAND if is_last else _LAST_COMMAND & 1
    return _HEAD.pack(4, 0, length + 4, length, context_id, control) + fragment
