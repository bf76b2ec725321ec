"""The whole GPU proof in one go: `python -m tests.gpu.prove [BUNDLE]`.

Builds every engine, holds it against the golden vectors, and times 1, 3 and 8 views (p50, p95) and studies a second;
beside them onnxruntime's CUDA provider, and torch.compile where torch with CUDA is installed and the bundle is that of
`training.bundle.speed`. Prints one JSON document; where something cannot run, its reason stands in its place.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from inference.backends import cuda
from inference.backends.interface import BackendError, Graphs
from inference.backends.registry import CANDIDATES, Candidate, opened, versions
from inference.bundle import Bundle
from inference.verify import verify

RUNS, VIEWS = 200, (1, 3, 8)
SHIPPED = Path(__file__).resolve().parents[2] / "inference" / "bundles" / "reference"


class Opened:
    def __init__(self, bundle: Bundle, engine: Any) -> None:
        self.bundle, self.engine = bundle, engine


def timed(run: Callable[[], object]) -> dict[str, float]:
    """Latency of one study after another, each waited for."""
    for _ in range(10):
        run()
    took = []
    for _ in range(RUNS):
        started = time.perf_counter()
        run()
        took.append(1e3 * (time.perf_counter() - started))
    p50, p95 = np.percentile(took, (50, 95))
    return {
        "p50_ms": round(float(p50), 3),
        "p95_ms": round(float(p95), 3),
        "studies_per_s": round(1e3 * RUNS / sum(took)),
    }


def proved(candidate: Candidate, bundle: Bundle, engines: Path) -> dict[str, Any]:
    """Build, verify and time one engine."""
    g = bundle.geometry
    shape = (g.channels, g.height, g.width)
    graphs = Graphs(members=bundle.members, digest=bundle.digest, shape=shape, engines=engines)
    started = time.perf_counter()
    try:
        engine = opened(candidate, graphs)
        found = verify(Opened(bundle, engine))
        views = {count: np.random.default_rng(0).random((count, *shape), np.float32) for count in VIEWS}
        return {
            "opened_s": round(time.perf_counter() - started, 2),
            "golden_vectors_agree": found.ok,
            "worst": found.worst,
            "views": {count: timed(lambda given=given: engine.run(given)) for count, given in views.items()},
        }
    except BackendError as error:
        return {"cannot_run": str(error)}


def with_torch(bundle: Bundle) -> dict[str, Any]:
    """Time torch.compile with CUDA graphs on the weights of `training.bundle.speed`."""
    try:
        import torch

        from training.bundle.speed import MEMBERS, member_of
    except ImportError as error:
        return {"cannot_run": f"{error.name} is not installed"}
    if not torch.cuda.is_available() or bundle.name != "speed-b3":
        return {"cannot_run": "torch finds no GPU, or the bundle is not that of training.bundle.speed"}
    g = bundle.geometry
    members = [torch.compile(member_of(seed).cuda(), mode="reduce-overhead") for seed in range(MEMBERS)]
    times = {}
    for count in VIEWS:
        given = torch.rand(count, g.channels, g.height, g.width, device="cuda")

        def study(given: Any = given) -> None:
            with torch.no_grad(), torch.autocast("cuda", torch.float16):
                for member in members:
                    member(given)
            torch.cuda.synchronize()

        times[count] = timed(study)
    return {"views": times}


def main() -> int:
    """Print the record; 1 where there is no GPU."""
    if cuda.device_name() is None:
        print("there is no NVIDIA GPU here: nothing was proved", file=sys.stderr)
        return 1
    bundle = Bundle.load(Path(sys.argv[1]) if len(sys.argv) > 1 else SHIPPED)
    engines = Path("build") / "gpu-engines"
    record = {
        "device": cuda.device_name(),
        "packages": versions(),
        "bundle": f"{bundle.name} {bundle.version} {bundle.digest[:12]}",
        "engines": {one.words: proved(one, bundle, engines) for one in CANDIDATES},
        "torch.compile": with_torch(bundle),
    }
    print(json.dumps(record, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
