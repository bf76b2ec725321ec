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

_ERRORS: Final = (ort_errors.Fail, ort_errors.InvalidGraph, ort_errors.InvalidProtobuf, ort_errors.InvalidArgument)


class OnnxRuntimeEngine:
    """One session a member.

    Sessions of one process spin against each other, so spinning is off. Graphs are given as bytes: a reference to
    external data would have no folder to be resolved in, and is refused by the bundle before it comes here.
    """

    name = "onnxruntime"
    precision = "fp32"

    def __init__(self, members: Sequence[bytes], threads: int | None = None) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads or os.cpu_count() or 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            self._sessions = [
                ort.InferenceSession(member, sess_options=options, providers=["CPUExecutionProvider"])
                for member in members
            ]
        except _ERRORS as error:
            raise BackendError(f"onnxruntime refuses a member graph: {error}") from error

    def run(self, views: NDArray[np.float32]) -> list[MemberOutputs]:
        """Run every member on float32 [V, C, H, W]."""
        wanted = list(OUTPUTS)
        return [dict(zip(wanted, session.run(wanted, {INPUT_VIEWS: views}), strict=True)) for session in self._sessions]
