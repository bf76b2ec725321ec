"""Fit the liver gate of a finished bundle anew, on what its own graphs see; nothing else of it changes.

The gate reads each member's pooled features, and frames for it come cheaper than members. So what it must take or
refuse can be widened without fitting anything else again. A bundle whose gate is of another kind gets one of this kind.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper

from inference.contract import OUTPUT_LIVER_LOGIT
from training.bundle.card import write_card
from training.bundle.configuration import Data
from training.bundle.export import WRITTEN, halved, write_description
from training.bundle.halves import POOLED, Halves, input_of
from training.frames.gated import CUTS, KEPT, SORTS, Frames, gate_frames
from training.members.gate import fitted_gate, lesson
from training.members.models import LiverGate

LOST: Final = 0.04
"""Share of each set of calibration livers that the threshold may lose: a study shows its liver in several frames."""
_KNOWN: Final = (*KEPT, *(f"phantoms, {way}" for way in KEPT))
"""Sets of livers of which the threshold may lose so much."""


def regate(
    folder: Path,
    data: Data,
    version: str,
    *,
    threshold: float | None = None,
    frames_in: Path | None = None,
    workers: int = 2,
) -> dict[str, Any]:
    """Fit the gate of every member in a bundle's folder, and write graphs, golden vectors, description and card.

    Parameters
    ----------
    threshold
        Least liver logit of what is taken; None lets the calibration frames decide.
    frames_in
        Folder that keeps the frames.

    Returns
    -------
    dict
        What the gate lets pass, as the card has it.
    """
    described = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    frames = gate_frames(data, "train", frames_in, workers=workers)
    gates = _fitted(_halves(folder, described), frames)
    print(f"gate fitted on {len(frames)} frames", flush=True)
    _write_gates(folder, described, gates)
    halves = _halves(folder, described)
    if threshold is None:
        held = gate_frames(data, "calibration", frames_in, workers=workers).livers
        threshold = gate_threshold([halves.liver_logits(held[name]) for name in _KNOWN])
    described |= {"version": version, "liver_logit_minimum": threshold}
    described["training_data"]["negatives"] = sum(map(len, frames.others.values()))
    described["training_data"]["real_frames"] |= {"cuts_of_each": len(KEPT[1:]) * CUTS}
    described["training_data"]["drawn_pictures"] = len(frames.others["pictures"])
    passed = _passed(halves, threshold, gate_frames(data, "test", frames_in, workers=workers))
    described["metrics"]["liver_gate"] = passed
    write_description(folder, {name: value for name, value in described.items() if name not in WRITTEN})
    if f"{described['expected_views']}_views" in described["metrics"]:  # else its figures are still to come
        write_card(folder)
    return passed


def _halves(folder: Path, described: dict[str, Any]) -> Halves:
    return Halves([(folder / entry["file"]).read_bytes() for entry in described["members"]])


def _write_gates(folder: Path, described: dict[str, Any], gates: Sequence[LiverGate]) -> None:
    """Put gates into the graphs of a bundle's folder, and what they say into its golden vectors; note the digests."""
    golden = folder / described["golden"]["file"]
    with np.load(golden) as found:
        vectors = {name: found[name] for name in found.files}
    views = [name for name in vectors if name.endswith("_views")]
    halves = _halves(folder, described)
    read = {name: halves.look(vectors[name]).pooled for name in views}
    for index, (entry, gate) in enumerate(zip(described["members"], gates, strict=True)):
        path = folder / entry["file"]
        path.write_bytes(gated(onnx.load(path), gate).SerializeToString(deterministic=True))
        entry["sha256"] = _digest(path)
        for name in views:
            with torch.no_grad():
                said = gate(torch.from_numpy(read[name][index])).squeeze(-1)
            vectors[f"{name.removesuffix('_views')}_member{index}_{OUTPUT_LIVER_LOGIT}"] = said.numpy()
    np.savez_compressed(golden, **vectors)
    described["golden"]["sha256"] = _digest(golden)


