"""Which engine: the fastest on this machine among those that give back the bundle's golden vectors.

Trying takes seconds, so the answer is remembered beside what it depends on: bundle, packages, CPU, threads, GPU.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from inference.backends.cuda import device_name
from inference.backends.interface import BackendError, Engine, Graphs
from inference.backends.registry import LAST_RESORT, Candidate, candidates, opened, versions
from inference.bundle import Bundle
from inference.verify import verify

_RUNS: Final = 5
_FORMAT: Final = 1
_CPU_INFO: Final = Path("/proc/cpuinfo")


@dataclass(frozen=True, kw_only=True)
class Tried:
    """What came of one candidate."""

    backend: str
    precision: str
    agrees: bool
    milliseconds: float | None
    """Best of a few runs on as many views as the bundle expects; None where it was not timed."""
    remark: str
    """How near to the tolerance it comes, or why it cannot run."""

    @property
    def words(self) -> str:
        """Say it in one line."""
        took = "" if self.milliseconds is None else f" {self.milliseconds:.1f} ms;"
        return f"{self.backend} {self.precision}:{took} {self.remark}"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The engine that was chosen, and why."""

    engine: Engine
    tried: tuple[Tried, ...]
    remembered: bool
    agrees: bool
    """Whether it gives back the golden vectors; where none does, the exact one is taken and this says so."""


@dataclass(frozen=True)
class _Opened:
    bundle: Bundle
    engine: Engine


def choose(bundle: Bundle, graphs: Graphs, name: str) -> Choice:
    """Open the fastest engine of that name, or of all for "auto", that agrees with the golden vectors.

    What was chosen before is opened at once, if it still agrees.

    Raises
    ------
    BackendError
        The name is unknown, or not even the last resort can run the graphs.
    BundleError
        The golden vectors are not whole.
    """
    among = candidates(name)
    memory = None if graphs.engines is None else graphs.engines / f"choice-{_key(graphs, name)}.json"
    known = remembered(memory)
    for candidate in among:
        if known and (candidate.backend, candidate.precision) == (known[0].backend, known[0].precision):
            engine, tried = _tried(candidate, bundle, graphs)
            if engine is not None and tried.agrees:
                return Choice(engine=engine, tried=known, remembered=True, agrees=True)
    return _chosen(bundle, graphs, among, memory)


def _chosen(bundle: Bundle, graphs: Graphs, among: Sequence[Candidate], memory: Path | None) -> Choice:
    best: tuple[Engine, Tried] | None = None
    every: list[Tried] = []
    for candidate in among:
        engine, tried = _tried(candidate, bundle, graphs)
        if engine is not None and tried.agrees:
            tried = _timed(engine, tried, bundle)
            if best is None or (tried.milliseconds or 0.0) < (best[1].milliseconds or 0.0):
                best = engine, tried
        every.append(tried)
        graphs.progress(tried.words)
    if best is None:
        return Choice(engine=_last_resort(graphs, every), tried=tuple(every), remembered=False, agrees=False)
    ordered = (best[1], *(one for one in every if one is not best[1]))
    _remember(memory, ordered)
    return Choice(engine=best[0], tried=ordered, remembered=False, agrees=True)


def _tried(candidate: Candidate, bundle: Bundle, graphs: Graphs) -> tuple[Engine | None, Tried]:
    """Open a candidate and hold it against the golden vectors."""

    def told(remark: str, *, agrees: bool) -> Tried:
        backend, precision = candidate.backend, candidate.precision
        return Tried(backend=backend, precision=precision, agrees=agrees, milliseconds=None, remark=remark)

    try:
        engine = opened(candidate, graphs)
        found = verify(_Opened(bundle, engine))
    except BackendError as error:
        return None, told(str(error), agrees=False)
    return engine, told(found.worst, agrees=found.ok)


def _timed(engine: Engine, tried: Tried, bundle: Bundle) -> Tried:
    geometry = bundle.geometry
    shape = (bundle.expected_views, geometry.channels, geometry.height, geometry.width)
    views = np.random.default_rng(0).random(shape, np.float32)
    took = min(_seconds(engine, views) for _ in range(_RUNS))
    return Tried(**{**asdict(tried), "milliseconds": round(took * 1e3, 2)})


def _seconds(engine: Engine, views: Any) -> float:
    started = time.perf_counter()
    engine.run(views)
    return time.perf_counter() - started


def _last_resort(graphs: Graphs, tried: Sequence[Tried]) -> Engine:
    """Open the exact engine, though it does not agree either: `agent doctor` must be able to say by how much."""
    try:
        return opened(candidates(LAST_RESORT)[-1], graphs)
    except BackendError as error:
        raise BackendError("; ".join(dict.fromkeys((*(one.words for one in tried), str(error))))) from error


def _key(graphs: Graphs, name: str) -> str:
    parts = [_FORMAT, name, graphs.digest, versions(), sorted(_cpu()), graphs.cores, device_name()]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _cpu() -> Iterator[str]:
    """Model and features of the CPU, as far as the system tells."""
    yield platform.machine()
    if _CPU_INFO.exists():
        first = _CPU_INFO.read_text().split("\n\n", 1)[0].splitlines()
        yield from (line for line in first if line.startswith(("model name", "flags", "Features")))


def remembered(memory: Path | None) -> tuple[Tried, ...]:
    """Read an earlier answer, the chosen one first; empty where there is none that can be read."""
    if memory is None:
        return ()
    try:
        return tuple(Tried(**values) for values in json.loads(memory.read_bytes()))
    except (OSError, ValueError, TypeError):
        return ()


def _remember(memory: Path | None, tried: Sequence[Tried]) -> None:
    """Write the answer; where the folder cannot be written it is asked again next time."""
    if memory is None:
        return
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        partial = memory.with_suffix(f".{os.getpid()}.part")
        partial.write_text(json.dumps([asdict(one) for one in tried], indent=1) + "\n")
        partial.replace(memory)
    except OSError:
        return
