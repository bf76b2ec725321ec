"""Most elements are read in one step; it must say what the careful way says, of whatever bytes."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from agent.store.elements import SEQUENCE_END, Element, Walk

_VRS = (b"UI", b"LO", b"US", b"OB", b"UN", b"SQ", b"ZZ", b"\0\0", b"  ", b"ui", b"\x04\0")
_GROUPS = (0x0002, 0x0008, 0x0010, 0x0020, 0x7FE0, 0xFFFE)


@st.composite
def elements(draw: st.DrawFn) -> bytes:
    """Elements of two byte orders, long and short, and what only looks like one."""
    order = draw(st.sampled_from("<>"))
    parts = []
    for _ in range(draw(st.integers(1, 8))):
        group, number = draw(st.sampled_from(_GROUPS)), draw(st.sampled_from((0, 0x10, 0xE000, 0xE00D, 0xE0DD)))
        value, vr = draw(st.binary(max_size=12)), draw(st.sampled_from(_VRS))
        length = draw(st.sampled_from((len(value), len(value), len(value) + 3, 0xFFFF)))
        parts.append(struct.pack(f"{order}HH2sH", group, number, vr, length))
        if vr not in (b"UI", b"LO", b"US"):
            parts.append(struct.pack(f"{order}L", draw(st.sampled_from((len(value), 0xFFFFFFFF)))))
        parts.append(value)
    return b"".join(parts)[: draw(st.integers(0, 200))]


def slowly(walk: Walk, stop: int, last_tag: int) -> list[Element]:
    """As `Walk.elements`, each element by the one function that knows every kind."""
    found: list[Element] = []
    walk.passed = False
    while walk.position + 8 <= stop:
        start = walk.position
        element = walk._element(walk._implicit)
        if element.tag > last_tag or element.tag >> 16 == 0xFFFE:
            walk.position, walk.passed = start, True
            break
        if element.stop > stop:
            break
        walk.position = element.stop
        found.append(element)
    return found


@given(
    elements() | st.binary(max_size=80),
    st.booleans(),
    st.booleans(),
    st.sampled_from((0x0020000E, SEQUENCE_END)),
    st.data(),
)
def test_one_step_says_what_the_careful_way_says(
    encoded: bytes, implicit: bool, little: bool, last_tag: int, data: st.DataObject
) -> None:
    stop = data.draw(st.integers(0, len(encoded)))

    def seen(quickly: bool) -> object:
        try:
            walk = Walk(encoded, implicit=implicit, little=little)
            found = list(walk.elements(stop, last_tag)) if quickly else slowly(walk, stop, last_tag)
        except struct.error:
            return "cut off"
        return found, walk.position, walk.passed

    assert seen(quickly=True) == seen(quickly=False)
