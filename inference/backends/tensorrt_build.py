"""Building TensorRT engines from ONNX, for TensorRT and TensorRT-RTX alike: the same API under two module names.

TensorRT measures kernels on the GPU that will run them; TensorRT-RTX compiles ahead of time, with or without a GPU, and
finishes on the one it meets.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from inference.backends.interface import BackendError, Graphs
from inference.contract import INPUT_VIEWS
from inference.onnx_half import TYPES, in_half
from inference.onnx_parser import with_flat_softmax

MODULES: Final = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
PROFILES: Final = ((1, 1, 1), (2, 0, 8), (9, 16, 64))
"""Fewest, most usual and most views of each optimisation profile; 0 stands for what the bundle expects."""
_WORKSPACE: Final = 2 << 30


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides what an engine is: it may be kept under the digest of this."""

    bundle: str
    package: str
    version: str
    device: str
    precision: str
    shape: tuple[int, int, int]
    profiles: tuple[tuple[int, int, int], ...]

    @property
    def key(self) -> str:
        """Name of the engine's file."""
        return hashlib.sha256(json.dumps(vars(self), sort_keys=True).encode()).hexdigest()[:32]


def module_of(backend: str) -> Any:
    """Import TensorRT under the name that it has here; raises ImportError where it has none."""
    return importlib.import_module(MODULES[backend])


def recipe_of(trt: Any, graphs: Graphs, *, backend: str, precision: str, device: str) -> Recipe:
    """Say what would be built; raises BackendError where the shape of a view is not known."""
    if graphs.shape is None:
        raise BackendError(f"{backend} is compiled for shapes; none was given")
    most = min(max(graphs.expected_views, 2), 8)
    return Recipe(
        bundle=graphs.digest,
        package=backend,
        version=str(trt.__version__),
        device=device,
        precision=precision,
        shape=graphs.shape,
        profiles=tuple((low, usual or most, high) for low, usual, high in PROFILES),
    )


def plan_of(trt: Any, graphs: Graphs, recipe: Recipe) -> bytes:
    """Give the engine of a recipe: the kept one, or one built now and kept.

    Raises
    ------
    BackendError
        The graphs cannot be parsed or built.
    """
    kept = None if graphs.engines is None else graphs.engines / f"{recipe.key}.engine"
    if kept is not None and kept.exists():
        return kept.read_bytes()
    if graphs.joint is None:
        raise BackendError(f"{recipe.package} takes one graph; the members cannot be joined")
    graph = with_flat_softmax(graphs.joint)
    if recipe.precision in TYPES:
        graph = in_half(graph, recipe.precision)
    timing = None if graphs.engines is None else graphs.engines / f"timing-{recipe.package}-{recipe.version}.cache"
    graphs.progress(f"{recipe.package} {recipe.precision}: building for {recipe.device}")
    plan = build(trt, graph, recipe, timing, graphs.progress)
    if kept is not None:
        _keep(kept, plan)
    return plan


def build(trt: Any, graph: bytes, recipe: Recipe, timing: Path | None, progress: Callable[[str], None]) -> bytes:
    """Parse and build, strongly typed; raises BackendError with the parser's or the builder's own words."""
    logger = _logger(trt)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(graph):
        raise BackendError(f"{recipe.package} cannot parse the graph: {_faults(parser)}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, _WORKSPACE)
    config.clear_flag(trt.BuilderFlag.TF32)  # the golden vectors are of fp32
    config.progress_monitor = _monitor(trt, f"{recipe.package} {recipe.precision}", progress)
    for low, usual, high in recipe.profiles:
        profile = builder.create_optimization_profile()
        profile.set_shape(INPUT_VIEWS, *((count, *recipe.shape) for count in (low, usual, high)))
        config.add_optimization_profile(profile)
    cache = _timing_cache(config, timing) if recipe.package == "tensorrt" else None
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise BackendError(f"{recipe.package} cannot build the graph: {logger.last or 'it does not say why'}")
    if cache is not None and timing is not None:
        _keep(timing, bytes(cache.serialize()))
    return bytes(plan)


def _timing_cache(config: Any, path: Path | None) -> Any:
    known = path.read_bytes() if path is not None and path.exists() else b""
    cache = config.create_timing_cache(known)
    config.set_timing_cache(cache, ignore_mismatch=True)
    return cache


def _keep(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    partial.write_bytes(content)
    partial.replace(path)


def _faults(parser: Any) -> str:
    return "; ".join(parser.get_error(index).desc() for index in range(parser.num_errors)) or "it does not say why"


def _logger(trt: Any) -> Any:
    class Logger(trt.ILogger):  # type: ignore[misc]
        """Keeps the last error instead of printing it."""

        def __init__(self) -> None:
            super().__init__()
            self.last = ""

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.last = message

    return Logger()


def _monitor(trt: Any, what: str, progress: Callable[[str], None]) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """Tells the outermost phases of a build."""

        def __init__(self) -> None:
            super().__init__()
            self.steps: dict[str, int] = {}

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            if parent is None:
                self.steps[phase] = steps

        def step_complete(self, phase: str, step: int) -> bool:
            if phase in self.steps:
                progress(f"{what}: {phase}, step {step + 1} of {self.steps[phase]}")
            return True

        def phase_finish(self, phase: str) -> None:
            self.steps.pop(phase, None)

    return Monitor()