def gate_threshold(livers: Sequence[np.ndarray]) -> float:
    """Return the least liver logit of what is taken, by sets of livers that no gate was fitted to; some may be empty.

    It is as strict as known livers allow: of no set more than `LOST` is refused. What is not liver comes in more kinds
    than can be drawn, so frames that were drawn would say too little of where to stop.
    """
    return min(float(np.quantile(part, LOST)) for part in livers if len(part))


def _fitted(halves: Halves, frames: Frames) -> list[LiverGate]:
    """Return each member's gate, rounded as graphs keep it."""
    livers = [halves.look(part).pooled for part in frames.livers.values() if len(part)]
    others = {name: halves.look(part).pooled for name, part in frames.others.items() if len(part)}
    sorts = [[others[name] for name in names if name in others] for names in SORTS.values()]
    found = []
    for index in range(len(livers[0])):
        own = [torch.from_numpy(part[index]) for part in livers]
        none = [torch.from_numpy(np.concatenate([part[index] for part in sort])) for sort in sorts if sort]
        found.append(fitted_gate(lesson(own, none)).half().float().requires_grad_(False))
    return found


def gated(graph: onnx.ModelProto, gate: LiverGate) -> onnx.ModelProto:
    """Return a member's graph with another gate, whatever its own is like; all other nodes stay as they are."""
    graph = onnx.ModelProto.FromString(graph.SerializeToString())
    read = input_of(graph, POOLED)
    _left_out(graph, OUTPUT_LIVER_LOGIT)
    weights = {f"liver.{name}": value.numpy() for name, value in gate.state_dict().items()}
    tensors = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    tensors.append(numpy_helper.from_array(np.array([-1], np.int64), "liver.last"))
    nodes = [
        _layer("hidden", read, "liver_seen"),
        helper.make_node("Relu", ["liver_seen"], ["liver_bent"]),
        _layer("judge", "liver_bent", "liver_judged"),
        helper.make_node("Squeeze", ["liver_judged", "liver.last"], [OUTPUT_LIVER_LOGIT]),
    ]
    part = halved(helper.make_model(helper.make_graph(nodes, "gate", [], [], tensors)))
    graph.graph.initializer.extend(part.graph.initializer)
    graph.graph.node.extend(part.graph.node)
    onnx.checker.check_model(graph, full_check=True)
    return graph


def _layer(name: str, read: str, makes: str) -> onnx.NodeProto:
    return helper.make_node("Gemm", [read, f"liver.{name}.weight", f"liver.{name}.bias"], [makes], transB=1)


def _left_out(graph: onnx.ModelProto, output: str) -> None:
    """Take the node of an output out of a graph, and all nodes and weights that nothing else needs."""
    nodes, initializers = graph.graph.node, graph.graph.initializer
    unused = {output}
    while unused:
        for node in [node for node in nodes if set(node.output) & unused]:
            nodes.remove(node)
        needed = {name for node in nodes for name in node.input} | {value.name for value in graph.graph.output}
        unused = {name for node in nodes for name in node.output if not set(node.output) & needed}
    for tensor in [tensor for tensor in initializers if tensor.name not in needed]:
        initializers.remove(tensor)


def _passed(halves: Halves, least: float, frames: Frames) -> dict[str, Any]:
    def share(sets: Mapping[str, np.ndarray], *names: str) -> dict[str, Any]:
        logits = np.concatenate([halves.liver_logits(sets[name]) for name in names])
        return {"passed": float(np.mean(logits >= least)) if len(logits) else None, "frames": len(logits)}

    found = {
        "phantom_livers": share(frames.livers, *_KNOWN[len(KEPT) :]),
        "real_livers": share(frames.livers, "whole"),
        "cut_livers": share(frames.livers, "cut"),
        "trimmed_livers": share(frames.livers, "trimmed"),
        "phased_livers": share(frames.livers, "phased"),
        "others": share(frames.others, *frames.others),
    }
    passed: dict[str, Any] = {}
    for name, one in found.items():
        passed |= {f"{name}_passed": one["passed"], name: one["frames"]}
    return passed


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
