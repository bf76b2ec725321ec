"""What live studies wait while a bulk replay runs, against what they wait without one.

BENCH_REPLAYS=500 BENCH_LIVE=20 python -m pytest tests/load/test_replay_under_load.py -m bench -s
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agent.demo.patients import make_study
from agent.demo.sender import send_study
from tests.support.agent_process import AGENT, AgentProcess, wait_until
from tests.support.many_studies import another
from tests.unit.deliver.wayward_archive import WaywardArchive

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]

REPLAYS = int(os.environ.get("BENCH_REPLAYS", "500"))
LIVE = int(os.environ.get("BENCH_LIVE", "20"))
EVERY_SECONDS = float(os.environ.get("BENCH_EVERY_SECONDS", "5"))
QUIET_SECONDS = 1.0
WHEN = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)


@pytest.fixture
def agent(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[AgentProcess]:
    with WaywardArchive() as pacs:
        settings = {"AGENT_RESULTS__DESTINATIONS": json.dumps([pacs.name])}
        process = AgentProcess(tmp_path / "agent", dicom_port=free_port(), web_port=free_port(), settings=settings)
        yield process
        if process.process is not None and process.process.poll() is None:
            process.kill()


def live_latencies(agent: AgentProcess, drawn: tuple[Any, ...], name: str) -> tuple[list[float], list[float]]:
    """Send a study every few seconds; seconds from the last answer of C-STORE to proof, and seconds of scoring."""
    answered: dict[str, float] = {}
    for number in range(LIVE):
        due = time.monotonic() + EVERY_SECONDS
        uid, instances = another(drawn, f"{name}{number}", views=1)
        send_study(instances, host="127.0.0.1", port=agent.dicom_port)
        answered[uid] = time.time()
        time.sleep(max(0.0, due - time.monotonic()))
    latencies, scoring = [], []
    for uid, at in answered.items():
        shown = agent.await_state(uid, seconds=600)
        finished = datetime.fromisoformat(shown["work_items"][0]["finished_at"]).timestamp()
        latencies.append(finished - at - QUIET_SECONDS)
        scoring.append(sum(step["seconds"] for step in shown["times"]["steps"] if step["step"] in ("score", "report")))
    return latencies, scoring


def waiting(agent: AgentProcess) -> list[Any]:
    return agent.get("/api/worklist?state=SCHEDULED&limit=10000") or []


def p95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20, method="inclusive")[-1]


def told(label: str, values: list[float]) -> str:
    return f"{label}: p50 {statistics.median(values):.2f} s, p95 {p95(values):.2f} s, worst {max(values):.2f} s"


def test_live_studies_during_a_bulk_replay(agent: AgentProcess) -> None:
    drawn = make_study(5, seed=7, when=WHEN).instances
    quiet = "AGENT_STUDY__QUIET_SECONDS"
    agent.environment[quiet] = "800"
    agent.start()
    # a backlog that was received but never scored: what is replayed has all its work before it
    for number in range(REPLAYS):
        _, instances = another(drawn, f"B{number}", views=2)
        send_study(instances, host="127.0.0.1", port=agent.dicom_port)
    agent.run("cancel", "--since", "2020-01-01")
    agent.stop()
    agent.environment[quiet] = str(QUIET_SECONDS)
    agent.start()
    idle, scoring = live_latencies(agent, drawn, "I")

    with (agent.home / "replay.log").open("wb") as log:
        replay = subprocess.Popen(
            [*AGENT, "replay", "--since", "2020-01-01", "--wait"], env=agent.environment, stdout=log, stderr=log
        )
    wait_until(lambda: len(waiting(agent)) >= REPLAYS, 300, "replays wait")
    started, before = time.monotonic(), len(waiting(agent))
    during, scoring_during = live_latencies(agent, drawn, "R")
    left, seconds = len(waiting(agent)), time.monotonic() - started
    replay.terminate()
    replay.wait()

    # what else the machine does changes with time: idle again, so that a drift shows
    agent.run("cancel", "--since", "2020-01-01")
    idle_again, scoring_again = live_latencies(agent, drawn, "J")
    one_study = statistics.median([*scoring, *scoring_again])
    grown = p95(during) - p95([*idle, *idle_again])
    print(told(f"\n{LIVE} live studies, idle before", idle))
    print(told(f"{LIVE} live studies, {before} replays waiting, {left} at the end {seconds:.0f} s later", during))
    print(told(f"{LIVE} live studies, idle after", idle_again))
    print(told("scoring and reporting one study, idle", [*scoring, *scoring_again]))
    print(told("scoring and reporting one study, during", scoring_during))
    print(f"p95 grew by {grown:.2f} s, {grown / one_study:.2f} times the median time of scoring a study")
