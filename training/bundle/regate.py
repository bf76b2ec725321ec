"""Fit the liver gate of a finished bundle anew, on what its own graphs see; nothing else of it changes.

The gate is a line through each member's pooled features, and frames for it come cheaper than members. So what it must
take or refuse can be widened without fitting anything else again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import numpy_helper

from inference.contract import INPUT_VIEWS
from training.bundle.card import write_card
from training.bundle.configuration import Data
from training.bundle.export import WRITTEN, digest_of, write_description
from training.bundle.halves import Halves
from training.frames.cuts import cut_out, read_grey, seeded, through_sector, trimmed
from training.frames.data import (
    EDITED_ROWS,
    edits_of,
    grafts_of,
    negative_of,
    negative_picture,
    prepared,
    real_frames,
    real_of,
    study_of,
)
from training.frames.grafts import grafted
from training.members.gate import logistic
from training.phantom import NEGATIVES

HEAD: Final = "liver.weight", "liver.bias"
CUTS: Final = 2
"""Of each real frame: parts from anywhere and trimmed fields by turns."""
PHANTOMS: Final = {"train": 150, "calibration": 50, "test": 100}
"""Patients whose phantom views it looks at, half of them trimmed or cut."""
HEARTS: Final = ("heart", "echo", "axis")
"""Ways of `training.frames.grafts` that stay what they are when they are cut: the others may then look like liver."""
LOST: Final = 0.04
"""Share of each set of calibration livers that the threshold may lose: a study shows its liver in several frames."""
_BATCH: Final = 32


@dataclass(frozen=True, kw_only=True)
class Frames:
    """What a gate learns from or is tried on, each float16 [N, 3, S, S]."""

    phantoms: np.ndarray
    real: np.ndarray
    """Real liver frames as they are."""
    cuts: np.ndarray
    """The same cut out of their sector."""
    phased: np.ndarray
    """The same through a sector probe."""
    edits: np.ndarray
    others: np.ndarray
    """Not liver B-mode, whole frames and cuts."""


def kept_frames(data: Data, split: str, folder: Path | None, *, workers: int = 2) -> Frames:
    """Return the frames of a split, made now or read from `folder`, a run's, where an earlier step left them."""
    path = None if folder is None else folder / f"gate-{split}.npz"
    if path is not None and path.exists():
        with np.load(path) as found:
            return Frames(**{name: found[name] for name in found.files})
    members = None if folder is None else folder / "data" / split
    made = members if members is not None and (members / "done").exists() else None
    frames = gate_frames(data, split, made, workers=workers)
    if path is not None:
        partial_path = path.with_suffix(".partial.npz")
        np.savez(partial_path, **vars(frames))
        partial_path.replace(path)
    return frames


