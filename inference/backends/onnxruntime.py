"""onnxruntime: on the CPU exact and always there; on a GPU, where its CUDA build is installed, the plain way."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from inference.backends.interface import BackendError, Graphs, MemberOutputs, of_members
from inference.contract import INPUT_VIEWS, OUTPUTS

_ERRORS: Final = (
    ort_errors.EPFail,
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
    ValueError,
)
_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


class OnnxRuntimeEngine:
    """One session for the joint graph, or one a member where they cannot be joined.

    Sessions of one process spin against each other, and a worker's spin against its decoding, so spinning is off.
    Graphs are given as bytes and read as ONNX only: what the bundle has checked is what runs.
    """

    name = "onnxruntime"
    precision = "fp32"
    _providers: tuple[Any, ...] = (_CPU,)

    def __init__(self, graphs: Graphs) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = graphs.cores
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.load_model_format", "ONNX")
        options.log_severity_level = 4
        self._is_joint = graphs.joint is not None
        try:
            self._sessions = [
                ort.InferenceSession(graph, sess_options=options, providers=list(self._providers))
                for graph in ((graphs.joint,) if graphs.joint is not None else graphs.members)
            ]
        except _ERRORS as error:
            raise BackendError(f"{self.name} refuses a member graph: {error}") from error
        for session in self._sessions:
            lacking = {*OUTPUTS} - {output.name for output in session.get_outputs()}
            if lacking or [given.name for given in session.get_inputs()] != [INPUT_VIEWS]:
                raise BackendError(
                    f"a member graph breaks the contract; it lacks {', '.join(sorted(lacking)) or 'views'}"
                )

    def run(self, views: NDArray[np.float32]) -> list[MemberOutputs]:
        """Run every member on float32 [V, C, H, W]; raises BackendError where that fails."""
        wanted = list(OUTPUTS)
        try:
            given = [dict(zip(wanted, one.run(wanted, {INPUT_VIEWS: views}), strict=True)) for one in self._sessions]
        except _ERRORS as error:
            raise BackendError(f"{self.name} cannot run a member: {error}") from error
        return of_members(given[0]) if self._is_joint else [*given]


class OnnxRuntimeCudaEngine(OnnxRuntimeEngine):
    """The same on a GPU; TF32 is left off, since the golden vectors are of fp32."""

    name = "onnxruntime-cuda"
    _providers = ((_CUDA, {"use_tf32": "0", "cudnn_conv_algo_search": "EXHAUSTIVE"}), _CPU)

    def __init__(self, graphs: Graphs) -> None:
        if _CUDA not in ort.get_available_providers():
            raise BackendError("onnxruntime was built without CUDA; install onnxruntime-gpu in its place")
        super().__init__(graphs)
        if _CUDA not in self._sessions[0].get_providers():
            raise BackendError("onnxruntime finds no CUDA libraries or no GPU; it would run on the CPU")
