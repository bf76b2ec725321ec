"""A stream of P-DATA-TF PDUs (PS3.8 section 9.3.5), taken apart wherever the reads cut it. No I/O, no copies."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

_PDU: Final = struct.Struct(">BBL")  # PS3.8 Table 9-22: type, reserved, length
_VALUE: Final = struct.Struct(">LBB")  # PS3.8 Table 9-23: length, context id; then the message control header
_HEAD: Final = 6
_P_DATA_TF: Final = 0x04
_LEAST_VALUE: Final = 2
"""Length of a presentation data value that holds its context id and message control header, and nothing more."""


class MalformedError(ValueError):
    """What no peer may send: event 19 of the state machine (PS3.8 Table 9-10), hence A-ABORT."""


class Piece(NamedTuple):
    """Some of a presentation data value."""

    context_id: int
    control: int
    """Message control header (PS3.8 Annex E.2)."""
    content: memoryview
    ends: bool
    """Whether the value ends with it."""


class DataStream:
    """Where in the stream of PDUs the last read ended.

    Parameters
    ----------
    maximum_length
        Longest PDU that we announced, bytes.
    """

    def __init__(self, maximum_length: int) -> None:
        self._maximum_length = maximum_length
        self._head = bytearray()
        self._pdu_left = self._value_left = 0
        self._context_id = self._control = 0
        self.pdus = 0
        """How many PDUs began so far."""
        self.foreign = b""
        """What was read from the first PDU of another type on: not ours."""

    @property
    def is_inside(self) -> bool:
        """Whether a PDU has begun that is not whole yet."""
        return bool(self._pdu_left or self._head)

    def pieces(self, view: memoryview) -> Iterator[Piece | None]:
        """Yield pieces in their order, and None wherever a PDU is whole.

        Raises
        ------
        MalformedError
            A length contradicts the one around it, or our maximum.
        """
        at, end = 0, len(view)
        while at < end:
            if self._value_left:
                piece, at = self._content(view, at, end)
                yield piece
            else:
                at = self._fill_head(view, at)
                if len(self._head) < _HEAD:
                    return
                if not self._pdu_left:
                    if self._begin_pdu():
                        self.foreign = bytes(self._head) + view[at:].tobytes()
                        return
                elif not self._begin_value():
                    yield Piece(self._context_id, self._control, view[:0], True)
                self._head.clear()
            if not self._pdu_left:
                yield None

    def _fill_head(self, view: memoryview, at: int) -> int:
        missing = _HEAD - len(self._head)
        self._head += view[at : at + missing]
        return at + missing

    def _begin_pdu(self) -> bool:
        """Read a PDU's header; says whether it is of another type."""
        pdu_type, _, length = _PDU.unpack(self._head)
        if pdu_type != _P_DATA_TF:
            return True
        if length > self._maximum_length or 0 < length < _HEAD:
            raise MalformedError(f"a P-DATA-TF PDU of {length} bytes")
        self._pdu_left = length
        self.pdus += 1
        return False

    def _begin_value(self) -> int:
        """Read a value's header; returns the bytes of its content."""
        length, self._context_id, self._control = _VALUE.unpack(self._head)
        left = self._pdu_left - 4 - length
        if length < _LEAST_VALUE or left < 0 or 0 < left < _HEAD:
            raise MalformedError(f"a presentation data value of {length} bytes in {self._pdu_left} of a PDU")
        self._pdu_left -= _HEAD
        self._value_left = length - _LEAST_VALUE
        return self._value_left

    def _content(self, view: memoryview, at: int, end: int) -> tuple[Piece, int]:
        count = min(self._value_left, end - at)
        self._value_left -= count
        self._pdu_left -= count
        piece = Piece(self._context_id, self._control, view[at : at + count], not self._value_left)
        return piece, at + count