def gate_frames(data: Data, split: str, kept: Path | None = None, *, workers: int = 2) -> Frames:
    """Make the frames of a split, with the real ones of `data.real_frames`.

    `kept` is the split's folder (`training.frames.data.make_split`), whose frames need not be made again.
    """
    paths = real_frames(Path(data.real_frames), split) if data.real_frames else []
    with ProcessPoolExecutor(workers) as pool:

        def made(make: Callable[..., Any], over: Sequence[Any]) -> list[Any]:
            return [found for found in pool.map(make, over, chunksize=8) if found is not None]

        count = data.negatives if split == "train" else data.negatives // 4
        if kept is None:
            carved = made(partial(grafts_of, data.size, data.seed), paths)
            others = made(partial(negative_of, split, data.seed, data.size), range(count))
            others += [one for own in carved for one in own]
            real = made(partial(real_of, data.size), paths)
        else:
            others, real = (list(np.load(kept / f"{name}.npy")) for name in ("negatives", "positives"))
        cut = made(partial(_negative_cut, split, data), range(count // 2))
        carved_cut = made(partial(_carved_cut, data), paths)
        shares = {"trimmed": 0.5, "phased": data.phased, "heavy": data.heavy}
        studies = made(partial(study_of, split, data.seed + 1, data.size, **shares), range(PHANTOMS[split]))
        edits = made(partial(edits_of, data.size, 1, data.seed), paths[::3])
        cuts = made(partial(_cuts, data), paths)
        pies = made(partial(_pie, data), paths)
        return Frames(
            phantoms=np.concatenate([views for views, _ in studies]),
            real=_stack(real, data.size),
            cuts=_stack([one for own in cuts for one in own], data.size),
            phased=_stack(pies, data.size),
            edits=_stack([views[0] for views, _ in edits], data.size),
            others=_stack([*others, *cut, *(one for own in carved_cut for one in own)], data.size),
        )


def _stack(frames: Sequence[np.ndarray], size: int) -> np.ndarray:
    return np.stack(frames) if len(frames) else np.zeros((0, 3, size, size), np.float16)


def _cuts(data: Data, path: Path) -> list[np.ndarray]:
    pixels, rng = read_grey(path, EDITED_ROWS), seeded(data.seed, path)
    found = (prepared((cut_out, trimmed)[turn % 2](pixels, rng), None, data.size) for turn in range(CUTS))
    return [one for one in found if one is not None]


def _pie(data: Data, path: Path) -> np.ndarray | None:
    return prepared(through_sector(read_grey(path, EDITED_ROWS), seeded(data.seed + 3, path)), None, data.size)


def _carved_cut(data: Data, path: Path) -> list[np.ndarray]:
    """Cut hearts carved into a real frame."""
    pixels, rng = read_grey(path, EDITED_ROWS), seeded(data.seed + 1, path)
    found = (prepared(cut_out(grafted(pixels, way, rng), rng), None, data.size) for way in HEARTS)
    return [one for one in found if one is not None]


def _negative_cut(split: str, data: Data, index: int) -> np.ndarray | None:
    rng = np.random.default_rng([data.seed, 20 + len(split), index])
    return prepared(cut_out(negative_picture(tuple(NEGATIVES)[index % len(NEGATIVES)], rng), rng), None, data.size)


def pooled(graph: onnx.ModelProto, frames: np.ndarray) -> np.ndarray:
    """Return what a member's gate reads, float32 [N, C], of frames [N, 3, S, S]."""
    graph = onnx.ModelProto.FromString(graph.SerializeToString())
    name = next(node.input[0] for node in graph.graph.node if HEAD[0] in node.input)
    graph.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found = [
        session.run([name], {INPUT_VIEWS: frames[start : start + _BATCH].astype(np.float32)})[0]
        for start in range(0, len(frames), _BATCH)
    ]
    return np.concatenate(found)


def regate(
    folder: Path,
    data: Data,
    version: str,
    *,
    kept: float = 0.0,
    threshold: float | None = None,
    frames_in: Path | None = None,
    workers: int = 2,
) -> dict[str, Any]:
    """Fit the gate of every member in a bundle's folder, and write graphs, golden vectors, description and card.

    Parameters
    ----------
    kept
        Share, 0 to 1, that the line which the bundle came with keeps in the new one.
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
    frames = kept_frames(data, "train", frames_in, workers=workers)
    lines = _fitted(_halves(folder, described), frames)
    print(f"gate fitted on {sum(len(part) for part in vars(frames).values())} frames", flush=True)
    _write_lines(folder, described, lines, kept)
    if threshold is None:
        held = kept_frames(data, "calibration", frames_in, workers=workers)
        halves = _halves(folder, described)
        known = (held.real, held.cuts, held.phased, held.phantoms)
        threshold = gate_threshold([halves.liver_logits(part) for part in known])
    described |= {"version": version, "liver_logit_minimum": threshold}
    described["training_data"]["negatives"] = len(frames.others)
    described["training_data"]["real_frames"]["cuts_of_each"] = CUTS
    passed = _passed(folder, described, kept_frames(data, "test", frames_in, workers=workers))
    described["metrics"]["liver_gate"] = passed
    write_description(folder, {name: value for name, value in described.items() if name not in WRITTEN})
    if f"{described['expected_views']}_views" in described["metrics"]:  # else its figures are still to come
        write_card(folder)
    return passed


def _halves(folder: Path, described: dict[str, Any]) -> Halves:
    return Halves([(folder / entry["file"]).read_bytes() for entry in described["members"]])


def _write_lines(
    folder: Path, described: dict[str, Any], lines: Sequence[tuple[np.ndarray, float]], kept: float
) -> None:
    """Put lines into the graphs of a bundle's folder, and what they say into its golden vectors; note the digests.

    `kept` is the share of the line that each graph has.
    """
    golden = folder / described["golden"]["file"]
    with np.load(golden) as found:
        vectors = {name: found[name] for name in found.files}
    for index, (entry, new) in enumerate(zip(described["members"], lines, strict=True)):
        path = folder / entry["file"]
        graph = onnx.load(path)
        old = _line(graph)
        weight = (kept * old[0] + (1.0 - kept) * new[0]).astype(np.float16).astype(np.float32)
        bias = kept * old[1] + (1.0 - kept) * new[1]
        _replace(graph, weight, bias)
        path.write_bytes(graph.SerializeToString(deterministic=True))
        entry["sha256"] = digest_of(path)
        for name in [name for name in vectors if name.endswith("_views")]:
            said = pooled(graph, vectors[name]) @ weight + bias
            vectors[f"{name.removesuffix('_views')}_member{index}_liver_logit"] = said.astype(np.float32)
    np.savez_compressed(golden, **vectors)
    described["golden"]["sha256"] = digest_of(golden)


def gate_threshold(livers: Sequence[np.ndarray]) -> float:
    """Return the least liver logit of what is taken, by sets of livers that no line was fitted to; some may be empty.

    It is as strict as known livers allow: of no set more than `LOST` is refused. What is not liver comes in more kinds
    than can be drawn, so frames that were drawn would say too little of where to stop.
    """
    return min(float(np.quantile(part, LOST)) for part in livers if len(part))


def _fitted(halves: Halves, frames: Frames) -> list[tuple[np.ndarray, float]]:
    """Return each member's line [C] and offset, rounded as graphs keep them; both sides weigh alike."""
    parts = (frames.phantoms, frames.real, frames.cuts, frames.phased, frames.edits)
    livers = [halves.look(part).pooled for part in parts if len(part)]
    found = []
    for index, others in enumerate(halves.look(frames.others).pooled):
        own = torch.from_numpy(np.concatenate([part[index] for part in livers]))
        line, offset = logistic(own, torch.from_numpy(others))
        found.append((line.numpy().astype(np.float16).astype(np.float32), float(offset)))
    return found


def _line(graph: onnx.ModelProto) -> tuple[np.ndarray, float]:
    """Return the line [C] that a graph has, and its offset."""
    found = {tensor.name: numpy_helper.to_array(tensor).astype(np.float32) for tensor in graph.graph.initializer}
    weight = found.get(f"{HEAD[0]}_half", found.get(HEAD[0]))
    return weight.ravel(), float(found[HEAD[1]].ravel()[0])


def _replace(graph: onnx.ModelProto, weight: np.ndarray, bias: float) -> None:
    for tensor in graph.graph.initializer:
        if tensor.name in (f"{HEAD[0]}_half", HEAD[0]):
            kept = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array(weight.reshape(kept.shape).astype(kept.dtype), tensor.name))
        elif tensor.name == HEAD[1]:
            tensor.CopyFrom(numpy_helper.from_array(np.array([bias], np.float32), tensor.name))


def _passed(folder: Path, described: dict[str, Any], frames: Frames) -> dict[str, Any]:
    halves = _halves(folder, described)

    def share(part: np.ndarray) -> float | None:
        least = described["liver_logit_minimum"]
        return float(np.mean(halves.liver_logits(part) >= least)) if len(part) else None

    return {
        "phantom_livers_passed": share(frames.phantoms),
        "real_livers_passed": share(frames.real),
        "real_livers": len(frames.real),
        "cut_livers_passed": share(frames.cuts),
        "cut_livers": len(frames.cuts),
        "phased_livers_passed": share(frames.phased),
        "phased_livers": len(frames.phased),
        "others_passed": share(frames.others),
        "others": len(frames.others),
    }
