"""A bundle's graphs cut in two: views are looked at once, however many studies they are shown in.

Evaluation shows each patient with one, two, three and four of the views. Nearly all of a member's time goes into
looking at a view; fusing costs next to nothing. The halves are the shipped graphs' own nodes, without the maps; what
first halves share is computed once (`inference.onnx_merge`).
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
    GRADES,
    INPUT_VIEWS,
    OUTPUT_FAT_FRACTION,
    OUTPUT_GRADE_LOGITS,
    OUTPUT_LIVER_LOGIT,
    OUTPUT_SALIENCY,
    OUTPUT_VIEW_GRADE_LOGITS,
    OUTPUT_VIEW_LOGITS,
    OUTPUT_VIEW_WEIGHTS,
    OUTPUTS,
)
from inference.description import BundleError
from inference.onnx_merge import merged

_SEEN: Final = (OUTPUT_VIEW_LOGITS, OUTPUT_LIVER_LOGIT)
_FUSED: Final = (OUTPUT_GRADE_LOGITS, OUTPUT_FAT_FRACTION, OUTPUT_VIEW_WEIGHTS, OUTPUT_VIEW_GRADE_LOGITS)
_FUSION: Final = "fusion.look.weight"
"""Its node's input is the views' embedding, where a graph is cut."""
_GATE: Final = "liver.weight"
"""Its node's input is what the gate reads."""
_IN_PLACE_OF: Final = (OUTPUT_GRADE_LOGITS, OUTPUT_FAT_FRACTION)
"""Outputs of the contract under whose names first halves give the embedding and what the gate reads: graphs are joined
by the contract's outputs."""
_BATCH: Final = 32


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What the members make of N views, before any are fused."""

    embedding: Sequence[np.ndarray]
    """Of each member, float32 [N, W]."""
    pooled: Sequence[np.ndarray]
    """What the gate reads, float32 [N, C]."""
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
        firsts, self._fuses = [], []
        for content in members:
            graph = onnx.load_from_string(content)
            embedding, read = (_input_of(graph, weight) for weight in (_FUSION, _GATE))
            first = _part(graph, (INPUT_VIEWS,), (embedding, read, *_SEEN))
            firsts.append(_as_contract(first, embedding, read).SerializeToString())
            self._fuses.append(_session(_part(graph, (embedding,), _FUSED)))
        self._look = _session(onnx.load_from_string(merged(firsts)))

    def look(self, views: np.ndarray) -> Seen:
        """Look at views [N, C, H, W], a few at a time."""
        parts = [
            self._look.run((*_IN_PLACE_OF, *_SEEN), {INPUT_VIEWS: views[start : start + _BATCH].astype(np.float32)})
            for start in range(0, len(views), _BATCH)
        ]
        embedding, read, names, liver = (list(np.concatenate(found, axis=1)) for found in zip(*parts, strict=True))
        return Seen(embedding=embedding, pooled=read, view_logits=names, liver_logit=liver)

    def liver_logits(self, frames: np.ndarray) -> np.ndarray:
        """Return the ensemble's liver logit of each frame [N] of frames [N, C, H, W]; none of none."""
        return np.mean(self.look(frames).liver_logit, axis=0) if len(frames) else np.zeros(0)

    def study(self, seen: Seen, chosen: np.ndarray) -> list[MemberOutputs]:
        """Return the members' outputs for one study of the chosen views; maps are left out, [V, 4, 1, 1] of zeros."""
        found: list[MemberOutputs] = []
        for index, session in enumerate(self._fuses):
            said = session.run(None, {session.get_inputs()[0].name: seen.embedding[index][chosen]})
            found.append(
                dict(zip(_FUSED, said, strict=True))
                | {
                    OUTPUT_VIEW_LOGITS: seen.view_logits[index][chosen],
                    OUTPUT_LIVER_LOGIT: seen.liver_logit[index][chosen],
                    OUTPUT_SALIENCY: np.zeros((len(chosen), len(GRADES), 1, 1), np.float32),
                }
            )
        return found


def _input_of(graph: onnx.ModelProto, weight: str) -> str:
    """Return the value that a weight, stored as it is or as half, is multiplied with."""
    found = next((node.input[0] for node in graph.graph.node if weight in node.input), None)
    if found is None:
        raise BundleError(
            f"a member has no {weight}, so its graph cannot be cut: it was not made by `python -m training reference`",
            remedy="a bundle of `system-export` is made anew by exporting its run again",
        )
    return found


def _as_contract(first: onnx.ModelProto, embedding: str, read: str) -> onnx.ModelProto:
    """Give a first half the contract's outputs, those that it lacks as copies of one that it has."""
    given = dict(zip(_IN_PLACE_OF, (embedding, read), strict=True)) | {name: name for name in _SEEN}
    for name in OUTPUTS:
        if name not in _SEEN:
            first.graph.node.append(onnx.helper.make_node("Identity", [given.get(name, OUTPUT_LIVER_LOGIT)], [name]))
    ranks = dict.fromkeys((*_IN_PLACE_OF, OUTPUT_VIEW_LOGITS), 2)
    outputs = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None] * ranks.get(name, 1))
        for name in OUTPUTS
    ]
    _keep(first.graph.output, outputs)
    return first


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
