"""The way of a study from claim to proof, read from the ledger, and who used the processor for it."""

from __future__ import annotations

import functools
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import psutil
import sqlalchemy as sa
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import JPEGBaseline8Bit

from agent.demo.sender import send_study
from agent.domain.study import Instance
from agent.worklist import tables as t
from agent.worklist.ledger import Ledger
from inference.predictor import Predictor
from tests.support.ultrasound import image, jpeg, phantom, saved

STAGES: Final = (
    "score",
    "to the report step",
    "report",
    "to the deliver step",
    "deliver: check files, associate, send the report",
    "deliver: send the pictures",
    "deliver: prove",
)
"""From the first claim to the last proof, one after the other without a gap."""
WHOLE: Final = "claimed to proved"


def jpeg_instance(number: int, frames: int, folder: Path) -> tuple[Instance, Path]:
    """Write a JPEG image or cine of phantoms."""
    pixels = [phantom(seed=number + 10 * other).pixels for other in range(min(frames, 4))]
    ds = image(number, pixels[0])
    if frames > 1:
        ds.NumberOfFrames = frames
    ds.PixelData = jpeg([pixels[frame % len(pixels)] for frame in range(frames)])
    ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
    return saved(ds, folder, JPEGBaseline8Bit)


class Studies:
    """Studies of three JPEG views of phantoms, the same pictures under other identities."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._files = [jpeg_instance(view, 1, folder)[1] for view in range(1, 4)]

    def of(self, number: int) -> tuple[str, list[Dataset]]:
        """Give a study's UID and its instances."""
        uid = f"2.25.7{number}"
        sets: list[Dataset] = []
        for view, path in enumerate(self._files, 1):
            ds = dcmread(path)
            ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID = uid, f"{uid}.1", f"{uid}.1.{view}"
            ds.PatientID = f"P{number}"
            ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
            sets.append(ds)
        return uid, sets

    def send(self, numbers: range, port: int) -> list[str]:
        """Send them over one association; returns their UIDs."""
        studies = [self.of(number) for number in numbers]
        send_study([ds for _, sets in studies for ds in sets], host="127.0.0.1", port=port)
        return [uid for uid, _ in studies]


def timelines(ledger: Ledger, since: float = 0.0) -> list[dict[str, float]]:
    """Seconds of each stage of every finished work item that was first claimed after a moment, and its two ends."""
    w, s, o = t.work_items.c, t.steps.c, t.outbox.c
    found = []
    with ledger.read() as connection:
        for item in connection.execute(sa.select(w.id).where(w.finished_at.is_not(None)).order_by(w.id)).scalars():
            steps = connection.execute(sa.select(t.steps).where(s.work_item_id == item).order_by(s.started_at)).all()
            sent = connection.execute(sa.select(o.sent_at, o.proved_at).where(o.work_item_id == item).order_by(o.id))
            rows = sent.all()
            if [step.step for step in steps] != ["score", "report", "deliver"] or steps[0].started_at < since:
                continue  # a step was repeated, or the work item is of before
            score, report, deliver = steps
            proved = max(row.proved_at for row in rows)
            marks = (
                score.started_at, score.ended_at, report.started_at, report.ended_at, deliver.started_at,
                rows[0].sent_at, max(row.sent_at for row in rows), proved,
            )  # fmt: skip
            spent = [after - before for before, after in itertools.pairwise(marks)]
            found.append(
                {**dict(zip(STAGES, spent, strict=True)), WHOLE: proved - marks[0], "from": marks[0], "to": proved}
            )
    return found


@dataclass(frozen=True)
class Percentiles:
    """Of one stage, in milliseconds."""

    p50: float
    p95: float

    @classmethod
    def of(cls, seconds: list[float]) -> Percentiles:
        p50, p95 = np.percentile([1e3 * one for one in seconds], (50, 95))
        return cls(float(p50), float(p95))


