"""Studies of three JPEG views from claimed work item to proof in a local Orthanc: `make bench-scoring`.

First one at a time, for the latency by stage; then a queue that waits when the workers start, for the throughput and
what limits it; then one, two and four workers over PostgreSQL and Valkey. Writes its parts of docs/benchmarks.md.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import sqlalchemy as sa

from agent.worklist import tables as t
from agent.worklist.ledger import Ledger
from tests.load import way_page
from tests.load.way import (
    STAGES,
    WHOLE,
    Percentiles,
    Processes,
    Studies,
    Usage,
    engine_seconds,
    machine,
    measured,
    percentiles,
    timelines,
)
from tests.peers.orthanc import Orthanc
from tests.peers.postgresql import Postgresql
from tests.peers.valkey import Valkey
from tests.support.agent_process import AgentProcess, wait_until

pytestmark = [pytest.mark.bench, pytest.mark.peers, pytest.mark.timeout(3600)]
ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "inference" / "bundles" / "reference"
ALONE = int(os.environ.get("BENCH_ALONE", "30"))
QUEUE = int(os.environ.get("BENCH_QUEUE", "200"))
SCALING = int(os.environ.get("BENCH_SCALING", "60"))
FIGURES = ROOT / "build" / "figures"


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[int], Orthanc]]:
    """Start an Orthanc that knows where the agent listens."""
    with ExitStack() as stack:

        def started(port: int) -> Orthanc:
            folder = tmp_path_factory.mktemp("archive")
            return stack.enter_context(Orthanc(folder, {"STEATOSIS": ("127.0.0.1", port)}, is_verbose=False))

        yield started


def settings_for(archive: Orthanc, **more: str) -> dict[str, str]:
    return {
        "AGENT_RESULTS__DESTINATIONS": json.dumps([archive.archive]),
        "AGENT_STUDY__QUIET_SECONDS": "1",
        "AGENT_MODEL__BACKEND": "auto",
        **more,
    }


@contextmanager
def ended(*agents: AgentProcess) -> Iterator[None]:
    try:
        yield
    finally:
        for agent in agents:
            if agent.process is not None and agent.process.poll() is None:
                agent.kill()


def test_from_claimed_to_proved(
    tmp_path: Path, free_port: Callable[[], int], orthanc: Callable[[int], Orthanc], peer_tool: Callable[[str], Path]
) -> None:
    """One study at a time on a machine that does nothing else."""
    peer_tool("Orthanc")
    engine, chosen = engine_seconds(SHIPPED, tmp_path / "agent/var/engines")
    port = free_port()
    archive = orthanc(port)
    agent = AgentProcess(tmp_path / "agent", dicom_port=port, web_port=free_port(), settings=settings_for(archive))
    studies = Studies(tmp_path / "files")
    agent.start()
    with ended(agent):
        ledger = Ledger.in_folder(agent.home / "var/ledger.sqlite")
        for number in range(ALONE):
            studies.send(range(number, number + 1), port)
            # looked for seldom and in the ledger: to ask the page ten times a second takes processor time, too
            wait_until(lambda number=number: finished(ledger) > number, 60, f"study {number}", every=0.5)
        lines = timelines(ledger)
    assert len(lines) == ALONE
    tell_latency(lines, engine, chosen)


def tell_latency(lines: list[dict[str, float]], engine: float, chosen: str) -> None:
    found = percentiles(lines)
    rows = [[name, f"{one.p50:.0f}", f"{one.p95:.0f}"] for name, one in found.items()]
    rest = Percentiles.of([line[WHOLE] - engine for line in lines])
    rows.append(
        [f"**without the engine** ({1e3 * engine:.0f} ms, {chosen})", f"**{rest.p50:.0f}**", f"**{rest.p95:.0f}**"]
    )
    rows.append(["the first study after the start, without the engine", f"{1e3 * (lines[0][WHOLE] - engine):.0f}", ""])
    told = way_page.table(["ms", "p50", "p95"], rows)
    print(f"\n{told}")
    way_page.stacked(
        {name: found[name].p50 for name in STAGES}, found[WHOLE].p50, "benchmarks-way.svg", beside=1e3 * engine
    )
    words = f"{machine()}, n {len(lines)}, load average {os.getloadavg()[0]:.1f}, backend `auto`."
    way_page.put("way", "\n\n".join((way_page.dated(words), "![stages](benchmarks-way.svg)", told)))
    way_page.kept(FIGURES, "way", lines)


def finished(ledger: Ledger) -> int:
    done = sa.select(sa.func.count()).where(t.work_items.c.finished_at.is_not(None))
    with ledger.read() as connection:
        return int(connection.execute(done).scalar_one())


def begun(ledger: Ledger) -> bool:
    with ledger.read() as connection:
        return connection.execute(sa.select(t.steps.c.id).limit(1)).first() is not None


def worked_off(ledger: Ledger, count: int, processes: Processes) -> Usage:
    """Measure from the first claim until the last of `count` work items is finished."""
    wait_until(lambda: begun(ledger), 120, "the first claim", every=0.02)
    with measured(processes) as usage:
        wait_until(lambda: finished(ledger) >= count, 900, f"{count} studies", every=0.2)
    return usage


def test_a_queue(
    tmp_path: Path, free_port: Callable[[], int], orthanc: Callable[[int], Orthanc], peer_tool: Callable[[str], Path]
) -> None:
    """Studies that all wait when the workers start."""
    peer_tool("Orthanc")
    engine_seconds(SHIPPED, tmp_path / "agent/var/engines", runs=1)  # `auto` knows its choice
    port = free_port()
    archive = orthanc(port)
    agent = AgentProcess(tmp_path / "agent", dicom_port=port, web_port=free_port(), settings=settings_for(archive))
    agent.environment["AGENT_STUDY__QUIET_SECONDS"] = "800"
    agent.start()
    with ended(agent):
        Studies(tmp_path / "files").send(range(QUEUE), port)
        agent.stop()
        agent.environment["AGENT_STUDY__QUIET_SECONDS"] = "1"
        ledger = Ledger.in_folder(agent.home / "var/ledger.sqlite")
        agent.start(ready=False)
        assert agent.process is not None
        usage = worked_off(ledger, QUEUE, Processes(serve=agent.process.pid, Orthanc=archive.pid))
        lines = timelines(ledger)
    tell_queue(lines, usage)


def tell_queue(lines: list[dict[str, float]], usage: Usage) -> None:
    cpu = usage.cpu or {}
    used, cores = sum(cpu.values()), psutil.cpu_count() or 1
    rows = [
        [
            name,
            f"{seconds:.1f}",
            f"{1e3 * seconds / len(lines):.0f}",
            f"{(usage.peak_megabytes or {}).get(name, 0):.0f}",
        ]
        for name, seconds in sorted(cpu.items(), key=lambda one: -one[1])
    ]
    rows.append(["together", f"{used:.1f}", f"{1e3 * used / len(lines):.0f}", ""])
    told = way_page.table(["", "CPU, s", "CPU a study, ms", "memory (PSS), MiB"], rows)
    stages = percentiles(lines)
    spent = way_page.table(
        ["ms", "p50", "p95"], [[name, f"{one.p50:.0f}", f"{one.p95:.0f}"] for name, one in stages.items()]
    )
    wall = max(line["to"] for line in lines) - min(line["from"] for line in lines)
    others = usage.busy - 100 * used / (usage.wall * cores) - usage.stolen
    words = (
        f"{machine()}: {len(lines)} studies in {wall:.1f} s, {3600 * len(lines) / wall:,.0f} an hour. Cores busy "
        f"{usage.busy:.0f} %, of which {usage.stolen:.0f} went to the host and {others:.0f} to the kernel's "
        "threads and to processes that are not ours; wall time "
        f"{usage.wall / (used / cores):.2f} times the summed core seconds below over {cores}."
    )
    print(f"\n{words}\n{told}\n{spent}")
    way_page.put("queue", "\n\n".join((way_page.dated(words), told, spent)))
    way_page.kept(FIGURES, "queue", {"cpu": cpu, "wall": usage.wall, "busy": usage.busy, "lines": lines})


def test_workers(
    tmp_path: Path, free_port: Callable[[], int], orthanc: Callable[[int], Orthanc], peer_tool: Callable[[str], Path]
) -> None:
    """One, two and four workers, each with its score, deliver and retrieve process, on the same cores."""
    peer_tool("Orthanc")
    found: dict[int, dict[str, Any]] = {}
    for count in (1, 2, 4):
        port = free_port()
        archive, home = orthanc(port), tmp_path / f"workers-{count}"
        engine_seconds(SHIPPED, home / "var/engines", runs=1)
        with Postgresql(free_port()) as postgresql, Valkey(home / "valkey", free_port()) as valkey:
            shared = {"AGENT_DATABASE__URL": postgresql.url, "AGENT_BROKER__URL": valkey.url}
            settings, web = settings_for(archive, **shared), free_port()
            listener, *workers = (
                AgentProcess(home, dicom_port=port, web_port=web, settings=settings, role=role)
                for role in ("listener", *["worker"] * count)
            )
            with ended(listener, *workers):
                found[count] = _with_workers(listener, workers, archive, tmp_path, Ledger(postgresql.url))
    rows = [
        [str(count), f"{one['an_hour']:,.0f}", f"{one['busy']:.0f} %", f"{one['memory']:.0f}"]
        for count, one in found.items()
    ]
    told = way_page.table(["workers", "studies an hour", "cores busy", "memory of the workers (PSS), MiB"], rows)
    print(f"\n{told}")
    way_page.put("workers", "\n\n".join((way_page.dated(f"{machine()}, {SCALING} studies each."), told)))
    way_page.kept(FIGURES, "workers", found)


def _with_workers(
    listener: AgentProcess, workers: list[AgentProcess], archive: Orthanc, folder: Path, ledger: Ledger
) -> dict[str, Any]:
    listener.start(ready=False)
    wait_until(lambda: _listens(listener.dicom_port), 60, "the listener listens")
    Studies(folder / "files").send(range(SCALING), listener.dicom_port)
    for worker in workers:
        worker.start(ready=False)
    pids = {f"worker{number}": one.process.pid for number, one in enumerate(workers) if one.process is not None}
    usage = worked_off(ledger, SCALING, Processes(Orthanc=archive.pid, **pids))
    lines = timelines(ledger)
    ledger.close()
    wall = max(line["to"] for line in lines) - min(line["from"] for line in lines)
    sizes = usage.peak_megabytes or {}
    return {
        "an_hour": 3600 * len(lines) / wall,
        "busy": usage.busy,
        "memory": sum(size for name, size in sizes.items() if name != "Orthanc"),
        "wall": wall,
    }


def _listens(port: int) -> bool:
    return any(one.laddr and one.laddr.port == port and one.status == "LISTEN" for one in psutil.net_connections("tcp"))
