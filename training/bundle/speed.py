"""A bundle as large as the published systems, for timing: that of the experiment `reference-b3` with random weights.

`python -m training.bundle.speed FOLDER --export` exports five EfficientNet-B3 members at 300² by the same exporter as
any bundle, golden vectors from torch included. As fitting leaves them they share one frozen front and have backs of
their own; with `--separate` they share nothing. Without `--export` torch is timed on the same weights: eager, eager
with Grad-CAM by autograd, each member whole as anybody would run them; members of one front also with that computed
once; and with `--compile` torch.compile. The rest of the comparison is `tests/load/test_scoring_bench.py`.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from inference.bundle import Bundle
from inference.contract import CHANNELS
from training.bundle import export
from training.bundle.configuration import read_experiment
from training.members.models import Member, steatosis_evidence
from training.members.trunks import new_trunk

EXPERIMENT: Final = read_experiment("reference-b3")
SIZE: Final = EXPERIMENT.data.size
MEMBERS: Final = EXPERIMENT.fit.members
FROZEN: Final = EXPERIMENT.fit.frozen_blocks
_FRONT_SEED: Final = 1000
_RUNS: Final = 3


def member_of(seed: int, *, separate: bool = False) -> Member:
    """Return a member as it ships, its front drawn by one seed for all members or, where separate, by its own."""
    torch.manual_seed(seed if separate else _FRONT_SEED)
    trunk = new_trunk(EXPERIMENT.fit.trunk)
    front, pictures = nn.ModuleList(trunk.front_modules(FROZEN)), torch.randn(2, 1, SIZE, SIZE)
    for norm in [module for module in trunk.modules() if isinstance(module, nn.BatchNorm2d)]:
        norm.momentum = None
    with torch.no_grad():  # statistics of the normalisations, as training leaves them
        front.train()
        kept = trunk.front(pictures, FROZEN)
        torch.manual_seed(seed)
        for module in trunk.back_modules(FROZEN):
            for weight in module.parameters():
                if weight.dim() == 4:
                    weight.copy_(weight.std() * torch.randn_like(weight))
        trunk.train()
        trunk.back(kept, FROZEN)
    return export.shipped(Member(trunk))


def eager(member: Member, views: Tensor) -> None:
    """Score without maps."""
    features, seen = member.look(views)
    member.grade(member.fusion(functional.relu(member.embed(seen.mean))).mean)
    del features


def with_autograd_maps(member: Member, views: Tensor) -> None:
    """Score with Grad-CAM by a full backward pass, as is usual: hooks on the features, gradients to every weight."""
    outputs = member.requires_grad_(True)(views.requires_grad_(True))
    steatosis_evidence(outputs.grade_logits).backward()
    member.zero_grad()


def with_one_front(member: Member, views: Tensor) -> Callable[[Tensor], None]:
    """Return what the rest of a member costs, Grad-CAM by autograd included, from what the common front made."""
    trunk = member.trunk

    def rest(kept: Tensor) -> None:
        member.requires_grad_(True)
        whole, trunk.forward = trunk.forward, lambda _: trunk.back(kept, FROZEN)  # type: ignore[method-assign]
        try:
            steatosis_evidence(member(views).grade_logits).backward()
        finally:
            trunk.forward = whole  # type: ignore[method-assign]
        member.zero_grad()

    return rest


def measured(run: Callable[[], Any]) -> dict[str, float]:
    """Median wall and CPU time of a few runs after one that is not counted, milliseconds."""
    run()
    wall, cpu = [], []
    for _ in range(_RUNS):
        started, used = time.perf_counter(), time.process_time()
        run()
        wall.append(1e3 * (time.perf_counter() - started))
        cpu.append(1e3 * (time.process_time() - used))
    return {"wall_ms": round(statistics.median(wall), 1), "cpu_ms": round(statistics.median(cpu), 1)}


def time_torch(member: Member, views: np.ndarray, *, shares: bool, compiled: bool) -> dict[str, dict[str, float]]:
    """Time one member on a study; members cost alike, so a study costs `MEMBERS` times as much.

    `shares` is whether members have one front: then that is timed apart, too, and counted once.
    """
    given = torch.from_numpy(views)
    with torch.no_grad():
        times = {
            "eager": measured(lambda: eager(member, given)),
            "eager, maps in the graph": measured(lambda: member(given)),
        }
    times["eager, maps by autograd"] = measured(lambda: with_autograd_maps(member, given))
    member.requires_grad_(False)
    if compiled:
        with torch.no_grad():
            fast = torch.compile(member)
            times["torch.compile, maps in the graph"] = measured(lambda: fast(given))
    found = {name: {unit: MEMBERS * value for unit, value in time_.items()} for name, time_ in times.items()}
    if shares:
        with torch.no_grad():
            front = measured(lambda: member.trunk.front(given[:, :1], FROZEN))
            kept = member.trunk.front(given[:, :1], FROZEN)
        rest = with_one_front(member, given)
        back = measured(lambda: rest(kept))
        found["eager, maps by autograd, the front computed once"] = {
            unit: front[unit] + MEMBERS * back[unit] for unit in front
        }
    return {name: {unit: round(value, 1) for unit, value in time_.items()} for name, time_ in found.items()}


def peak() -> dict[str, float]:
    """Best GFLOP/s of a large matrix product, by wall time."""
    side = 2048
    rates = {}
    for name, kind in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        matrix = torch.randn(side, side).to(kind)
        rates[name] = round(2 * side**3 / 1e6 / measured(lambda matrix=matrix: matrix @ matrix)["wall_ms"], 1)
    return rates


def export_bundle(folder: Path, *, separate: bool) -> None:
    """Write the bundle; a quarter of a minute a member."""
    members = [member_of(seed, separate=separate) for seed in range(MEMBERS)]
    parts = export.write_shipped(members, SIZE, [_views()], folder)
    like = json.loads((Path(__file__).parents[2] / "inference/bundles/reference/bundle.json").read_text())
    kept = {key: like[key] for key in like if key not in ("members", "golden", "input", "name", "version", "format")}
    geometry = {**like["input"], "height": SIZE, "width": SIZE}
    name = "speed-b3-separate" if separate else "speed-b3"
    export.write_description(folder, {**kept, "name": name, "version": "0", "input": geometry, **parts})
    Bundle.load(folder)


def _views() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((3, len(CHANNELS), SIZE, SIZE), np.float32)


def main(folder: Path, *, separate: bool, compiled: bool) -> None:
    """Time torch on the bundle's weights and leave the times beside it."""
    member = member_of(0, separate=separate)
    took = {
        "study": time_torch(member, _views(), shares=not separate, compiled=compiled),
        "GEMM 2048³, GFLOP/s": peak(),
    }
    (folder / "torch.json").write_text(json.dumps(took, indent=1, ensure_ascii=False))
    print(json.dumps(took, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    if "--export" in sys.argv:
        export_bundle(Path(sys.argv[1]), separate="--separate" in sys.argv)
    else:
        main(Path(sys.argv[1]), separate="--separate" in sys.argv, compiled="--compile" in sys.argv)
