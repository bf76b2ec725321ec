"""Engines by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from inference.backends.interface import BackendError, Engine
from inference.backends.onnxruntime import OnnxRuntimeEngine

AUTO: Final = "auto"
_ENGINES: Final = {"onnxruntime": OnnxRuntimeEngine}
_FASTEST_FIRST: Final = ("onnxruntime",)


def open_engine(name: str, members: Sequence[bytes], threads: int | None = None) -> Engine:
    """Open an engine by name, or the fastest that is here for "auto".

    Raises
    ------
    BackendError
        The name is unknown, or the engine cannot run the graphs.
    """
    chosen = _FASTEST_FIRST[0] if name == AUTO else name
    if chosen not in _ENGINES:
        known = ", ".join((AUTO, *_ENGINES))
        raise BackendError(f"unknown backend {name!r}; set model.backend to one of {known}")
    return _ENGINES[chosen](members, threads)
