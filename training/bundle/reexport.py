"""A finished bundle's members exported anew, by the exporter as it is now; what they learnt stays to the last bit.

Fitted members need not be at hand: a graph holds all weights, nearly all under the names that torch gives them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from inference.backends.registry import open_engine
from inference.contract import OUTPUT_SALIENCY, OUTPUTS
from inference.description import BundleError
from training.bundle.card import write_card
from training.bundle.export import WRITTEN, write_description, write_shipped
from training.members.models import Member
from training.members.trunk import fused
from training.members.trunks import name_of, new_trunk

AGREES: Final = 1e-6
"""How far an output may move, as a share of its largest golden value; maps alone may move further."""


def shipped_member(content: bytes, trunk: str = "lite0") -> Member:
    """Return the member that a graph was exported from, as it ships; `trunk` is the name of its kind.

    Raises
    ------
    ValueError
        The graph lacks a weight.
    """
    graph = onnx.load_from_string(content).graph
    stored = {one.name.removesuffix("_half"): numpy_helper.to_array(one) for one in graph.initializer}
    member = Member(new_trunk(trunk)).eval()
    member.trunk = fused(member.trunk)
    state = member.state_dict()
    for name, own in state.items():
        if not name.endswith("num_batches_tracked"):
            found = np.array(_weight(name, graph, stored), np.float32).reshape(own.shape)
            state[name] = torch.from_numpy(found)
    member.load_state_dict(state)
    return member.requires_grad_(False)


def _weight(name: str, graph: onnx.GraphProto, stored: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return a weight from what a graph stores; the exporter turns one and squares another."""
    if name == "surer" and name not in stored:
        (logarithm,) = (node.output[0] for node in graph.node if node.op_type == "Log")
        return np.sqrt(stored[_beside(graph, "Mul", logarithm)]).astype(np.float16)  # as it was rounded to ship
    if name == "fat.weight" and name not in stored:
        product = _beside(graph, "Add", "fat.bias")
        (found,) = (one for node in graph.node if product in node.output for one in node.input if one in stored)
        return stored[found].T
    if name not in stored:
        raise ValueError(f"the graph holds no {name}")
    return stored[name]


def _beside(graph: onnx.GraphProto, operator: str, value: str) -> str:
    """Return what the one operator of its kind takes beside a value."""
    (node,) = (node for node in graph.node if node.op_type == operator and value in node.input)
    return next(name for name in node.input if name != value)


def reexport(folder: Path, version: str) -> dict[str, float]:
    """Export a finished bundle's members anew, in place: graphs, golden vectors, description and card.

    Returns
    -------
    dict
        By output, how far it moved on the golden views at most, as a share of its largest value there; maps left out.

    Raises
    ------
    ValueError
        An output other than the maps would move by more than `AGREES`; nothing is written.
    BundleError
        The folder is not a bundle's, whatever its format.
    """
    try:
        described = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
        before = [(folder / entry["file"]).read_bytes() for entry in described["members"]]
        if "system" in described["training_data"]:
            raise BundleError(f"{folder} is of a run of a system", remedy="export that run again by `system-export`")
        trunk = name_of(described["training_data"]["backbone"]["name"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{folder} is not a bundle: {error}") from error
    with np.load(folder / described["golden"]["file"]) as golden:
        cases = [golden[name] for name in sorted(golden.files) if name.endswith("_views")]
    members = [shipped_member(content, trunk) for content in before]
    with TemporaryDirectory() as aside:
        written = write_shipped(members, described["input"]["height"], cases, Path(aside))
        files = [*(entry["file"] for entry in written["members"]), written["golden"]["file"]]
        made = {file: (Path(aside) / file).read_bytes() for file in files}
    moved = _moved(before, [made[entry["file"]] for entry in written["members"]], cases)
    if max(moved.values()) > AGREES:
        raise ValueError(f"the members would answer otherwise: {moved}")
    parts = {name: value for name, value in described.items() if name not in WRITTEN}
    parts["metrics"].pop("maps", None)  # they are what may have changed
    if parts["version"] != version:
        parts["training_data"]["notes"].append(
            f"Weights, gate and calibration are those of {parts['version']}; graphs were exported anew."
        )
    for file, content in made.items():
        (folder / file).write_bytes(content)
    write_description(folder, {**parts, "version": version, **written})
    write_card(folder)
    return moved


def _moved(before: Sequence[bytes], after: Sequence[bytes], cases: Sequence[np.ndarray]) -> dict[str, float]:
    """Return by output how far members moved, as a share of its largest value; infinite where one is not finite."""
    names = [name for name in OUTPUTS if name != OUTPUT_SALIENCY]
    apart, sizes = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
    for old, new in zip(before, after, strict=True):
        engines = [open_engine("onnxruntime", [content], 1) for content in (old, new)]
        for views in cases:
            (was,), (becomes,) = (engine.run(views) for engine in engines)
            for name in names:
                apart[name] = max(apart[name], float(np.abs(becomes[name] - was[name]).max()))
                sizes[name] = max(sizes[name], float(np.abs(was[name]).max()))
    return {name: apart[name] / sizes[name] if np.isfinite(apart[name]) else float("inf") for name in names}