def percentiles(lines: list[dict[str, float]], names: tuple[str, ...] = (*STAGES, WHOLE)) -> dict[str, Percentiles]:
    """Median and 95th percentile of each stage."""
    return {name: Percentiles.of([line[name] for line in lines]) for name in names}


def engine_seconds(bundle: Path, engines: Path, runs: int = 30) -> tuple[float, str]:
    """Median time of three views on the engine that `auto` chooses, and which that is."""
    predictor = Predictor.open(bundle, "auto", engines=engines)
    g = predictor.bundle.geometry
    views = np.random.default_rng(0).random((3, g.channels, g.height, g.width), np.float32)
    predictor.warm_up()
    spent = []
    for _ in range(runs):
        started = time.perf_counter()
        predictor.predict(views)
        spent.append(time.perf_counter() - started)
    return float(np.median(spent)), f"{predictor.identity.backend} {predictor.identity.precision}"


class Processes:
    """Processor time and memory of process trees, by what each process is there for."""

    def __init__(self, **roots: int) -> None:
        self._roots = {name: psutil.Process(pid) for name, pid in roots.items()}

    def cpu_seconds(self) -> dict[str, float]:
        """Seconds used so far by those that live."""
        return self._summed(lambda one: sum(one.cpu_times()[:2]))

    def megabytes(self) -> dict[str, float]:
        """Proportional set sizes: what is shared counts once."""
        return self._summed(lambda one: one.memory_full_info().pss / 2**20)

    def _summed(self, of: Callable[[psutil.Process], float]) -> dict[str, float]:
        found: dict[str, float] = {}
        for root, process in self._roots.items():
            for one in (process, *process.children(recursive=True)):
                try:
                    name = _purpose(root, one)
                    found[name] = found.get(name, 0.0) + of(one)
                except psutil.NoSuchProcess:
                    continue
        return found


def _purpose(root: str, process: psutil.Process) -> str:
    words = process.cmdline()
    if "agent.serve.children" in words:
        return words[words.index("agent.serve.children") + 1].split("-")[0]
    return root if "valkey" not in process.name() else "broker"


@dataclass
class Usage:
    """What was used while something went on."""

    wall: float = 0.0
    cpu: dict[str, float] | None = None
    busy: float = 0.0
    """Share of the machine's time that was not idle, percent, whoever used it."""
    stolen: float = 0.0
    """Share of the machine's time that its host gave to others, percent; it counts as busy."""
    peak_megabytes: dict[str, float] | None = None


@contextmanager
def measured(processes: Processes) -> Iterator[Usage]:
    """Take the time, the processor time and the memory of what goes on inside."""
    usage, over = Usage(), threading.Event()
    peaks: dict[str, float] = {}

    def watch() -> None:
        while not over.wait(2.0):
            for name, size in processes.megabytes().items():
                peaks[name] = max(peaks.get(name, 0.0), size)

    watcher = threading.Thread(target=watch)
    before, (idle, stolen), started = processes.cpu_seconds(), _elsewhere(), time.monotonic()
    watcher.start()
    try:
        yield usage
    finally:
        usage.wall = time.monotonic() - started
        after = processes.cpu_seconds()
        share = 100 / (usage.wall * (psutil.cpu_count() or 1))
        now_idle, now_stolen = _elsewhere()
        usage.busy, usage.stolen = 100 - share * (now_idle - idle), share * (now_stolen - stolen)
        usage.cpu = {name: seconds - before.get(name, 0.0) for name, seconds in after.items()}
        over.set()
        watcher.join()
        usage.peak_megabytes = peaks


def _elsewhere() -> tuple[float, float]:
    """Seconds of all cores that were idle, and that the host took away."""
    times = psutil.cpu_times()
    return float(times.idle + times.iowait), float(getattr(times, "steal", 0.0))


@functools.cache
def machine() -> str:
    """Say what this was measured on."""
    model = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "")
    return f"{psutil.cpu_count()} cores, {model.partition(':')[2].strip() or 'unknown CPU'}"
