"""What an agent's processes hold, and how soon its page answers, looked at again and again while it works."""

from __future__ import annotations

import statistics
import threading
import time
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import psutil

from tests.support.agent_process import AgentProcess

_HOLDINGS_SECONDS = 2.0
_PAGE_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class Holding:
    """One look at one process."""

    at: float
    """Seconds since 1970."""
    name: str
    pid: int
    bytes: int
    """Memory that it alone holds (USS)."""
    descriptors: int
    threads: int


@dataclass
class Watch:
    """Looks at a running agent in threads of its own, from `start` to `stop`."""

    agent: AgentProcess
    study: Callable[[], str | None]
    """A study whose page is asked for, too."""
    holdings: list[Holding] = field(default_factory=list)
    answers: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    """Address → moments and seconds until the whole answer was read."""
    unanswered: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        for look, seconds in ((self._look_at_processes, _HOLDINGS_SECONDS), (self._ask_page, _PAGE_SECONDS)):
            self._threads.append(threading.Thread(target=self._every, args=(look, seconds), daemon=True))
            self._threads[-1].start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _every(self, look: Callable[[], None], seconds: float) -> None:
        while not self._stop.wait(seconds):
            look()

    def _look_at_processes(self) -> None:
        now = time.time()
        for name, process in _processes(self.agent):
            try:
                with process.oneshot():
                    self.holdings.append(
                        Holding(
                            at=now, name=name, pid=process.pid, bytes=process.memory_full_info().uss,
                            descriptors=process.num_fds(), threads=process.num_threads(),
                        )
                    )  # fmt: skip
            except psutil.NoSuchProcess:
                continue

    def _ask_page(self) -> None:
        study = self.study()
        for place in ("/", "/api/worklist?limit=100", "/metrics", *([f"/studies/{study}"] if study else [])):
            started = time.perf_counter()
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.agent.web_port}{place}", timeout=10) as answer:
                    answer.read()
            except OSError as error:
                self.unanswered.append(f"{place}: {error}")
                continue
            self.answers[place.split("?")[0] if study is None or study not in place else "/studies/UID"].append(
                (time.time(), time.perf_counter() - started)
            )


def _processes(agent: AgentProcess) -> Iterator[tuple[str, psutil.Process]]:
    if agent.process is None:
        return
    supervisor = psutil.Process(agent.process.pid)
    yield "supervisor", supervisor
    for child in supervisor.children(recursive=True):
        try:
            command = child.cmdline()
        except psutil.NoSuchProcess:
            continue
        if "agent.serve.children" in command:
            yield command[command.index("agent.serve.children") + 1], child
        else:
            yield "broker", child


def quarters(seen: list[Holding], end: float) -> dict[str, list[list[Holding]]]:
    """Divide what was seen of each process by quarters of the time."""
    begin = min(one.at for one in seen)
    divided: dict[str, list[list[Holding]]] = defaultdict(lambda: [[], [], [], []])
    for one in seen:
        divided[one.name][min(3, int(4 * (one.at - begin) / (end - begin)))].append(one)
    return divided


def median_megabytes(seen: list[Holding]) -> float:
    return statistics.median(one.bytes for one in seen) / 1e6


def most_descriptors(seen: list[Holding]) -> int:
    return max(one.descriptors for one in seen)
