"""Walking an encoded data set element by element (PS3.5 section 7), without building anything of it.

pydicom is not used here: it recurses into nested sequences, warns about odd values through global state, and its
dictionary decides what bytes mean. On arrival only a few values are wanted, of whatever a sender calls a data set.

Tolerances, each met in the field: group 2 inside a data set; implicit elements in an explicit data set and the other
way round; a value representation of no meaning; missing item delimiters; nesting of any depth.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

ITEM: Final = 0xFFFEE000
ITEM_END: Final = 0xFFFEE00D
SEQUENCE_END: Final = 0xFFFEE0DD
_DELIMITERS: Final = 0xFFFE
_META_GROUP: Final = 0x0002
_UNDEFINED: Final = 0xFFFFFFFF
_HEADER: Final = 8
_SHORT: Final = frozenset(  # 16-bit length (PS3.5 Table 7.1-2)
    b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split()
)
_IMPLICIT_INSIDE: Final = frozenset({b"", b"UN"})
"""With undefined length, their content is implicit (PS3.5 section 6.2.2, note 4)."""
_LONG: Final = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())  # 32-bit length (PS3.5 Table 7.1-1)
_KNOWN: Final = _SHORT | _LONG
_READERS: Final = {
    order: tuple(struct.Struct(order + shape).unpack_from for shape in ("HH2sH", "HH", "H", "L")) for order in "<>"
}
"""For each byte order: an explicit element's head, a tag, a 16-bit and a 32-bit length."""


class Element(NamedTuple):
    """Where the value of an element lies: `[start, stop)` of the walked bytes."""

    tag: int
    vr: bytes
    """Empty where it is implicit."""
    start: int
    stop: int


class Walk:
    """A position in an encoded data set.

    Parameters
    ----------
    encoded
        The data set or the beginning of one.
    implicit, little
        How its transfer syntax says that it is encoded; the first element may contradict `implicit`.
    """

    def __init__(self, encoded: bytes, *, implicit: bool, little: bool, start: int = 0) -> None:
        self.encoded = encoded
        self.position = start
        self.passed = False
        """Whether the last walk ended at a later tag or a delimiter, not for want of bytes."""
        self._explicit, self._tag, self._short, self._long = _READERS["<" if little else ">"]
        self._implicit = self._really_implicit(implicit)

    def elements(self, stop: int, last_tag: int = SEQUENCE_END) -> Iterator[Element]:
        """Yield elements from here to `stop`, to a delimiter, past `last_tag`, or to where the bytes end."""
        self.passed = False
        encoded, explicit, is_explicit = self.encoded, self._explicit, not self._implicit
        while (start := self.position) + _HEADER <= stop:
            group, number, vr, length = explicit(encoded, start)
            if is_explicit and vr in _SHORT and group != _META_GROUP and group != _DELIMITERS:  # nearly every one
                element = Element(group << 16 | number, vr, start + _HEADER, start + _HEADER + length)
            else:
                element = self._element(self._implicit)
            if element.tag > last_tag or element.tag >> 16 == _DELIMITERS:
                self.position, self.passed = start, True
                return
            if element.stop > stop:
                return
            self.position = element.stop
            yield element

    def items(self, sequence: Element) -> Iterator[list[Element]]:
        """Yield the elements of each item of a sequence, not those nested deeper."""
        after, implicit = self.position, self._implicit
        self.position, self._implicit = sequence.start, implicit or sequence.vr in _IMPLICIT_INSIDE
        while self.position + _HEADER <= sequence.stop:
            tag, length = self._tag_here(), self._long(self.encoded, self.position + 4)[0]
            if tag != ITEM:
                break
            self.position += _HEADER
            stop = sequence.stop if length == _UNDEFINED else min(self.position + length, sequence.stop)
            yield list(self.elements(stop))
            if length != _UNDEFINED:
                self.position = stop
            elif self.position + _HEADER <= stop and self._tag_here() == ITEM_END:
                self.position += _HEADER
        self.position, self._implicit = after, implicit

    def value(self, element: Element) -> bytes:
        """Copy the encoded value."""
        return self.encoded[element.start : element.stop]

    def _tag_here(self) -> int:
        group, number = self._tag(self.encoded, self.position)
        return int(group << 16 | number)

    def _really_implicit(self, declared: bool) -> bool:
        """Believe the first element outside group 2: some senders encode otherwise than they negotiated."""
        position, end = self.position, len(self.encoded)
        self._implicit = declared
        try:
            while self.position + _HEADER <= end and self._tag_here() >> 16 == _META_GROUP:
                self.position = self._element(declared).stop
            if self.position + _HEADER > end:
                return declared
            return self.encoded[self.position + 4 : self.position + 6] not in _KNOWN
        finally:
            self.position = position

    def _element(self, implicit: bool) -> Element:
        """Read one element header at the position; an element that claims too much stops past the bytes' end."""
        tag = self._tag_here()
        if tag >> 16 == _META_GROUP:
            # group 2 is explicit wherever it stands (PS3.10 section 7.1)
            implicit = self.encoded[self.position + 4 : self.position + 6] not in _KNOWN
        vr, start, length = self._head(self.position, implicit or tag >> 16 == _DELIMITERS)
        if length != _UNDEFINED or tag >> 16 == _DELIMITERS:
            return Element(tag, vr, start, start + length)
        return Element(tag, vr, start, self._end_of_sequence(start, implicit or vr in _IMPLICIT_INSIDE))

    def _head(self, at: int, implicit: bool) -> tuple[bytes, int, int]:
        """Value representation, where the value starts, and its length."""
        vr = self.encoded[at + 4 : at + 6]
        if implicit or not vr.isalpha():
            return b"", at + 8, self._long(self.encoded, at + 4)[0]
        if vr in _SHORT:
            return vr, at + 8, self._short(self.encoded, at + 6)[0]
        if at + 12 > len(self.encoded):
            return vr, at + 12, 0
        return vr, at + 12, self._long(self.encoded, at + 8)[0]  # unknown ones too: PS3.5 section 6.2 gives 32 bits

    def _end_of_sequence(self, start: int, implicit: bool) -> int:
        """Find where a sequence of undefined length ends; a list of its open ones stands for recursion."""
        end, position, opened = len(self.encoded), start, [implicit]
        while opened:
            if position + _HEADER > end:
                return end + 1
            group, number = self._tag(self.encoded, position)
            if group == _DELIMITERS:
                position, closed = self._past_delimiter(position, group << 16 | number)
                if closed:
                    opened.pop()
                continue
            vr, position, length = self._head(position, opened[-1])
            if length == _UNDEFINED:
                opened.append(opened[-1] or vr in _IMPLICIT_INSIDE)
            else:
                position += length
        return position

    def _past_delimiter(self, position: int, tag: int) -> tuple[int, bool]:
        """Step over a delimiter, and over an item whose length is known; says whether a sequence ended."""
        length = self._long(self.encoded, position + 4)[0]
        skipped = length if tag == ITEM and length != _UNDEFINED else 0
        return position + _HEADER + skipped, tag == SEQUENCE_END
