"""A day of a department of twenty machines, compressed, through a real agent into a real Orthanc.

    DEPARTMENT_COMPRESSION=180 python -m pytest tests/load/test_department.py -m bench -s

Nothing may be lost, nothing reported twice; memory and descriptors are looked at all day, and so is the page.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from agent.store.instance_files import InstanceFiles
from agent.store.layout import Layout
from tests.load.department import Department, Sent
from tests.load.watching import Watch, median_megabytes, most_descriptors, quarters
from tests.peers.orthanc import Orthanc
from tests.support.agent_process import AgentProcess, wait_until

pytestmark = [pytest.mark.bench, pytest.mark.peers, pytest.mark.timeout(7200)]

COMPRESSION = float(os.environ.get("DEPARTMENT_COMPRESSION", "180"))
MACHINES = int(os.environ.get("DEPARTMENT_MACHINES", "20"))
HOURS = float(os.environ.get("DEPARTMENT_HOURS", "24"))
QUIET_SECONDS = 2.0
PAGE_SECONDS = 0.2
"""What was asked of every answer of the page."""
ENDED = ("COMPLETED", "CANCELED")
SR = "1.2.840.10008.5.1.4.1.1.88.34"


@dataclass
class Site:
    agent: AgentProcess
    orthanc: Orthanc


@pytest.fixture
def site(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Site]:
    dicom_port = free_port()
    with Orthanc(tmp_path, {"STEATOSIS": ("127.0.0.1", dicom_port)}, is_verbose=False) as orthanc:
        settings = {
            "AGENT_RESULTS__DESTINATIONS": json.dumps([orthanc.archive]),
            "AGENT_STUDY__QUIET_SECONDS": str(QUIET_SECONDS),
            "AGENT_DICOM__LISTENERS": "2",
            "AGENT_MODEL__BACKEND": "auto",
        }
        agent = AgentProcess(tmp_path / "agent", dicom_port=dicom_port, web_port=free_port(), settings=settings)
        yield Site(agent, orthanc)
        if agent.process is not None and agent.process.poll() is None:
            agent.kill()


def p(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1] if len(values) > 1 else values[0]


def unfinished(agent: AgentProcess) -> bool:
    receiving = agent.get("/api/worklist?state=RECEIVING&limit=10000")
    return (
        receiving is None
        or bool(receiving)
        or any(
            entry["state"] not in ENDED for entry in agent.get("/api/worklist?limit=10000") or [{"state": "unknown"}]
        )
    )


def proof_seconds(sent: Sent, shown: dict[str, Any]) -> float:
    """From the answer to the last image of the exam to the proof of its first report's last object."""
    first = shown["work_items"][-1]
    return datetime.fromisoformat(first["finished_at"]).timestamp() - sent.answered_at


def losses(files: InstanceFiles, sent: Sent, shown: dict[str, Any]) -> Iterator[str]:
    """Say what was acknowledged and is not in the ledger, or not in the store as it was received."""
    instances = {one["sop_instance_uid"]: one["sha256"] for one in shown["instances"]}
    for uid in set(sent.instances) - set(instances):
        yield f"{sent.exam.name}: {uid} was acknowledged and is not in the ledger"
    for uid, digest in instances.items():
        if files.missing(digest) or files.digest_of(digest) != digest:
            yield f"{sent.exam.name}: the file of {uid} is not what was received"


def disorders(sent: Sent, shown: dict[str, Any], archived: Counter[str]) -> Iterator[str]:
    """Say what did not end with proof: a score, or a refusal that says so, one report for each set of instances."""
    name = sent.exam.name
    if shown["state"] not in ENDED or shown["reason"] not in (None, "not-liver", "no-usable-view"):
        yield f"{name}: {shown['state']}, {shown['reason']}"
    if {one["state"] for one in shown["results"]} != {"proved"}:
        yield f"{name}: not every object is proved"
    keys = {item["result_key"] for item in shown["work_items"] if item["reason"] != "superseded"}
    if archived[sent.study_instance_uid] != len(keys):
        yield f"{name}: {archived[sent.study_instance_uid]} reports of {len(keys)} sets of instances"


