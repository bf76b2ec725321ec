"""Members whose weights can be replaced: fitted ones in torch, exported ones as graphs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Protocol

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from inference.backends.registry import open_engine
from inference.contract import OUTPUT_GRADE_LOGITS, OUTPUT_SALIENCY
from training.bundle.export import shipped
from training.members.models import Member

_HALF: Final = re.compile(r"_half$")

Weights = Mapping[str, np.ndarray]


class Subject(Protocol):
    """A member whose weights can be replaced."""

    name: str
    weights: Weights

    def answer(self, weights: Weights, views: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return grade logits [4] and each grade's Grad-CAM [V, 4, h, w] with these weights in place of the own ones.

        Views are [V, C, H, W].
        """


class TorchSubject:
    """A fitted member in torch, as it ships: normalisation folded into the convolutions.

    Parameters
    ----------
    name
        For tables.
    member
        Of `training.members.fit.read_member`.
    """

    def __init__(self, name: str, member: Member) -> None:
        self.name = name
        self._member = shipped(member)
        self.weights = {key: value.numpy().copy() for key, value in self._member.state_dict().items()}

    def answer(self, weights: Weights, views: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return logits and maps; see `Subject`."""
        state = {key: torch.from_numpy(np.ascontiguousarray(value)) for key, value in weights.items()}
        with torch.no_grad():
            outputs = torch.func.functional_call(self._member, state, (torch.from_numpy(views),))
        return outputs.grade_logits.numpy(), outputs.saliency.numpy()


class GraphSubject:
    """An exported member: the graph itself, with its initialisers replaced.

    Exporting stores some weights a second time, transposed and without their name; the copies follow the named ones.

    Parameters
    ----------
    name
        For tables.
    graph
        Bytes of the ONNX file.
    """

    def __init__(self, name: str, graph: bytes) -> None:
        self.name = name
        self._model = onnx.load_from_string(graph)
        stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in self._model.graph.initializer}
        self._stored = {_plain(key): key for key in stored if "." in key}
        self.weights = {plain: stored[key].astype(np.float32) for plain, key in self._stored.items()}
        self._copies = {
            key: plain
            for key, value in stored.items()
            if "." not in key and value.ndim == 2 and min(value.shape) > 0
            for plain, original in self._stored.items()
            if stored[original].ndim == 2 and np.array_equal(stored[original].T, value)
        }

    def answer(self, weights: Weights, views: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return logits and maps; see `Subject`."""
        (outputs,) = self._engine(weights).run(views)
        return np.asarray(outputs[OUTPUT_GRADE_LOGITS]), np.asarray(outputs[OUTPUT_SALIENCY])

    def _engine(self, weights: Weights):
        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        for tensor in model.graph.initializer:
            plain, copied = _plain(tensor.name), self._copies.get(tensor.name)
            if plain in weights or copied is not None:
                value = weights[plain] if plain in weights else weights[copied].T
                kind = numpy_helper.to_array(tensor).dtype
                tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value, kind), tensor.name))
        return open_engine("onnxruntime", [model.SerializeToString()], 1)


def _plain(name: str) -> str:
    return _HALF.sub("", name)
