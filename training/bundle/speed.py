"""A bundle as large as the published systems, for timing: five EfficientNet-B3 members at 300², random weights.

`python -m training.bundle.speed FOLDER --export` exports it by the same exporter as any bundle, golden vectors from
torch included. Without `--export` torch is timed on the same weights: eager, eager with Grad-CAM by autograd, and with
`--compile` torch.compile. The rest of the comparison is `tests/load/test_scoring_bench.py`.
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
from torch.nn.utils.fusion import fuse_conv_bn_eval

from inference.bundle import Bundle
from inference.contract import CHANNELS
from training.bundle import export
from training.members.models import AttentionPool, Member, steatosis_evidence

SIZE: Final = 300
MEMBERS: Final = 5
STEM, HEAD = 40, 1536
STAGES: Final = (
    (1, 3, 1, 24, 2),
    (6, 3, 2, 32, 3),
    (6, 5, 2, 48, 3),
    (6, 3, 2, 96, 5),
    (6, 5, 1, 136, 5),
    (6, 5, 2, 232, 6),
    (6, 3, 1, 384, 2),
)
"""(expansion, kernel, stride, channels, blocks) of EfficientNet-B0 (Tan & Le 2019, Table 1), 1.2 times as wide and 1.4
times as deep."""
_RUNS: Final = 3


def _conv(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs, eps=1e-3, momentum=None))


class Block(nn.Module):
    """Expand, filter, squeeze and excite, project; with a shortcut where shapes allow."""

    def __init__(self, inputs: int, outputs: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        middle = inputs * expansion
        self.expand = _conv(inputs, middle) if expansion > 1 else nn.Identity()
        self.filter = _conv(middle, middle, kernel, stride, middle)
        self.squeeze, self.excite = nn.Conv2d(middle, inputs // 4, 1), nn.Conv2d(inputs // 4, middle, 1)
        self.project = _conv(middle, outputs)
        self.expands, self.shortcut = expansion > 1, stride == 1 and inputs == outputs

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the block's channels and stride."""
        hidden = functional.silu(self.expand(features)) if self.expands else features
        hidden = functional.silu(self.filter(hidden))
        gate = self.excite(functional.silu(self.squeeze(hidden.mean(dim=(2, 3), keepdim=True))))
        hidden = self.project(hidden * torch.sigmoid(gate))
        return hidden + features if self.shortcut else hidden


class B3(nn.Module):
    """Grey pictures [N, 1, H, W] to features [N, 1536, H / 32, W / 32]."""

    def __init__(self) -> None:
        super().__init__()
        blocks, inputs = [], STEM
        for expansion, kernel, stride, channels, repeats in STAGES:
            for repeat in range(repeats):
                blocks.append(Block(inputs, channels, expansion, kernel, stride if repeat == 0 else 1))
                inputs = channels
        self.stem, self.blocks, self.head = _conv(3, STEM, 3, 2), nn.Sequential(*blocks), _conv(inputs, HEAD)

    def forward(self, pictures: Tensor) -> Tensor:
        """Return the features."""
        features = self.blocks(functional.silu(self.stem(pictures.expand(-1, 3, -1, -1))))
        return functional.silu(self.head(features))


def member_of(seed: int) -> Member:
    """Return a member with a B3 trunk as it ships: weights rounded to float16, normalisation folded."""
    torch.manual_seed(seed)
    member = Member()
    member.trunk = B3()
    member.spatial, member.embed = AttentionPool(HEAD, 48), nn.Linear(HEAD, 128)
    member.view, member.liver = nn.Linear(HEAD, 4), nn.Linear(HEAD, 1)
    member.train()
    with torch.no_grad():  # statistics of the normalisations, as training leaves them
        member.trunk(torch.randn(2, 1, SIZE, SIZE))
    member.eval()
    for module in member.trunk.modules():
        if isinstance(module, nn.Sequential) and len(module) == 2 and isinstance(module[1], nn.BatchNorm2d):
            module[0], module[1] = fuse_conv_bn_eval(module[0], module[1]), nn.Identity()
    with torch.no_grad():
        for parameter in member.parameters():
            parameter.copy_(parameter.half().float())
    return member


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


def time_torch(member: Member, views: np.ndarray, *, compiled: bool) -> dict[str, dict[str, float]]:
    """Time one member on a study; members cost alike, so a study costs `MEMBERS` times as much."""
    given = torch.from_numpy(views)
    with torch.no_grad():
        times = {
            "eager": measured(lambda: eager(member, given)),
            "eager, maps in the graph": measured(lambda: member(given)),
        }
    times["eager, maps by autograd"] = measured(lambda: with_autograd_maps(member, given))
    if compiled:
        with torch.no_grad():
            fast = torch.compile(member.requires_grad_(False))
            times["torch.compile, maps in the graph"] = measured(lambda: fast(given))
    return {name: {unit: round(MEMBERS * value, 1) for unit, value in time_.items()} for name, time_ in times.items()}


def peak() -> dict[str, float]:
    """Best GFLOP/s of a large matrix product, by wall time."""
    side = 2048
    rates = {}
    for name, kind in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        matrix = torch.randn(side, side).to(kind)
        rates[name] = round(2 * side**3 / 1e6 / measured(lambda matrix=matrix: matrix @ matrix)["wall_ms"], 1)
    return rates


def export_bundle(folder: Path) -> None:
    """Write the bundle; a minute a member."""
    members = [member_of(seed) for seed in range(MEMBERS)]
    cases = [_views()]
    parts = export.write_shipped([member.requires_grad_(False) for member in members], SIZE, cases, folder)
    like = json.loads((Path(__file__).parents[2] / "inference/bundles/reference/bundle.json").read_text())
    kept = {key: like[key] for key in like if key not in ("members", "golden", "input", "name", "version", "format")}
    geometry = {**like["input"], "height": SIZE, "width": SIZE}
    export.write_description(folder, {**kept, "name": "speed-b3", "version": "0", "input": geometry, **parts})
    Bundle.load(folder)


def _views() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((3, len(CHANNELS), SIZE, SIZE), np.float32)


def main(folder: Path, *, compiled: bool) -> None:
    """Time torch on the bundle's weights and leave the times beside it."""
    took = {"study": time_torch(member_of(0), _views(), compiled=compiled), "GEMM 2048³, GFLOP/s": peak()}
    (folder / "torch.json").write_text(json.dumps(took, indent=1, ensure_ascii=False))
    print(json.dumps(took, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    if "--export" in sys.argv:
        export_bundle(Path(sys.argv[1]))
    else:
        main(Path(sys.argv[1]), compiled="--compile" in sys.argv)
