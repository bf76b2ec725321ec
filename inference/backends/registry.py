"""Engines by name and precision, each imported only when it is opened: most are not installed everywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Final

from inference.backends.interface import BackendError, Engine, Graphs

AUTO: Final = "auto"
LAST_RESORT: Final = "onnxruntime"
"""A dependency of the package, exact, on any CPU: what is left when another engine fails."""
_PACKAGES: Final = ("onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt", "tensorrt-rtx-cu13")
"""Packages whose version decides which engine is fastest, and whether what one compiled can be loaded."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """An engine at one precision."""

    backend: str
    precision: str
    open: Callable[[Graphs], Engine]

    @property
    def words(self) -> str:
        """Name both, as results do."""
        return f"{self.backend} {self.precision}"


def _onnxruntime(graphs: Graphs) -> Engine:
    from inference.backends.onnxruntime import OnnxRuntimeEngine

    return OnnxRuntimeEngine(graphs)


def _onnxruntime_cuda(graphs: Graphs) -> Engine:
    from inference.backends.onnxruntime import OnnxRuntimeCudaEngine

    return OnnxRuntimeCudaEngine(graphs)


def _openvino(precision: str) -> Callable[[Graphs], Engine]:
    def opened(graphs: Graphs) -> Engine:
        from inference.backends.openvino import OpenVinoEngine

        return OpenVinoEngine(graphs, precision)

    return opened


def _tensorrt(backend: str, precision: str) -> Callable[[Graphs], Engine]:
    def opened(graphs: Graphs) -> Engine:
        from inference.backends.tensorrt import TensorRtEngine

        return TensorRtEngine(graphs, backend, precision)

    return opened


CANDIDATES: Final = (
    *(
        Candidate(backend=backend, precision=precision, open=_tensorrt(backend, precision))
        for backend in ("tensorrt", "tensorrt-rtx")
        for precision in ("fp16", "bf16", "fp32")
    ),
    Candidate(backend="onnxruntime-cuda", precision="fp32", open=_onnxruntime_cuda),
    *(Candidate(backend="openvino", precision=precision, open=_openvino(precision)) for precision in ("bf16", "fp32")),
    Candidate(backend=LAST_RESORT, precision="fp32", open=_onnxruntime),
)
"""Most promising first: what is tried later must be faster than half of what was found before."""


def candidates(name: str) -> tuple[Candidate, ...]:
    """Candidates of one engine, or all for "auto".

    Raises
    ------
    BackendError
        The name is unknown.
    """
    found = tuple(one for one in CANDIDATES if name in (AUTO, one.backend))
    if not found:
        known = ", ".join(dict.fromkeys((AUTO, *(one.backend for one in CANDIDATES))))
        raise BackendError(f"unknown backend {name!r}; set model.backend to one of {known}")
    return found


def opened(candidate: Candidate, graphs: Graphs) -> Engine:
    """Open a candidate.

    Raises
    ------
    BackendError
        It is not installed, finds no device, or refuses the graphs.
    """
    try:
        return candidate.open(graphs)
    except ImportError as error:
        raise BackendError(f"{candidate.backend} is not installed here") from error


def open_engine(name: str, members: Sequence[bytes], threads: int | None = None) -> Engine:
    """Open an engine in its exact precision, without asking golden vectors; "auto" takes the one that is always there.

    Raises
    ------
    BackendError
        The name is unknown, or the engine cannot run the graphs.
    """
    candidate = candidates(LAST_RESORT if name == AUTO else name)[-1]
    return opened(candidate, Graphs(members=tuple(members), threads=threads))


def versions() -> dict[str, str]:
    """Version of each package here that brings an engine."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
