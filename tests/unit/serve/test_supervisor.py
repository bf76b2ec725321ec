"""Children restart, end together, and never outlive their supervisor."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from agent.domain.errors import SettingsError
from agent.serve.children import children_of
from agent.serve.composition.broker import broker_command, broker_url, socket_path
from agent.serve.serve import check_port
from agent.serve.supervisor import ChildSpec, Supervisor, lock_folder
from agent.settings import load_settings
from tests.support.agent_process import wait_until


def python(code: str) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(code)]


def run_for(specs: list[ChildSpec], until: Callable[[], bool], meanwhile: Callable[[], None] = lambda: None) -> int:
    """Run a supervisor here until a condition holds, then end it as a terminal would."""

    def end() -> None:
        try:
            wait_until(until, 20, "the condition")
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    watcher = threading.Thread(target=end)
    watcher.start()
    try:
        return Supervisor(specs, meanwhile).run()
    finally:
        watcher.join()
        for number, handler in zip((signal.SIGTERM, signal.SIGINT), before, strict=True):
            signal.signal(number, handler)


def test_a_child_that_dies_is_started_again(tmp_path: Path) -> None:
    mark = tmp_path / "starts"
    spec = ChildSpec(name="short", command=python(f"open({str(mark)!r}, 'a').write('x')"))
    assert run_for([spec], lambda: mark.exists() and len(mark.read_text()) >= 2) == 0


def test_wrong_settings_end_everything() -> None:
    specs = [
        ChildSpec(name="long", command=python("import time; time.sleep(60)")),
        ChildSpec(name="wrong", command=python("raise SystemExit(2)")),
    ]
    assert Supervisor(specs, lambda: None).run() == 2


def test_first_and_last(tmp_path: Path) -> None:
    mark = tmp_path / "order"
    code = """
        import signal, sys, time
        def say(word):
            with open({mark!r}, "a") as file: file.write(word)
        def end(*_):
            say({name!r}.upper()); sys.exit(0)
        signal.signal(signal.SIGTERM, end)
        say({name!r})
        time.sleep(60)
    """
    specs = [
        ChildSpec(name="b", command=python(code.format(mark=str(mark), name="b"))),
        ChildSpec(name="a", command=python(code.format(mark=str(mark), name="a")), first=True, last=True),
    ]

    def both() -> bool:
        return mark.exists() and len(mark.read_text()) == 2

    assert run_for(specs, both, meanwhile=lambda: time.sleep(1.0)) == 0
    assert mark.read_text() == "abBA"


def test_children_die_with_a_killed_supervisor(tmp_path: Path) -> None:
    code = f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).parents[3])!r})
        from agent.serve.supervisor import ChildSpec, Supervisor
        sleeper = ChildSpec(name="x", command=[sys.executable, "-c", "import time; time.sleep(60)"])
        Supervisor([sleeper], lambda: None).run()
    """
    parent = subprocess.Popen(python(code), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    children = wait_until(lambda: psutil.Process(parent.pid).children(), 20, "a child")
    parent.kill()
    parent.wait()
    gone, alive = psutil.wait_procs(children, timeout=5)
    assert len(gone) == 1
    assert alive == []


def test_a_folder_has_one_owner(tmp_path: Path) -> None:
    held = lock_folder(tmp_path / "lock", alone=True)
    for alone in (True, False):
        with pytest.raises(SettingsError, match="another `agent serve`"):
            lock_folder(tmp_path / "lock", alone=alone)
    os.close(held)
    shared = [lock_folder(tmp_path / "lock", alone=False) for _ in range(2)]
    for descriptor in shared:
        os.close(descriptor)


def test_a_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=f"127.0.0.1:{port}"):
            check_port("127.0.0.1", port)


def test_a_long_data_folder_gets_a_short_socket(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100)
    assert len(os.fsencode(socket_path(deep))) <= 100
    assert socket_path(deep) == socket_path(deep)
    assert socket_path(Path("/x/broker")) == Path("/x/broker/valkey.sock")
    assert broker_url(Path("/x/broker")) == "redis+socket:///x/broker/valkey.sock"
    assert "0" in broker_command(Path("/x"))[broker_command(Path("/x")).index("--port") + 1]


def test_a_split_role_needs_a_broker(tmp_path: Path) -> None:
    environment = {"AGENT_STORAGE__DATA_DIR": str(tmp_path)}
    with pytest.raises(SettingsError, match=r"broker\.url"):
        children_of(load_settings(None, environment), "worker", None)
    shared = load_settings(None, {**environment, "AGENT_BROKER__URL": "redis://127.0.0.1/0"})
    assert [spec.name for spec in children_of(shared, "worker", None)] == ["score", "deliver", "retrieve"]
    assert [spec.name for spec in children_of(shared, "web", None)] == ["web"]


def test_all_is_everything_and_a_broker(tmp_path: Path) -> None:
    settings = load_settings(None, {"AGENT_STORAGE__DATA_DIR": str(tmp_path), "AGENT_DICOM__LISTENERS": "2"})
    specs = children_of(settings, "all", None)
    assert [spec.name for spec in specs] == [
        "broker",
        "listener-1",
        "listener-2",
        "score",
        "deliver",
        "retrieve",
        "web",
    ]
    assert [spec.name for spec in specs if spec.first] == ["broker", "listener-1", "listener-2"]
    assert [spec.name for spec in specs if spec.last] == ["broker"]
