"""OpenVINO on the CPU: one compiled unit for the ensemble, in float32 or, where the CPU has it, bfloat16."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from inference.backends.interface import BackendError, Graphs, MemberOutputs, of_members
from inference.contract import INPUT_VIEWS, OUTPUTS

_HINTS: Final = {"fp32": "f32", "bf16": "bf16"}
_BF16: Final = "BF16"


class OpenVinoEngine:
    """One compiled model for the joint graph, or one a member where they cannot be joined.

    The model is given as bytes, which OpenVINO parses by its ONNX frontend alone. Outputs are copied: the next run of
    the same request writes over them.
    """

    name = "openvino"

    def __init__(self, graphs: Graphs, precision: str = "fp32") -> None:
        self.precision = precision
        core = _core()
        if precision == "bf16" and _BF16 not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise BackendError("this CPU computes no bfloat16")
        options = {
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": graphs.cores,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,
        }
        self._is_joint = graphs.joint is not None
        try:
            self._models = [
                _checked(core.compile_model(core.read_model(graph), "CPU", options))
                for graph in ((graphs.joint,) if graphs.joint is not None else graphs.members)
            ]
            self._requests = [model.create_infer_request() for model in self._models]
        except RuntimeError as error:
            raise BackendError(f"openvino refuses a member graph: {_told(error)}") from error

    def run(self, views: NDArray[np.float32]) -> list[MemberOutputs]:
        """Run every member on float32 [V, C, H, W]; raises BackendError where that fails."""
        given = np.ascontiguousarray(views, np.float32)
        try:
            outputs = [_outputs(request, given) for request in self._requests]
        except (RuntimeError, ValueError, TypeError) as error:
            raise BackendError(f"openvino cannot run a member: {_told(error)}") from error
        return of_members(outputs[0]) if self._is_joint else [*outputs]


@cache
def _core() -> Any:
    """Open OpenVINO once, for as long as the process lives.

    Its CPU plugin gives the thread that opens it a stack for signals, and frees it with the last core, in whichever
    thread that happens. The next signal of a thread whose stack is gone ends the process with SIGSEGV.
    """
    return ov.Core()


def _checked(model: Any) -> Any:
    lacking = {*OUTPUTS}.difference(*(output.get_names() for output in model.outputs))  # one may have several names
    if lacking or len(model.inputs) != 1 or INPUT_VIEWS not in model.inputs[0].get_names():
        raise BackendError(f"a member graph breaks the contract; it lacks {', '.join(sorted(lacking)) or 'views'}")
    return model


def _outputs(request: Any, views: NDArray[np.float32]) -> MemberOutputs:
    request.infer([views], share_inputs=True)
    return {name: request.get_tensor(name).data.copy() for name in OUTPUTS}


def _told(error: BaseException) -> str:
    """Give the last line that says something: OpenVINO puts its own source lines before it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
