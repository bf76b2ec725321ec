"""Listeners that accept from one socket: the load is spread, and no connection is lost with a listener."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.domain.errors import SettingsError
from agent.receive import sharing
from agent.receive.listener import Listener
from agent.receive.sharing import SharedPort
from agent.worklist import tables as t
from tests.unit.receive.reception import CONFIG, Hand, Reception, associate_request, wait_for


@pytest.fixture
def port() -> Iterator[SharedPort]:
    opened = SharedPort.open("127.0.0.1", 0, seats=2)
    yield opened
    opened.close()


@pytest.fixture
def reception(tmp_path: Path) -> Iterator[Reception]:
    """A ledger and a spool; its own listener is not started."""
    made = Reception(tmp_path)
    yield made
    made.ledger.close()


def listener(reception: Reception, port: SharedPort, number: int) -> Listener:
    config = replace(CONFIG, owner=f"test:{number}")
    made = Listener(config, reception.ledger, reception.files, seat=port.seat(number))
    made.start()
    return made


def owners(reception: Reception) -> list[str]:
    return sorted(row.owner for row in reception.rows(t.associations) if row.closed_at is None)


def associated(address: tuple[str, int]) -> Hand:
    return Hand.associated(address[1])


@pytest.mark.parametrize("together", [True, False], ids=["at once", "one by one"])
def test_associations_are_spread_evenly(reception: Reception, port: SharedPort, together: bool) -> None:
    listeners = [listener(reception, port, number) for number in range(2)]
    address = listeners[0].address
    if together:
        hands = [Hand.connect(address[1]) for _ in range(8)]
        for hand in hands:
            hand.send(associate_request())
        assert [hand.answer()[0] for hand in hands] == [2] * 8
    else:
        hands = [associated(address) for _ in range(8)]
    served = owners(reception)  # four each, unless the machine is so busy that a listener misses its turn
    assert len(served) == 8
    assert {served.count("test:0"), served.count("test:1")} <= {2, 3, 4, 5, 6}
    for hand in hands:
        hand.connection.close()
    for one in listeners:
        one.stop(1.0)


def test_the_less_busy_one_gets_what_comes(reception: Reception, port: SharedPort) -> None:
    first = listener(reception, port, 0)
    hands = [associated(first.address) for _ in range(3)]
    second = listener(reception, port, 1)
    hands += [associated(first.address) for _ in range(3)]
    served = owners(reception)
    assert len(served) == 6
    assert served.count("test:1") >= 2  # all three, unless it misses its turn on a busy machine
    for hand in hands:
        hand.connection.close()
    for one in (first, second):
        one.stop(1.0)


def test_one_that_is_stuck_does_not_keep_connections_from_others(reception: Reception, port: SharedPort) -> None:
    port.seat(1).publish(0)  # it says that it has nothing to do, and never accepts
    first = listener(reception, port, 0)
    hands = [associated(first.address) for _ in range(3)]
    assert owners(reception) == ["test:0"] * 3
    for hand in hands:
        hand.connection.close()
    first.stop(1.0)


def test_connections_wait_for_the_next_listener(reception: Reception, port: SharedPort) -> None:
    first = listener(reception, port, 0)
    address = first.address
    associated(address).connection.close()
    first.stop(1.0)
    assert not port.seat(0).leave()
    answers: list[Any] = []

    def call() -> None:
        with socket.create_connection(address, timeout=20) as connection:
            connection.sendall(associate_request())
            answers.append(connection.recv(1))

    caller = threading.Thread(target=call)
    caller.start()
    caller.join(0.3)
    assert caller.is_alive()  # neither refused nor answered
    second = listener(reception, port, 1)
    wait_for(lambda: answers)
    caller.join()
    assert answers == [b"\2"]
    second.stop(1.0)
    assert port.seat(1).leave() is False


def test_a_seat_says_whether_somebody_sat_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = SharedPort(listening, seats=2)
        assert not port.seat(0).leave()
        port.seat(0).publish(3)
        port.seat(1).publish(0)
        assert (port.seat(0).is_least_busy, port.seat(1).is_least_busy) == (False, True)
        assert port.seat(1).leave()
        assert port.seat(0).is_least_busy


@pytest.fixture
def handed(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A listening socket that is handed over as systemd does (sd_listen_fds(3)), but for its number."""
    with socket.create_server(("127.0.0.1", 0)) as opened:
        monkeypatch.setattr(sharing, "_FIRST_PASSED", os.dup(opened.fileno()))
        monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
        monkeypatch.setenv("LISTEN_FDS", "1")
        yield opened


def test_a_socket_that_is_handed_over_is_taken(handed: socket.socket, reception: Reception) -> None:
    host, number = handed.getsockname()
    with Hand.connect(number) as waiting:
        waiting.send(associate_request())  # nobody accepts yet
        port = SharedPort.passed(host, number, 2)
        assert port is not None
        assert not {"LISTEN_PID", "LISTEN_FDS"} & os.environ.keys()  # no child may take it once more
        first = listener(reception, port, 0)
        assert waiting.answer()[0] == 2
        first.stop(1)
        port.close()
    with Hand.connect(number):  # it is still open: who calls meanwhile waits
        pass


def test_only_a_socket_of_the_settings_is_taken(handed: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    host, number = handed.getsockname()
    with pytest.raises(SettingsError, match=f"listens on {host}:{number} for us, not on 127.0.0.2:{number}"):
        SharedPort.passed("127.0.0.2", number)
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", "2")
    with pytest.raises(SettingsError, match="2 sockets"):
        SharedPort.passed(host, number)
    monkeypatch.setenv("LISTEN_PID", "1")  # another process's
    assert SharedPort.passed(host, number) is None
    assert SharedPort.passed(host, number) is None
