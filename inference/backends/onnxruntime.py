"""onnxruntime on the CPU: exact, and the engine that is always there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from inference.backends.interface import BackendError, MemberOutputs
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
_MOST_THREADS: Final = 8
"""More threads wait for each other longer than they compute: the members' layers are small."""


class OnnxRuntimeEngine:
    """One session a member.

    Sessions of one process spin against each other, so spinning is off. Graphs are given as bytes and read as ONNX
    only: what the bundle has checked is what runs.
    """

    name = "onnxruntime"
    precision = "fp32"

    def __init__(self, members: Sequence[bytes], threads: int | None = None) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads or min(len(os.sched_getaffinity(0)), _MOST_THREADS)
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.load_model_format", "ONNX")
        options.log_severity_level = 4
        try:
            self._sessions = [
                ort.InferenceSession(member, sess_options=options, providers=["CPUExecutionProvider"])
                for member in members
            ]
        except _ERRORS as error:
            raise BackendError(f"onnxruntime refuses a member graph: {error}") from error
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
            return [dict(zip(wanted, one.run(wanted, {INPUT_VIEWS: views}), strict=True)) for one in self._sessions]
        except _ERRORS as error:
            raise BackendError(f"onnxruntime cannot run a member: {error}") from error
