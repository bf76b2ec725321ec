"""From fitted members to a bundle folder: graphs to the contract, golden vectors, digests."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from inference.contract import CHANNELS, GRADES, INPUT_VIEWS, OUTPUTS, VIEWS
from inference.description import FORMAT
from training.members.models import Member
from training.members.trunk import fused

OPSET: Final = 18
SMALL: Final = 16
"""Constants with fewer elements keep float32: shapes, epsilons, scales."""
TOLERANCE: Final = {
    "grade_logits": 2e-2,
    "fat_fraction": 5e-2,
    "view_weights": 5e-3,
    "view_grade_logits": 2e-2,
    "view_logits": 5e-2,
    "liver_logit": 5e-2,
}
"""Largest deviation from the golden vectors that changes nothing a reader sees; the map's is relative, see below."""
WRITTEN: Final = ("format", "views", "grades")
"""What `write_description` adds itself to a bundle's parts."""
SALIENCY_TOLERANCE: Final = 0.02
"""Of the largest golden map value."""
AnyMember = TypeVar("AnyMember", bound=nn.Module)


def shipped(member: Member) -> Member:
    """Return the member as it ships: normalisation folded into the convolutions, weights rounded to float16.

    The rounding happens here, before golden vectors are made, so the graph has nothing left to lose.
    """
    member = copy.deepcopy(member).eval()
    member.trunk = fused(member.trunk)
    return rounded(member)


def rounded(member: AnyMember) -> AnyMember:
    """Round a member's weights to what float16 holds, in place, and give it back for inference."""
    with torch.no_grad():
        for tensor in (*member.parameters(), *member.buffers()):
            if tensor.is_floating_point():
                tensor.copy_(tensor.half().float())
    return member.eval().requires_grad_(False)


def export_member(member: nn.Module, size: int, path: Path) -> None:
    """Write one shipped member as a self-contained ONNX graph with float16 weights and float32 arithmetic.

    It takes views [V, C, H, W] under that name, and gives `training.members.models.Outputs`.
    """
    example = torch.zeros(3, len(CHANNELS), size, size)
    views = torch.export.Dim("V", min=1, max=64)
    with _quiet():
        program = torch.onnx.export(
            member,
            (example,),
            input_names=[INPUT_VIEWS],
            output_names=list(OUTPUTS),
            dynamic_shapes={"views": {0: views}},
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    model = halved(program.model_proto)
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString(deterministic=True))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Leave out what torch's exporter says of itself: packages that it would use, and ways that it will leave."""
    told = logging.getLogger("torch.onnx")
    level = told.level
    told.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning, message=".*LeafSpec.*")
            yield
    finally:
        told.setLevel(level)


def halved(model: onnx.ModelProto) -> onnx.ModelProto:
    """Store float32 weights as float16 with a cast behind each, which engines fold when they load the graph."""
    casts, kept = [], []
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if tensor.data_type != TensorProto.FLOAT or values.size < SMALL:
            kept.append(tensor)
            continue
        name = f"{tensor.name}_half"
        kept.append(numpy_helper.from_array(values.astype(np.float16), name))
        casts.append(helper.make_node("Cast", [name], [tensor.name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    for node in nodes:
        node.doc_string = ""
        del node.metadata_props[:]
    del model.graph.initializer[:], model.graph.node[:], model.graph.value_info[:]
    del model.graph.metadata_props[:], model.metadata_props[:]
    model.graph.initializer.extend(kept)
    model.graph.node.extend(nodes)
    return model


def golden_vectors(members: Sequence[nn.Module], cases: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Return inputs and what each shipped member makes of them in torch, by the keys that `inference.verify` reads."""
    vectors = {}
    for number, views in enumerate(cases):
        vectors[f"case{number}_views"] = views.astype(np.float32)
        for index, member in enumerate(members):
            with torch.no_grad():
                outputs = member(torch.from_numpy(views.astype(np.float32)))
            for name in OUTPUTS:
                vectors[f"case{number}_member{index}_{name}"] = getattr(outputs, name).numpy()
    return vectors


def write_members(members: Sequence[Member], size: int, cases: Sequence[np.ndarray], folder: Path) -> dict[str, Any]:
    """Write graphs and golden vectors; return their part of `bundle.json`."""
    return write_shipped([shipped(member) for member in members], size, cases, folder)


def write_shipped(ready: Sequence[nn.Module], size: int, cases: Sequence[np.ndarray], folder: Path) -> dict[str, Any]:
    """Write members that are as they ship."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for index, member in enumerate(ready):
        path = folder / f"member-{index}.onnx"
        export_member(member, size, path)
        entries.append({"file": path.name, "sha256": digest_of(path)})
        print(f"{path.name}: {path.stat().st_size / 2**20:.2f} MiB", flush=True)
    vectors = golden_vectors(ready, cases)
    golden = folder / "golden.npz"
    np.savez_compressed(golden, **vectors)
    maps = [values.max() for key, values in vectors.items() if key.endswith("_saliency")]
    tolerance = {**TOLERANCE, "saliency": float(SALIENCY_TOLERANCE * max(maps))}
    return {
        "members": entries,
        "golden": {"file": golden.name, "sha256": digest_of(golden), "tolerance": tolerance},
    }


def write_description(folder: Path, parts: dict[str, Any]) -> None:
    """Write `bundle.json` from its parts."""
    description = {"format": FORMAT, "views": list(VIEWS), "grades": list(GRADES), **parts}
    (folder / "bundle.json").write_text(json.dumps(description, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file, as a bundle's description names it."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
