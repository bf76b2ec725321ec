"""TensorRT and TensorRT-RTX: one engine for the ensemble, one CUDA graph a number of views, pinned memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from inference.backends import cuda
from inference.backends.interface import BackendError, Graphs, MemberOutputs, of_members
from inference.backends.tensorrt_build import module_of, plan_of, recipe_of
from inference.contract import INPUT_VIEWS, OUTPUTS

_MOST_CAPTURED: Final = 8
"""Numbers of views whose buffers and graph are kept; the one that was not used for longest goes first."""


@dataclass(frozen=True, kw_only=True)
class _Captured:
    """All that one number of views needs: its execution context, its buffers, and the call that launches it."""

    context: Any
    views: cuda.Buffer
    outputs: dict[str, cuda.Buffer]
    launch: Callable[[], None]


class TensorRtEngine:
    """One engine for the joint graph.

    The upload of the views, the computation and the download of the outputs are one CUDA graph, so that a study costs
    one launch. An optimisation profile serves one execution context at a time, and each number of views keeps its own.
    """

    def __init__(self, graphs: Graphs, backend: str, precision: str) -> None:
        self.name, self.precision = backend, precision
        trt = module_of(backend)
        device = cuda.device_name()
        if device is None:
            raise BackendError(f"{backend} is installed, but there is no GPU here")
        cuda.make_current()
        self._recipe = recipe_of(trt, graphs, backend=backend, precision=precision, device=device)
        plan = plan_of(trt, graphs, self._recipe)
        self._runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise BackendError(f"{backend} cannot load the engine that it built for {device}")
        self._dtypes = {name: trt.nptype(self._engine.get_tensor_dtype(name)) for name in OUTPUTS}
        self._stream = cuda.Stream()
        self._captured: dict[int, _Captured] = {}

    def run(self, views: NDArray[np.float32]) -> list[MemberOutputs]:
        """Run every member on float32 [V, C, H, W]; raises BackendError where that fails."""
        cuda.make_current()
        count = len(views)
        captured = self._captured.pop(count, None) or self._capture(views.shape)
        self._captured[count] = captured
        captured.views.host[:] = views
        captured.launch()
        self._stream.synchronize()
        return of_members({name: buffer.host.astype(np.float32) for name, buffer in captured.outputs.items()})

    def _capture(self, shape: tuple[int, ...]) -> _Captured:
        """Bind buffers for a number of views, run once as TensorRT asks before a capture, and record the rest."""
        if len(self._captured) >= _MOST_CAPTURED:
            oldest = self._captured.pop(next(iter(self._captured)))
            for buffer in (oldest.views, *oldest.outputs.values()):
                buffer.free()
        context = self._engine.create_execution_context()
        if context is None:
            raise BackendError(f"{self.name} has no memory for another execution context")
        context.set_optimization_profile_async(self._profile(shape[0]), self._stream.handle.value)
        self._stream.synchronize()
        context.set_input_shape(INPUT_VIEWS, shape)
        views = cuda.Buffer(shape, np.float32)
        outputs = {name: cuda.Buffer(tuple(context.get_tensor_shape(name)), self._dtypes[name]) for name in OUTPUTS}
        for name, buffer in ((INPUT_VIEWS, views), *outputs.items()):
            context.set_tensor_address(name, buffer.address)

        def enqueue() -> None:
            views.upload(self._stream)
            if not context.execute_async_v3(self._stream.handle.value):
                raise BackendError(f"{self.name} cannot run {shape[0]} views")
            for buffer in outputs.values():
                buffer.download(self._stream)

        enqueue()
        self._stream.synchronize()
        return _Captured(context=context, views=views, outputs=outputs, launch=self._recorded(context, enqueue))

    def _recorded(self, context: Any, enqueue: Callable[[], None]) -> Callable[[], None]:
        """Record a launch as a CUDA graph; an engine that cannot be captured is enqueued each time."""
        if not getattr(context, "is_stream_capturable", lambda _: True)(self._stream.handle.value):
            return enqueue
        with self._stream.capturing() as launch:
            enqueue()
        return launch[0]

    def _profile(self, count: int) -> int:
        for index, (low, _, high) in enumerate(self._recipe.profiles):
            if low <= count <= high:
                return index
        raise BackendError(f"{self.name} was built for 1 to {self._recipe.profiles[-1][2]} views, not {count}")
