"""How long the arithmetic of a study takes on every engine here, and what comes before it.

`make bench-scoring` first exports two bundles of five EfficientNet-B3 members and times torch on them, in the same run:
members with one frozen front, as `training/experiments/reference-b3.toml` makes them, and members that share nothing.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from agent.score.candidates import look_at
from agent.score.score_study import ScoreLimits, score_study
from inference.backends.interface import BackendError, Graphs
from inference.backends.registry import CANDIDATES, opened
from inference.bundle import Bundle
from inference.contract import OUTPUT_SALIENCY, OUTPUTS
from inference.ensemble import combine
from inference.predictor import Predictor
from inference.verify import verify
from tests.load import way_page
from tests.load.way import jpeg_instance

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1800)]
ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "inference" / "bundles" / "reference"
B3 = ROOT / "build" / "bench", ROOT / "build" / "bench-separate"
RUNS = int(os.environ.get("BENCH_RUNS", "9"))


class Opened:
    """A bundle on an engine, for `verify`."""

    def __init__(self, bundle: Bundle, engine: Any) -> None:
        self.bundle, self.engine = bundle, engine


@dataclass(frozen=True)
class Took:
    """Milliseconds: median and best by the clock, median of the CPU time of all threads."""

    median: float
    best: float
    cpu: float

    def __str__(self) -> str:
        return f"median {self.median:.1f} ms, best {self.best:.1f} ms, CPU {self.cpu:.1f} ms"


def took(run: Callable[[], object], runs: int = RUNS) -> Took:
    """Time a few runs after one that is not counted.

    CPU time of all threads over the number of threads is what a machine would take that does nothing else.
    """
    run()
    wall, cpu = [], []
    for _ in range(runs):
        started, used = time.perf_counter(), time.process_time()
        run()
        wall.append(1e3 * (time.perf_counter() - started))
        cpu.append(1e3 * (time.process_time() - used))
    return Took(statistics.median(wall), min(wall), statistics.median(cpu))


def folders() -> Iterator[Path]:
    yield SHIPPED
    yield from (folder for folder in B3 if (folder / "bundle.json").exists())


@pytest.mark.parametrize("folder", [*folders()], ids=lambda folder: folder.name)
def test_engines(folder: Path) -> None:
    """One study of three views on every engine, as one graph and member by member."""
    bundle = Bundle.load(folder)
    g = bundle.geometry
    views = np.random.default_rng(0).standard_normal((3, g.channels, g.height, g.width), np.float32)
    joint = Graphs(members=bundle.members, digest=bundle.digest, shape=(g.channels, g.height, g.width))
    print(f"\n{bundle.name}, {len(bundle.members)} members, 3 views at {g.height}², {joint.cores} threads")
    shown: dict[str, float] = {}
    if (folder / "torch.json").exists():
        told = json.loads((folder / "torch.json").read_text())
        shown = {f"torch {name}": one["wall_ms"] for name, one in told.pop("study").items()}
        print("\n".join(f"{name}: {value:.0f} ms" for name, value in shown.items()), told)
    for candidate in CANDIDATES:
        try:
            engine = opened(candidate, joint)
        except BackendError as error:
            print(f"{candidate.words}: {error}")
            continue
        found = verify(Opened(bundle, engine))
        verdict = "agrees" if found.ok else "refused"
        cost = took(lambda engine=engine: engine.run(views))
        shown[f"{candidate.words} ({verdict})"] = cost.median
        print(f"{candidate.words}: {cost}; {verdict}: {found.worst}")
        del engine
        apart = [opened(candidate, Graphs(members=(member,))) for member in bundle.members]
        one_by_one = took(lambda apart=apart: [one.run(views) for one in apart])
        print(f"{candidate.words}, member by member: {one_by_one}")
        del apart
    calibration, outputs = bundle.calibration, opened(CANDIDATES[-1], joint).run(views)
    print(f"calibration and aggregation: {took(lambda: combine(outputs, calibration))}")
    way_page.bars(shown, "ms", f"benchmarks-engines-{bundle.name}.svg")
    print(f"resident: {psutil.Process().memory_info().rss >> 20} MiB")


@pytest.mark.parametrize("folder", [*folders()], ids=lambda folder: folder.name)
def test_what_maps_cost(folder: Path) -> None:
    """The same graph on OpenVINO in fp32 with and without its maps, turn about."""
    import openvino as ov

    bundle = Bundle.load(folder)
    g = bundle.geometry
    views = np.random.default_rng(0).standard_normal((3, g.channels, g.height, g.width), np.float32)
    joint = Graphs(members=bundle.members, digest=bundle.digest, shape=(g.channels, g.height, g.width))
    core, requests = ov.Core(), {}
    options = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": joint.cores}
    for has_maps in (True, False):
        model = core.read_model(joint.joint)
        if not has_maps:
            for result in [one for one in model.get_results() if OUTPUT_SALIENCY in one.output(0).get_names()]:
                model.remove_result(result)
            assert len(model.get_results()) == len(OUTPUTS) - 1
        requests[has_maps] = core.compile_model(model, "CPU", options).create_infer_request()
    spent: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(RUNS):
        for has_maps, request in requests.items():
            spent[has_maps].append(took(lambda request=request: request.infer([views], share_inputs=True), 1).best)
    with_maps, without = (statistics.median(spent[has_maps]) for has_maps in (True, False))
    print(f"\n{bundle.name}: with maps {with_maps:.1f} ms, without {without:.1f} ms: {with_maps / without - 1:+.1%}")


def test_stages_before_the_engine(tmp_path: Path) -> None:
    """Three JPEG views: what decoding and preparing cost beside the arithmetic."""
    predictor = Predictor.open(SHIPPED, "auto", engines=tmp_path / "engines")
    predictor.warm_up()
    sources = [jpeg_instance(number, 1, tmp_path) for number in range(1, 4)]
    g = predictor.bundle.geometry
    views = np.stack([look_at(*source, g).candidates[0].prepared.tensor for source in sources])
    limits = ScoreLimits(min_views=1, max_views=8)
    engine = f"{predictor.identity.backend} {predictor.identity.precision}"
    rows: dict[str, Callable[[], object]] = {
        "one view: read, decode, find the sector, prepare": lambda: look_at(*sources[0], g),
        f"three views on {engine}": lambda: predictor.predict(views),
        "the whole score step without the ledger": lambda: score_study(sources, predictor, limits),
    }
    for name, run in rows.items():
        print(f"\n{name}: {took(run)}", end="")
    print()


@pytest.mark.parametrize("frames", [16, 500])
def test_a_long_cine_costs_the_frames_it_uses(tmp_path: Path, frames: int) -> None:
    instance, path = jpeg_instance(1, frames, tmp_path)
    geometry = Bundle.load(SHIPPED).geometry
    look_at(instance, path, geometry)
    before = psutil.Process().memory_info().rss
    cost = took(lambda: look_at(instance, path, geometry), runs=5)
    grown = (psutil.Process().memory_info().rss - before) / 2**20
    size = path.stat().st_size / 2**20
    print(f"\n{frames} frames, {size:.1f} MiB: {cost}, memory grew {grown:.0f} MiB")
