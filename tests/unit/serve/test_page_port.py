"""What the page listens on, and what it says where it cannot."""

from __future__ import annotations

import socket
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from agent.domain.errors import AgentError, SettingsError
from agent.serve.page import bound, run_page
from agent.settings import load_settings


@pytest.fixture
def taken() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


def test_a_port_that_is_taken_is_named_with_its_setting(taken: socket.socket) -> None:
    with taken, pytest.raises(AgentError, match=r"127\.0\.0\.1:\d+: Address already in use.*web\.port") as told:
        bound("127.0.0.1", taken.getsockname()[1])
    assert not isinstance(told.value, SettingsError), "which would end the listeners, too"


@pytest.mark.parametrize("host", ["no.such.host.invalid", "192.0.2.1"])
def test_an_address_of_another_machine_is_named(host: str) -> None:
    with pytest.raises(AgentError, match=r"cannot serve the page on .*web\.host"):
        bound(host, 18099)


def answer_of(address: str) -> bytes:
    """Ask until somebody listens."""
    until = time.monotonic() + 20
    while True:
        try:
            with urllib.request.urlopen(address, timeout=5) as answer:
                body: bytes = answer.read()
                return body
        except urllib.error.URLError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


def test_the_page_answers_at_every_address_of_its_host(tmp_path: Path) -> None:
    free = socket.create_server(("127.0.0.1", 0))
    port = free.getsockname()[1]
    free.close()
    environment = {"AGENT_STORAGE__DATA_DIR": str(tmp_path), "AGENT_WEB__PORT": str(port)}
    settings = load_settings(None, environment | {"AGENT_WEB__HOST": "localhost"})
    stop = threading.Event()
    page = threading.Thread(target=run_page, args=(settings, stop))
    page.start()
    try:
        assert answer_of(f"http://127.0.0.1:{port}/healthz") == b'{"ok":true}'
    finally:
        stop.set()
        page.join(10)
    assert not page.is_alive()
