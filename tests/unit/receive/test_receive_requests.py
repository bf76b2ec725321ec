"""Requests that came before are not decoded again, and no association sees what another made of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pynetdicom import dul
from pynetdicom.pdu import A_ASSOCIATE_RQ

from agent.receive.requests import Requests
from tests.unit.receive.reception import Hand, Reception, associate_request, pdu

RELEASE = pdu(5, bytes(4))


class Counting:
    """pynetdicom's way to decode, and how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, received: bytearray) -> tuple[Any, str]:
        self.asked += 1
        kind, event = dul._PDU_TYPES[bytes(received[:1])]
        decoded = kind()
        decoded.decode(bytes(received))
        return decoded, event


def test_the_same_bytes_are_decoded_once() -> None:
    decode, requests = Counting(), Requests()
    again = requests.decoder(decode)
    first, event = again(bytearray(associate_request()))
    second, event_again = requests.decoder(decode)(bytearray(associate_request()))
    assert (decode.asked, event, event_again) == (1, "Evt6", "Evt6")
    assert isinstance(first, A_ASSOCIATE_RQ)
    plain, _ = Counting()(bytearray(associate_request()))
    told = [one.to_primitive() for one in (plain, first, second)]
    for one in told[1:]:
        assert one.calling_ae_title == told[0].calling_ae_title
        assert one.presentation_context_definition_list == told[0].presentation_context_definition_list
        assert [vars(item) for item in one.user_information] == [vars(item) for item in told[0].user_information]
    told[1].presentation_context_definition_list.clear()
    told[1].user_information.clear()
    told[1].calling_ae_title = "OTHER"
    assert len(second.to_primitive().presentation_context_definition_list) == 1
    assert len(second.to_primitive().user_information) == 2
    assert second.to_primitive().calling_ae_title == "CART"
    again(bytearray(RELEASE))
    again(bytearray(RELEASE))
    assert decode.asked == 3


@pytest.mark.parametrize("callers", [17, 40])
def test_so_many_are_known_and_no_more(callers: int) -> None:
    decode, requests = Counting(), Requests()
    again = requests.decoder(decode)
    for number in range(callers):
        again(bytearray(associate_request(calling=b"CART%d" % number)))
    assert len(requests._known) == 16
    again(bytearray(associate_request(calling=b"CART%d" % (callers - 1))))
    assert decode.asked == callers
    again(bytearray(associate_request(calling=b"CART0")))
    assert decode.asked == callers + 1


def test_what_cannot_be_decoded_is_never_known() -> None:
    decode, requests = Counting(), Requests()
    broken = bytearray(associate_request()[:-3] + b"\xff\xff\xff")
    for _ in range(2):
        with pytest.raises(Exception):  # noqa: B017 - whatever pynetdicom raises
            requests.decoder(decode)(broken)
    assert decode.asked == 2
    assert not requests._known


def test_associations_with_the_same_request_are_served_alike(tmp_path: Path) -> None:
    accepted = set()
    with Reception(tmp_path) as reception:
        for calling in (b"A", b"B", b"A", b"B", b"A"):
            with Hand.connect(reception.port) as hand:
                hand.send(associate_request(calling=calling))
                kind, content = hand.answer()
                assert kind == 2
                assert content[20:36].strip() == calling
                accepted.add(content[68:])
                hand.send(RELEASE)
                assert hand.answer()[0] == 6
    assert len(accepted) == 1
