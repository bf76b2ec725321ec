"""Whatever a peer calls its instance: a UID is digits and dots within 64 characters, anything else names nothing."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain.errors import IdentifierError, RequestorError
from agent.domain.identifiers import Archive, Peer, checked_uid, is_uid
from agent.store.elements import Walk
from agent.store.header import header_of

component = st.text("0123456789", min_size=1, max_size=20)
good = st.lists(component, min_size=1, max_size=8).map(".".join).filter(lambda uid: len(uid) <= 64)
near = st.text("0123456789./\\ \0\n-", max_size=70)


@given(good)
def test_digits_and_dots_are_accepted(uid: str) -> None:
    assert checked_uid(uid, "UID") == uid
    assert PurePosixPath(uid).name == uid


@given(near | st.text(max_size=80))
def test_nothing_else_is(text: str) -> None:
    expected = len(text) <= 64 and re.fullmatch(r"[0-9]+(\.[0-9]+)*", text, re.ASCII) is not None
    assert is_uid(text) == expected
    if not expected:
        with pytest.raises(IdentifierError) as error:
            checked_uid(text, "UID")
        assert error.value.cause.isascii()
        assert error.value.cause.isprintable()


@given(st.text(max_size=40))
def test_peers_and_archives_are_read_or_refused(text: str) -> None:
    for kind in (Peer, Archive):
        try:
            parsed = kind.parse(text)
        except ValueError:
            continue
        assert parsed.ae_title.strip() == parsed.ae_title != ""
        assert parsed.host != "" or text.endswith(" ")


@given(st.binary(max_size=400), st.booleans(), st.booleans())
def test_any_bytes_are_walked_to_an_end(data: bytes, implicit: bool, little: bool) -> None:
    walk = Walk(data, implicit=implicit, little=little)
    elements = list(walk.elements(len(data)))
    assert all(0 <= element.start <= element.stop <= len(data) for element in elements)
    for element in elements:
        list(walk.items(element))


@given(
    st.binary(max_size=400),
    st.sampled_from(["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"]),
)
def test_any_data_set_has_a_header_or_a_named_error(data: bytes, syntax: str) -> None:
    with pytest.raises(RequestorError):
        header_of(data, syntax)
