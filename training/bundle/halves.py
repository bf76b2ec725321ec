"""A bundle's graphs cut in two: views are looked at once, however many studies they are shown in.

Evaluation shows each patient with one, two, three and four of the views. Nearly all of a member's time goes into
looking at a view; fusing costs next to nothing. The halves are the shipped graphs' own nodes, without the maps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime

from inference.backends.interface import MemberOutputs
from inference.contract import (
    INPUT_VIEWS,
    OUTPUT_FAT_FRACTION,
    OUTPUT_GRADE_LOGITS,
    OUTPUT_LIVER_LOGIT,
    OUTPUT_SALIENCY,
    OUTPUT_VIEW_GRADE_LOGITS,
    OUTPUT_VIEW_LOGITS,
    OUTPUT_VIEW_WEIGHTS,
)

_SEEN: Final = (OUTPUT_VIEW_LOGITS, OUTPUT_LIVER_LOGIT)
_FUSED: Final = (OUTPUT_GRADE_LOGITS, OUTPUT_FAT_FRACTION, OUTPUT_VIEW_WEIGHTS, OUTPUT_VIEW_GRADE_LOGITS)
_FUSION: Final = "fusion.look.weight"
"""Its node's input is the views' embedding, where a graph is cut."""
_BATCH: Final = 32


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What the members make of N views, before any are fused."""

    embedding: Sequence[np.ndarray]
    """Of each member, float32 [N, W]."""
    view_logits: Sequence[np.ndarray]
    liver_logit: Sequence[np.ndarray]


class Halves:
    """The members of a bundle, cut where views are fused.

    Parameters
    ----------
    members
        ONNX graphs as `training.bundle.export` writes them.
    """

    def __init__(self, members: Sequence[bytes]) -> None:
        self._looks, self._fuses = [], []
        for content in members:
            graph = onnx.load_from_string(content)
            name = next(node.input[0] for node in graph.graph.node if _FUSION in node.input)
            self._looks.append(_session(_part(graph, (INPUT_VIEWS,), (name, *_SEEN))))
            self._fuses.append(_session(_part(graph, (name,), _FUSED)))

    def look(self, views: np.ndarray) -> Seen:
        """Look at views [N, C, H, W], a few at a time."""
        parts = [
            [
                session.run(None, {INPUT_VIEWS: views[start : start + _BATCH].astype(np.float32)})
                for start in range(0, len(views), _BATCH)
            ]
            for session in self._looks
        ]
        embedding, names, liver = (
            [np.concatenate([part[place] for part in member]) for member in parts] for place in range(3)
        )
        return Seen(embedding=embedding, view_logits=names, liver_logit=liver)

    def liver_logits(self, frames: np.ndarray) -> np.ndarray:
        """Return the ensemble's liver logit of each frame [N] of frames [N, C, H, W]; none of none."""
        return np.mean(self.look(frames).liver_logit, axis=0) if len(frames) else np.zeros(0)

    def study(self, seen: Seen, chosen: np.ndarray) -> list[MemberOutputs]:
        """Return the members' outputs for one study of the chosen views; maps are left out, [V, 1, 1] of zeros."""
        found: list[MemberOutputs] = []
        for index, session in enumerate(self._fuses):
            said = session.run(None, {session.get_inputs()[0].name: seen.embedding[index][chosen]})
            found.append(
                dict(zip(_FUSED, said, strict=True))
                | {
                    OUTPUT_VIEW_LOGITS: seen.view_logits[index][chosen],
                    OUTPUT_LIVER_LOGIT: seen.liver_logit[index][chosen],
                    OUTPUT_SALIENCY: np.zeros((len(chosen), 1, 1), np.float32),
                }
            )
        return found


def _part(graph: onnx.ModelProto, inputs: Sequence[str], outputs: Sequence[str]) -> onnx.ModelProto:
    """Return the nodes of a graph that lie between values, and their weights."""
    wanted, reached = list(outputs), set(inputs)
    made_by = {name: node for node in graph.graph.node for name in node.output}
    while wanted:
        name = wanted.pop()
        if name in reached:
            continue
        reached.add(name)
        if name in made_by:
            wanted += made_by[name].input
    part = onnx.ModelProto.FromString(graph.SerializeToString())
    _keep(part.graph.node, [node for node in part.graph.node if set(node.output) & reached - set(inputs)])
    used = {name for node in part.graph.node for name in node.input}
    _keep(part.graph.initializer, [tensor for tensor in part.graph.initializer if tensor.name in used])
    unknown = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in inputs]
    known = {value.name: value for value in graph.graph.input}
    _keep(part.graph.input, [known.get(value.name, value) for value in unknown])
    _keep(part.graph.output, [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in outputs])
    return part


def _keep(field: Any, kept: Sequence[Any]) -> None:
    copies = [type(one).FromString(one.SerializeToString()) for one in kept]
    del field[:]
    field.extend(copies)


def _session(graph: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
