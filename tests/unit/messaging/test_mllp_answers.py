"""Acknowledgements as interface engines write them: what says that it took the message is believed, and soon."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from agent.domain.errors import ArchiveError
from agent.messaging import mllp
from agent.messaging.mllp import Hl7Receiver
from agent.messaging.oru import OruProfile, control_id
from tests.unit.messaging.message_source import message

ACK = f"MSH|^~\\&|RIS|H|S||20260101||ACK^R01|1|P|2.5.1\rMSA|AA|{control_id(message())}\r"


@contextmanager
def receiver(answer: Callable[[socket.socket], None]) -> Iterator[Hl7Receiver]:
    """Take one message whole, answer, and keep the connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        done = threading.Event()

        def serve() -> None:
            peer, _ = server.accept()
            with peer:
                received = b""
                while not received.endswith(b"\x1c\r"):
                    received += peer.recv(4096)
                answer(peer)
                done.wait(10)

        thread = threading.Thread(target=serve)
        thread.start()
        address = f"mllp://127.0.0.1:{server.getsockname()[1]}"
        try:
            yield Hl7Receiver(address=address, profile=OruProfile(sending_application="S"))
        finally:
            done.set()
            thread.join()


@pytest.mark.parametrize("ended", ["\n", "\r\n"])
def test_segments_that_end_otherwise(ended: str) -> None:
    said = ACK.replace("\r", ended).encode()
    with receiver(lambda peer: peer.sendall(b"\x0b" + said + b"\x1c\r")) as found:
        assert found.tell(message()) == "AA"


def test_an_end_without_its_carriage_return_is_not_waited_for() -> None:
    began = time.monotonic()
    with receiver(lambda peer: peer.sendall(b"\x0b" + ACK.encode() + b"\x1c")) as found:
        assert found.tell(message()) == "AA"
    assert time.monotonic() - began < mllp._ANSWER_SECONDS


def test_an_answer_without_end_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def drip(peer: socket.socket) -> None:
        with suppress(OSError):  # until we hang up
            while True:
                peer.sendall(b"\x0b ")
                time.sleep(0.0005)

    monkeypatch.setattr(mllp, "_ANSWER_SECONDS", 0.3)
    began = time.monotonic()
    with receiver(drip) as found, pytest.raises(ArchiveError):
        found.tell(message())
    assert time.monotonic() - began < 30, "it drips for ever"
