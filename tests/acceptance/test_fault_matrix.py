"""The fault matrix: one machine's worth of a department after another is killed, stopped, cut off or restarted.

Listener, workers and page are processes of their own, each with its own wires to PostgreSQL, to Valkey (password and
TLS) and to the archive, as if each ran on its own host. A modality sends all the while. After each fault every study
that was acknowledged must be kept, scored and proved, and reported once. What was observed is printed (`-s`), and
stands in `docs/faults.md`. `FAULT_MATRIX=full` runs all of it, else the seven faults that say most.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import shutil
import ssl
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis

from agent.demo.patients import make_study
from tests.acceptance.conftest import WHEN
from tests.peers.orthanc import Orthanc
from tests.peers.postgresql import Postgresql
from tests.peers.valkey import Valkey
from tests.support.agent_process import AgentProcess, wait_until
from tests.support.modality import Modality
from tests.support.wire import Wire

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.peers,
    # pynetdicom leaves the socket of a connection that was refused or cut to the garbage collector
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]

ROLES = ("listener", "worker", "web")
FAULT_SECONDS = 8.0
PAUSE_SECONDS = 18.0
"""Longer than a lease (15 s): what a host that stood still was doing has been done by another."""
SR = "1.2.840.10008.5.1.4.1.1.88.34"


@dataclass
class System:
    """Every process by its role, what they lean on, and the wires between."""

    roles: dict[str, AgentProcess]
    postgresql: Postgresql
    valkey: Valkey
    orthanc: Orthanc
    wires: dict[str, Wire]
    """`listener-ledger`, `worker-broker`, `worker-archive`, `modality-listener` and so on."""

    @property
    def page(self) -> AgentProcess:
        return self.roles["web"]

    def children(self, role: str) -> list[psutil.Process]:
        process = self.roles[role].process
        assert process is not None
        supervisor = psutil.Process(process.pid)
        return [supervisor, *supervisor.children(recursive=True)]


def certificate(folder: Path) -> tuple[Path, Path]:
    """Make a certificate of 127.0.0.1; returns it and its key."""
    if (openssl := shutil.which("openssl")) is None:
        pytest.skip("openssl is not installed")
    made, key = folder / "broker.pem", folder / "broker.key"
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=valkey"]
    name = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(made)]
    subprocess.run([openssl, "req", "-x509", *kind, *name], check=True, capture_output=True)
    return made, key


@pytest.fixture(scope="module")
def system(
    tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int], peer_tool: Callable[[str], Path]
) -> Iterator[System]:
    peer_tool("Orthanc")
    folder = tmp_path_factory.mktemp("faults")
    authority, key = certificate(folder)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(authority, key)
    dicom_port, web_port, postgresql_port, valkey_port = (free_port() for _ in range(4))
    with ExitStack() as stack:
        orthanc = stack.enter_context(Orthanc(folder, {"STEATOSIS": ("127.0.0.1", dicom_port)}, is_verbose=False))
        postgresql = stack.enter_context(Postgresql(postgresql_port))
        valkey = stack.enter_context(Valkey(folder / "valkey", valkey_port))
        wires: dict[str, Wire] = {}

        def wire(name: str, to: int, context: ssl.SSLContext | None = None) -> int:
            wires[name] = stack.enter_context(Wire(free_port(), to, tls=context))
            return wires[name].port

        wire("modality-listener", dicom_port)
        roles = {}
        for role in ROLES:
            ledger, broker = wire(f"{role}-ledger", postgresql_port), wire(f"{role}-broker", valkey_port, tls)
            archive = wire("worker-archive", orthanc.dicom_port) if role == "worker" else orthanc.dicom_port
            secured = valkey.url.replace("redis://", "rediss://").replace(str(valkey_port), str(broker))
            settings = {
                "AGENT_RESULTS__DESTINATIONS": json.dumps([f"ORTHANC@127.0.0.1:{archive}"]),
                "AGENT_DATABASE__URL": postgresql.url.replace(str(postgresql_port), str(ledger)),
                "AGENT_BROKER__URL": f"{secured}?ssl_cert_reqs=required&ssl_ca_certs={authority}",
                "AGENT_STUDY__QUIET_SECONDS": "1",
            }
            roles[role] = AgentProcess(
                folder / "shared", dicom_port=dicom_port, web_port=web_port, settings=settings, role=role
            )
        for process in roles.values():
            process.start(ready=False)
        try:
            wait_until(roles["web"].is_ready, 120, f"ready; see {roles['web'].home}")
            yield System(roles, postgresql, valkey, orthanc, wires)
        finally:
            for process in roles.values():
                if process.process is not None and process.process.poll() is None:
                    process.kill()
    gc.collect()


Fault = Callable[[System], None]


def killed(role: str) -> Fault:
    """The host loses its power, and comes back."""

    def fault(system: System) -> None:
        system.roles[role].kill()
        time.sleep(2.0)
        system.roles[role].start(ready=False)

    return fault


def child_killed(role: str, name: str) -> Fault:
    """One process ends; its supervisor starts another."""

    def fault(system: System) -> None:
        for child in system.children(role):
            with contextlib.suppress(psutil.Error):  # it ended by itself
                if name in child.cmdline():
                    child.kill()

    return fault


def paused(role: str) -> Fault:
    """The host stands still, as a virtual machine that is moved, for longer than its leases last."""

    def fault(system: System) -> None:
        stopped = system.children(role)
        for process in stopped:
            process.suspend()
        time.sleep(PAUSE_SECONDS)
        for process in stopped:
            process.resume()

    return fault


def swallowed(*names: str) -> Fault:
    """Packets are dropped for a while; connections go on afterwards."""

    def fault(system: System) -> None:
        for name in names:
            system.wires[name].swallow()
        time.sleep(FAULT_SECONDS)
        for name in names:
            system.wires[name].mend()

    return fault


def cut(*names: str) -> Fault:
    """Connections break, and none can be made for a while."""

    def fault(system: System) -> None:
        for name in names:
            system.wires[name].cut()
        time.sleep(FAULT_SECONDS)
        for name in names:
            system.wires[name].mend()

    return fault


def postgresql_restarted(mode: str) -> Fault:
    def fault(system: System) -> None:
        system.postgresql.stop(mode)
        time.sleep(3.0)
        system.postgresql.start()

    return fault


def valkey_restarted(system: System) -> None:
    system.valkey.kill()
    time.sleep(3.0)
    system.valkey.start()


def valkey_flushed(system: System) -> None:
    with redis.Redis.from_url(system.valkey.url) as client:
        for _ in range(8):
            client.flushall()
            time.sleep(0.5)


def archive_restarted(system: System) -> None:
    system.orthanc.stop()
    time.sleep(5.0)
    system.orthanc.start()


FAULTS: dict[str, Fault] = {
    "listener host killed": killed("listener"),
    "worker host killed": killed("worker"),
    "page host killed": killed("web"),
    "one listener process killed": child_killed("listener", "listener-1"),
    "score process killed": child_killed("worker", "score"),
    "deliver process killed": child_killed("worker", "deliver"),
    "worker host stands still": paused("worker"),
    "listener host stands still": paused("listener"),
    "listener to ledger: packets dropped": swallowed("listener-ledger"),
    "listener to ledger: cut": cut("listener-ledger"),
    "worker to ledger: packets dropped": swallowed("worker-ledger"),
    "worker to ledger: cut": cut("worker-ledger"),
    "worker to broker: packets dropped": swallowed("worker-broker"),
    "worker to broker: cut": cut("worker-broker"),
    "worker to archive: packets dropped": swallowed("worker-archive"),
    "worker to archive: cut": cut("worker-archive"),
    "modality to listener: packets dropped": swallowed("modality-listener"),
    "modality to listener: cut": cut("modality-listener"),
    "page to ledger and broker: cut": cut("web-ledger", "web-broker"),
    "worker host: every network cut": cut("worker-ledger", "worker-broker", "worker-archive"),
    "PostgreSQL restarted in order": postgresql_restarted("fast"),
    "PostgreSQL crashed": postgresql_restarted("immediate"),
    "Valkey killed": valkey_restarted,
    "Valkey flushed again and again": valkey_flushed,
    "archive restarted": archive_restarted,
}

ALWAYS = (
    "listener host killed",
    "worker host killed",
    "listener to ledger: packets dropped",
    "worker to broker: cut",
    "worker to archive: packets dropped",
    "PostgreSQL crashed",
    "Valkey killed",
)
CHOSEN = tuple(FAULTS) if os.environ.get("FAULT_MATRIX") == "full" else ALWAYS


def reports_in(orthanc: Orthanc) -> Counter[str]:
    """Reports of each study in the archive."""
    tags = (orthanc.rest(f"/instances/{one}/simplified-tags") for one in orthanc.instance_ids())
    return Counter(one["StudyInstanceUID"] for one in tags if one["SOPClassUID"] == SR)


def ends_of(page: AgentProcess, studies: list[str]) -> dict[str, dict[str, Any]] | None:
    """What the page says of each study, once every one is proved."""
    shown = {uid: page.get(f"/api/studies/{uid}") or {} for uid in studies}
    return shown if all(one.get("state") == "COMPLETED" for one in shown.values()) else None


def restarts(system: System) -> int:
    """How many processes ended, as their supervisors say."""
    return sum(process.log.read_text().count('"event": "child ended') for process in system.roles.values())


@pytest.mark.parametrize("name", CHOSEN)
def test_nothing_is_lost_and_nothing_comes_twice(system: System, name: str) -> None:
    drawn = make_study(5, seed=7, when=WHEN).instances
    with Modality(system.wires["modality-listener"].port, f"{name} {time.time():.0f}", drawn) as modality:
        time.sleep(2.5)
        began, ended_before = time.time(), restarts(system)
        FAULTS[name](system)
        over = time.time()
        time.sleep(2.5)
    sent = modality.acknowledged
    if "to ledger" in name or "to archive" in name or "PostgreSQL" in name:
        assert restarts(system) == ended_before, "no process ends because something that it leans on is away"
    shown = wait_until(lambda: ends_of(system.page, list(sent)), 180, f"all proved; see {system.page.home}", every=0.5)
    counted = reports_in(system.orthanc)
    assert {uid: counted[uid] for uid in sent} == dict.fromkeys(sent, 1), "one report a study"
    for one in shown.values():
        for instance in one["instances"]:
            digest = instance["sha256"]
            assert (system.page.home / f"var/instances/{digest[:2]}/{digest}.dcm").stat().st_size > 0
    print(f"\n{observed(name, modality, shown, began, over)}")


def observed(name: str, modality: Modality, shown: dict[str, dict[str, Any]], began: float, over: float) -> str:
    """Write the row of the table: fault, how long, studies sent, what the modality saw, how late the latest proof came
    after its image and after the fault, and how many work items there were beside one a study."""
    ended = [one["work_items"][0]["finished_at"] for one in shown.values()]
    finished = dict(zip(shown, (datetime.fromisoformat(one).timestamp() for one in ended), strict=True))
    latest = max(finished[uid] - at for uid, at in modality.acknowledged.items())
    after = max(0.0, max(finished.values()) - over)
    saw = ", ".join(f"{count} × {key}" for key, count in modality.seen.items() if key != "status 0000") or "nothing"
    more = sum(len(one["work_items"]) for one in shown.values()) - len(shown)
    return f"| {name} | {over - began:.0f} s | {len(shown)} | {saw} | {latest:.1f} s | {after:.1f} s | {more} |"
