"""`agent demo`: an agent and an archive in a temporary folder, a dozen synthetic patients, and a table at the end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from agent.demo.archive import AE_TITLE, DemoArchive
from agent.demo.outputs import write_outputs
from agent.demo.patients import SyntheticStudy, make_study
from agent.demo.sender import send_study
from agent.domain.errors import AgentError
from inference.contract import GRADES

SEED: Final = 20
_START_SECONDS: Final = 60.0
_FINISH_SECONDS: Final = 120.0
_POLL_SECONDS: Final = 0.1
_FINAL: Final = ("COMPLETED", "CANCELED")


class DemoError(AgentError):
    """The demonstration did not come to its end."""


@dataclass(frozen=True, kw_only=True)
class Ports:
    """Free ports on loopback."""

    dicom: int
    archive: int
    web: int


def run_demo(*, folder: Path | None, patients: int, as_json: bool) -> int:
    """Run the demonstration; returns the exit status.

    Parameters
    ----------
    folder
        Where data, log and pictures go; None: a temporary folder, which stays.
    patients
        How many.
    as_json
        Print the table's rows as JSON instead.

    Raises
    ------
    DemoError
        The agent did not start, or a study was not finished in time; names the log.
    """
    console = Console(stderr=True)
    home = (folder or Path(tempfile.mkdtemp(prefix="steatosis-demo-"))).resolve()
    home.mkdir(parents=True, exist_ok=True)
    ports = Ports(dicom=_free_port(), archive=_free_port(), web=_free_port())
    console.print("[bold]Steatosis agent: demonstration with synthetic patients.[/] For research use only.")
    archive = DemoArchive(home / "archive", ports.archive)
    archive.start()
    try:
        with _agent(home, ports) as agent, _progress(console) as progress:
            rows = _run(progress, agent, archive, home, ports, patients)
    finally:
        archive.stop()
    _tell(rows, home, as_json)
    return 0 if all(row["state"] == "COMPLETED" for row in rows) else 1


def _run(
    progress: Progress, agent: subprocess.Popen[bytes], archive: DemoArchive, home: Path, ports: Ports, patients: int
) -> list[dict[str, Any]]:
    when = datetime.now().astimezone()
    made = progress.add_task("drawing phantoms", total=patients)
    studies = []
    for number in range(1, patients + 1):
        studies.append(make_study(number, seed=SEED, when=when))
        progress.advance(made)
    _await_ready(progress, agent, home, ports)
    sent = progress.add_task("pushing studies", total=patients)
    pushed: dict[str, float] = {}
    for study in studies:
        send_study(study.instances, host="127.0.0.1", port=ports.dicom)
        pushed[study.study_instance_uid] = time.time()
        progress.advance(sent)
    finished = progress.add_task("scored, reported, proved", total=patients)
    rows = []
    for study, shown in _finished(studies, ports, home):
        rows.append(_row(study, shown, archive, home, pushed[study.study_instance_uid]))
        progress.advance(finished)
    return sorted(rows, key=lambda row: str(row["patient"]))


def _await_ready(progress: Progress, agent: subprocess.Popen[bytes], home: Path, ports: Ports) -> None:
    waiting = progress.add_task("starting the agent", total=None)
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if agent.poll() is not None:
            raise DemoError(f"the agent ended with exit code {agent.returncode}", remedy=f"see {home / 'serve.log'}")
        if _get(ports, "/readyz") is not None:
            progress.update(waiting, total=1, completed=1)
            return
        time.sleep(_POLL_SECONDS)
    raise DemoError(f"the agent was not ready within {_START_SECONDS:g} s", remedy=f"see {home / 'serve.log'}")


def _finished(
    studies: list[SyntheticStudy], ports: Ports, home: Path
) -> Iterator[tuple[SyntheticStudy, dict[str, Any]]]:
    """Yield each study when its newest work item has ended."""
    waiting = {study.study_instance_uid: study for study in studies}
    deadline = time.monotonic() + _FINISH_SECONDS
    while waiting:
        if time.monotonic() > deadline:
            raise DemoError(f"{len(waiting)} studies were not finished in time", remedy=f"see {home / 'serve.log'}")
        listed = _get(ports, "/api/worklist") or []
        entries = listed if isinstance(listed, list) else listed["work_items"]
        for entry in entries:
            study = waiting.get(entry["study_instance_uid"])
            if study is not None and entry["state"] in _FINAL:
                del waiting[study.study_instance_uid]
                yield study, _get(ports, f"/api/studies/{study.study_instance_uid}") or {}
        time.sleep(_POLL_SECONDS)


def _row(
    study: SyntheticStudy, shown: Mapping[str, Any], archive: DemoArchive, home: Path, pushed: float
) -> dict[str, Any]:
    score = shown.get("score") or {}
    objects = archive.of_study(study.study_instance_uid)
    write_outputs(objects, home / "results", study.label)
    ended = [step["ended"] for step in shown["times"]["steps"] if step["ended"]]
    seconds = datetime.fromisoformat(max(ended)).timestamp() - pushed if ended else None
    low, high = score.get("fat_fraction_interval") or (None, None)
    return {
        "patient": study.label,
        "true_grade": GRADES[study.patient.grade],
        "true_fat_fraction_percent": study.patient.fat_fraction_percent,
        "state": shown["state"],
        "reason": shown["reason"],
        "grade": score.get("grade"),
        "fat_fraction_percent": score.get("fat_fraction_percent"),
        "fat_fraction_interval": [low, high],
        "seconds": seconds and round(seconds, 1),
        "objects_in_archive": len(objects),
    }


def _tell(rows: list[dict[str, Any]], home: Path, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps({"patients": rows, "folder": str(home)}, indent=2) + "\n")
        return
    console = Console()
    table = Table(title="Synthetic patients; for research use only")
    for heading in ("patient", "truth", "grade", "fat", "90 % interval", "seconds", "archived"):
        table.add_column(heading, justify="left" if heading == "patient" else "right", no_wrap=True)
    for row in rows:
        table.add_row(*_cells(row))
    console.print(table)
    right = sum(row["grade"] == row["true_grade"] for row in rows)
    inside = sum(_covered(row) for row in rows)
    console.print(f"Grade as true in {right} of {len(rows)}, true fat fraction inside the interval in {inside}.")
    console.print("Seconds are from the last image sent to every result proved in the archive. Quiet time is 1 s.")
    console.print(f"Pictures and reports: {home / 'results'}", soft_wrap=True)


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    low, high = row["fat_fraction_interval"]
    estimate = f"{row['fat_fraction_percent']:.1f} %" if row["grade"] else "-"
    interval = f"{low:.1f} to {high:.1f} %" if row["grade"] else row["reason"] or "-"
    seconds = "-" if row["seconds"] is None else f"{row['seconds']:.1f}"
    truth = f"{row['true_grade']}, {row['true_fat_fraction_percent']:.1f} %"
    grade, archived = row["grade"] or row["state"], str(row["objects_in_archive"])
    return (row["patient"], truth, grade, estimate, interval, seconds, archived)


def _covered(row: dict[str, Any]) -> bool:
    low, high = row["fat_fraction_interval"]
    return low is not None and low <= row["true_fat_fraction_percent"] <= high


@contextmanager
def _agent(home: Path, ports: Ports) -> Iterator[subprocess.Popen[bytes]]:
    """Run `agent serve` with nothing of the caller's configuration: the demonstration never reaches a real archive."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AGENT_")}
    environment |= {
        "AGENT_STORAGE__DATA_DIR": str(home / "data"),
        "AGENT_STORAGE__MIN_FREE_GB": "0.1",
        "AGENT_DICOM__PORT": str(ports.dicom),
        "AGENT_DICOM__LISTENERS": "1",
        "AGENT_WEB__PORT": str(ports.web),
        "AGENT_STUDY__QUIET_SECONDS": "1",
        "AGENT_RESULTS__DESTINATIONS": json.dumps([f"{AE_TITLE}@127.0.0.1:{ports.archive}"]),
        "AGENT_LOG__FORMAT": "json",
    }
    with (home / "serve.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "agent", "serve"],
            env=environment,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
        )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description:<26}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console)


def _get(ports: Ports, path: str) -> Any:
    """Ask the agent's page on loopback; None while it does not answer well."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{ports.web}{path}", timeout=5) as answer:
            return json.load(answer)
    except (urllib.error.URLError, OSError, json.JSONDecodeError):
        return None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
