"""Listeners that are killed or asked to end, in a real `agent serve`."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.load.fuzz_pdus import echo
from tests.support.agent_process import AgentProcess, wait_until
from tests.unit.receive.reception import Hand, associate_request, pdu

pytestmark = pytest.mark.acceptance


@pytest.fixture
def agent(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[AgentProcess]:
    settings = {"AGENT_DICOM__LISTENERS": "2", "AGENT_BROKER__URL": "redis://127.0.0.1:1/0"}  # listeners need none
    made = AgentProcess(tmp_path, dicom_port=free_port(), web_port=free_port(), settings=settings, role="listener")
    made.start(ready=False)
    wait_until(lambda: len(listeners(made)) == 2 and accepts(made.dicom_port), 30, "two listeners")
    echo(made.dicom_port)
    yield made
    if made.process is not None and made.process.poll() is None:
        made.kill()


def listeners(agent: AgentProcess) -> list[psutil.Process]:
    assert agent.process is not None
    found = []
    for child in psutil.Process(agent.process.pid).children():
        with contextlib.suppress(psutil.NoSuchProcess):  # what reads the settings ends soon
            words = child.cmdline()
            if "agent.serve.children" in words and any(word.startswith("listener-") for word in words):
                found.append(child)
    return found


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_no_call_is_refused_while_every_listener_is_killed_again_and_again(agent: AgentProcess) -> None:
    seconds = []
    for _ in range(5):
        killed = listeners(agent)
        for one in killed:
            one.kill()
        seconds.append(echo(agent.dicom_port))  # would fail if it were refused
        assert not {one.pid for one in listeners(agent)} & {one.pid for one in killed if not one.is_running()}
    assert max(seconds) < 10  # how fast is for tests/load/kill_ingest.py to say, on a machine of its own
    wait_until(lambda: len(listeners(agent)) == 2, 10, "both are there again")


def test_sigterm_refuses_new_associations_and_lets_running_ones_end(agent: AgentProcess) -> None:
    assert agent.process is not None
    with Hand.associated(agent.dicom_port) as hand:
        os.kill(agent.process.pid, signal.SIGTERM)
        wait_until(lambda: not accepts(agent.dicom_port), 4, "new associations are refused")
        hand.send(pdu(5, bytes(4)))
        assert hand.answer()[0] == 6
    assert agent.process.wait(timeout=10) == 0


def test_listeners_die_with_their_supervisor(agent: AgentProcess) -> None:
    assert agent.process is not None
    children = listeners(agent)
    agent.process.kill()
    agent.process.wait()
    gone, alive = psutil.wait_procs(children, timeout=10)
    assert (len(gone), alive) == (2, [])
    assert not accepts(agent.dicom_port)


PASSING = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.executable, [sys.executable, "-m", "agent", "serve", "--role", "listener"])
"""


def test_who_calls_during_a_restart_waits_where_systemd_holds_the_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        number = held.getsockname()[1]
        settings = {"AGENT_BROKER__URL": "redis://127.0.0.1:1/0"}
        agent = AgentProcess(tmp_path, dicom_port=number, web_port=1, settings=settings, role="listener")

        def start() -> subprocess.Popen[bytes]:
            command = [sys.executable, "-c", PASSING, str(held.fileno())]
            with agent.log.open("ab") as log:
                return subprocess.Popen(command, env=agent.environment, pass_fds=[held.fileno()], stderr=log)

        for _ in range(2):
            with Hand.connect(number) as early:
                early.send(associate_request())  # before there is anybody
                agent.process = start()
                assert early.answer()[0] == 2
            echo(number)
            assert agent.stop()[0] == 0
