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
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from agent.domain.errors import SettingsError
from agent.receive.sharing import SharedPort
from agent.serve import supervisor
from agent.serve.children import children_of
from agent.serve.composition.broker import broker_command, broker_url, socket_path
from agent.serve.supervisor import ChildSpec, Supervisor, lock_folder
from agent.settings import load_settings
from tests.support.agent_process import wait_until
from tests.support.signal_stack import without_signal_stack


def python(code: str) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(code)]


def run_for(
    specs: list[ChildSpec], until: Callable[[], bool], meanwhile: Callable[[], int | None] = lambda: None
) -> int:
    """Run a supervisor here until a condition holds, then end it as a terminal would. No thread: it may fork."""
    deadline, held = time.monotonic() + 20, []

    def look(_number: int, _frame: object) -> None:
        held.extend([True] if until() else [])
        if held or time.monotonic() > deadline:
            os.kill(os.getpid(), signal.SIGTERM)

    heard = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGALRM)
    before = [signal.getsignal(number) for number in heard]
    signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
    try:
        with without_signal_stack():
            status = Supervisor(specs, meanwhile).run()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in zip(heard, before, strict=True):
            signal.signal(number, handler)
    assert held or status, "the condition does not hold"
    return status


def test_a_child_that_dies_is_started_again(tmp_path: Path) -> None:
    mark = tmp_path / "starts"
    spec = ChildSpec(name="short", command=python(f"open({str(mark)!r}, 'a').write('x')"))
    assert run_for([spec], lambda: mark.exists() and len(mark.read_text()) >= 2) == 0


def append(path: Path, word: str) -> None:
    with path.open("a") as file:
        file.write(word)


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def test_a_forked_child_is_one_like_others(tmp_path: Path) -> None:
    """It has a name, the environment of its kind, signals of its own, and no standard output."""
    mark = tmp_path / "told"

    def live() -> int:
        process = psutil.Process()
        outputs = Path("/proc/self/fd/1").readlink() == Path("/proc/self/fd/2").readlink()
        handlers = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        masked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        told = (process.cmdline()[:2], process.name(), os.environ["OF_ITS_KIND"], outputs, handlers, masked)
        append(mark, repr(told) + "\n")
        time.sleep(60)
        return 0

    spec = ChildSpec(name="x", command=["agent.serve.children", "x"], environment={"OF_ITS_KIND": "1"}, run=live)
    assert run_for([spec], lambda: len(lines(mark)) == 1) == 0
    assert lines(mark) == [repr((["agent.serve.children", "x"], "x", "1", True, True, set()))]


def test_a_forked_child_that_was_at_work_is_started_again_at_once(tmp_path: Path) -> None:
    mark = tmp_path / "starts"

    def live() -> int:
        append(mark, f"{time.monotonic()}\n")
        os.kill(os.getpid(), signal.SIGKILL)
        return 0

    spec = ChildSpec(name="x", command=["x"], run=live, was_at_work=lambda: True)
    assert run_for([spec], lambda: len(lines(mark)) >= 10) == 0
    times = [float(line) for line in lines(mark)[:10]]
    assert times[-1] - times[0] < 9.0, "one pause of a second or more between each two would be 9 at least"


def test_a_forked_child_that_never_worked_waits_longer_each_time(tmp_path: Path) -> None:
    mark = tmp_path / "starts"

    def live() -> int:
        append(mark, f"{time.monotonic()}\n")
        raise RuntimeError("it does not go back into the supervisor")

    assert run_for([ChildSpec(name="x", command=["x"], run=live)], lambda: len(lines(mark)) >= 5) == 0
    times = [float(line) for line in lines(mark)[:5]]
    waits = [later - earlier for earlier, later in pairwise(times)]
    assert all(wait > least for wait, least in zip(waits, (0.05, 0.1, 0.2, 0.4), strict=True))


def test_a_forked_child_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_STOP_SECONDS", 0.2)

    def live() -> int:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(60)
        return 0

    before, started = psutil.Process().children(), time.monotonic()
    spec = ChildSpec(name="x", command=["x"], run=live)
    assert run_for([spec], lambda: time.monotonic() > started + 0.5) == 0
    assert psutil.Process().children() == before


@pytest.mark.parametrize(("code", "status"), [(0, 0), (1, 1), (2, 2)])
def test_what_is_done_meanwhile_ends_everything_where_it_fails(tmp_path: Path, code: int, status: int) -> None:
    mark = tmp_path / "started"
    other = ChildSpec(name="other", command=python(f"open({str(mark)!r}, 'w'); import time; time.sleep(60)"))
    assert run_for([other], lambda: code == 0 and mark.exists(), meanwhile=lambda: code) == status
    assert mark.exists() == (code == 0)


def test_what_is_done_meanwhile_is_done_again_where_it_was_killed(tmp_path: Path) -> None:
    mark = tmp_path / "tries"

    def meanwhile() -> int:
        append(mark, "x\n")
        if len(lines(mark)) < 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return 0

    assert run_for([], lambda: len(lines(mark)) == 3, meanwhile=meanwhile) == 0


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


def test_a_port_in_use_is_named_and_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=f"127.0.0.1:{port}"):
            SharedPort.open("127.0.0.1", port)
        closing = threading.Timer(0.3, taken.close)
        closing.start()
        SharedPort.open("127.0.0.1", port, patience=10).close()
        closing.join()


@pytest.mark.parametrize("host", ["nowhere.invalid", "192.0.2.1"], ids=["unknown name", "another machine's address"])
def test_an_address_that_is_not_ours_is_told_from_a_taken_port(host: str) -> None:
    with pytest.raises(SettingsError, match=host) as raised:
        SharedPort.open(host, 11112)
    assert "dicom.host" in raised.value.remedy


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
    assert [spec.name for spec in specs if spec.first] == ["listener-1", "listener-2"]
    assert [spec.name for spec in specs if spec.last] == ["broker"]


def test_the_others_wait_until_the_first_are_at_work(tmp_path: Path) -> None:
    order, at_work = tmp_path / "order", tmp_path / "at work"

    def work() -> int:
        time.sleep(0.3)
        append(order, "first\n")
        at_work.touch()
        time.sleep(60)
        return 0

    first = ChildSpec(name="first", command=["first"], run=work, first=True, is_at_work=at_work.exists)
    other = ChildSpec(name="other", command=lambda: python(f"open({str(order)!r}, 'a').write('other\\n')"))
    assert run_for([other, first], lambda: len(lines(order)) >= 3, lambda: append(order, "meanwhile\n")) == 0
    assert lines(order)[:3] == ["first", "meanwhile", "other"]


def test_one_that_does_not_come_to_work_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_AWAIT_SECONDS", 0.2)
    mark = tmp_path / "started"
    stuck = ChildSpec(name="stuck", command=["stuck"], run=lambda: time.sleep(60), first=True, is_at_work=lambda: False)
    other = ChildSpec(name="other", command=python(f"open({str(mark)!r}, 'w').close()"))
    assert run_for([stuck, other], mark.exists) == 0