def tell_times(department: Department, seconds: dict[str, float], by_hour: dict[int, list[float]]) -> None:
    values = list(seconds.values())
    print(f"\nlast image to proof, {len(values)} studies, {QUIET_SECONDS:g} s of quiet time within: "
          f"p50 {p(values, 50):.2f} s, p95 {p(values, 95):.2f} s, worst {max(values):.2f} s")  # fmt: skip
    for hour, some in sorted(by_hour.items()):
        print(f"  hour {(hour + 7) % 24:02d}: {len(some)} studies, p50 {p(some, 50):.2f} s, worst {max(some):.2f} s")
    late = [one.delay for one in department.sent]
    print(
        f"the generator was late by p95 {p(late, 95):.2f} s, at most {max(late):.2f} s; seen: {dict(department.seen)}"
    )


def tell_page(watch: Watch) -> float:
    """Print each address's times; returns the share of answers within what was asked."""
    every = [spent for some in watch.answers.values() for _, spent in some]
    for place, some in watch.answers.items():
        spent = [one for _, one in some]
        print(f"  {place}: {len(spent)} answers, p50 {1000 * p(spent, 50):.0f} ms, p95 {1000 * p(spent, 95):.0f} ms, "
              f"p99 {1000 * p(spent, 99):.0f} ms, worst {1000 * max(spent):.0f} ms")  # fmt: skip
    share = sum(one <= PAGE_SECONDS for one in every) / len(every)
    print(
        f"  {100 * share:.2f} % of {len(every)} within {1000 * PAGE_SECONDS:.0f} ms; {len(watch.unanswered)} unanswered"
    )
    return share


def tell_holdings(watch: Watch) -> list[str]:
    """Print memory and descriptors by quarter of the day; returns the processes that were started anew."""
    divided = quarters(watch.holdings, max(one.at for one in watch.holdings))
    for name, parts in sorted(divided.items()):
        if all(parts):
            memory = " ".join(f"{median_megabytes(part):.1f}" for part in parts)
            descriptors = " ".join(str(most_descriptors(part)) for part in parts)
            print(f"  {name}: MB by quarter {memory}; descriptors {descriptors}")
    pids = {name: {one.pid for part in parts for one in part} for name, parts in divided.items()}
    return [name for name, some in pids.items() if len(some) > 1]


def test_a_day_of_a_department(site: Site) -> None:
    department = Department(
        "127.0.0.1", site.agent.dicom_port, count=MACHINES, compression=COMPRESSION, hours=HOURS, seed=1
    )
    site.agent.start()
    print(f"\n{MACHINES} machines, {department.exams} exams in {HOURS:g} h, {COMPRESSION:g} times as fast")
    watch = Watch(site.agent, lambda: department.sent[0].study_instance_uid if department.sent else None)
    watch.start()
    department.run()
    over = time.time()
    wait_until(lambda: not unfinished(site.agent), 900, f"all ended; see {site.agent.log}", every=0.5)
    drained = time.time() - over
    watch.stop()

    kept, found = InstanceFiles(Layout(site.agent.home / "var"), 0), list(department.faults)
    archived: Counter[str] = Counter()
    proved, seconds, by_hour, ends = set[str](), dict[str, float](), dict[int, list[float]](), Counter[str]()
    objects = [site.orthanc.rest(f"/instances/{one}/simplified-tags") for one in site.orthanc.instance_ids()]
    for tags in objects:
        archived[tags["StudyInstanceUID"]] += tags["SOPClassUID"] == SR
    for sent in department.sent:
        shown = site.agent.get(f"/api/studies/{sent.study_instance_uid}")
        found += [*losses(kept, sent, shown), *disorders(sent, shown, archived)]
        ends[shown["reason"] or shown["state"]] += 1
        proved |= {one["sop_instance_uid"] for one in shown["results"]}
        seconds[sent.study_instance_uid] = proof_seconds(sent, shown)
        hour = int(department.simulated_hour(sent.answered_at))
        by_hour.setdefault(hour, []).append(seconds[sent.study_instance_uid])
    print(f"{len(department.sent)} studies ended as {dict(ends)}; {len(objects)} objects in the archive; "
          f"the last ended {drained:.1f} s after the day")  # fmt: skip
    tell_times(department, seconds, by_hour)
    tell_page(watch)
    restarted = tell_holdings(watch)
    assert found == []
    assert proved <= {tags["SOPInstanceUID"] for tags in objects}, "what is proved is there"
    assert restarted == [], "no process ended"
    assert watch.unanswered == []
    for name, parts in quarters(watch.holdings, max(one.at for one in watch.holdings)).items():
        second, last = parts[1], parts[3]
        assert most_descriptors(last) <= most_descriptors(second) + 5, f"{name}: descriptors grew"
        assert median_megabytes(last) <= 1.1 * median_megabytes(second) + 5, f"{name}: memory grew"
