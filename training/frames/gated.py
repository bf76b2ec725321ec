"""What a liver gate learns from and is tried on: livers however they are shown, and much that is none.

Each set is made by itself and kept by itself, so that an interrupted run goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from inference.contract import CHANNELS, VIEWS
from training.bundle.configuration import Data
from training.frames.augment import Region
from training.frames.cuts import cut_out, read_grey, seeded, through_sector, trimmed
from training.frames.data import (
    EDITED_ROWS,
    SPLITS,
    edits_of,
    grafts_of,
    heavier,
    negative_of,
    negative_picture,
    prepared,
    prepared_view,
    real_frames,
    real_of,
)
from training.frames.grafts import MET, grafted
from training.phantom import NEGATIVES, Scanner, draw_patient, render_negative

KEPT: Final = ("whole", "cut", "trimmed", "phased")
"""How a liver is shown: as it is, cut out of its sector, trimmed to its field, through a sector probe."""
CUTS: Final = 3
"""Of each real frame in each way but whole."""
PHANTOMS: Final = {"train": 300, "calibration": 200, "test": 100}
"""Phantom frames in each way, each of a patient of its own."""
CUT_HEARTS: Final = ("heart", "echo", "axis")
"""Ways of `training.frames.grafts` that stay what they are when they are cut: the others may then look like liver."""
PARTS: Final = 3
"""Cut out of each drawn picture, which is seen whole besides."""
SORTS: Final[Mapping[str, Sequence[str]]] = {
    "drawn": ("drawn", "drawn, cut"),
    "carved": ("carved", "carved, cut"),
    "hearts": ("hearts", "echoes", "echoes, cut", "met", "met, cut"),
    "pictures": ("pictures", "pictures, cut"),
}
"""Sets of what is no liver by sort; a gate gives each sort the same weight."""


@dataclass(frozen=True, kw_only=True)
class Frames:
    """Sets by name, each float16 [N, 3, S, S]; some may be empty."""

    livers: Mapping[str, np.ndarray]
    """`KEPT`, of real frames; the same with `phantoms, ` before it; and `edits` of real frames."""
    others: Mapping[str, np.ndarray]
    """Not liver B-mode, by the names in `SORTS`."""

    def __len__(self) -> int:
        return sum(len(part) for part in (*self.livers.values(), *self.others.values()))


_Make = Callable[..., list[np.ndarray]]


def gate_frames(data: Data, split: str, folder: Path | None = None, *, workers: int = 2) -> Frames:
    """Make the frames of a split, with the real ones of `data.real_frames`, or read them from `folder`.

    Parameters
    ----------
    folder
        Keeps each set of each split as an array; None keeps nothing.
    """
    paths = real_frames(Path(data.real_frames), split) if data.real_frames else []
    count = data.negatives if split == "train" else data.negatives // 4
    livers = {way: _real(data, way, paths) for way in KEPT}
    livers |= {f"phantoms, {way}": (partial(_phantom, data, split, way), range(PHANTOMS[split])) for way in KEPT}
    livers["edits"] = partial(_edit, data), paths[::3]
    others = {
        "drawn": (partial(_drawn, split, data), range(count)),
        "drawn, cut": (partial(_drawn_cut, split, data), range(count // 2)),
        "carved": (partial(grafts_of, data.size, data.seed), paths),
        "carved, cut": (partial(_carved_cut, data), paths),
        "hearts": (partial(_rendered, split, data, "heart", False), range(count // 2)),
        "echoes": (partial(_rendered, split, data, "echo", False), range(count)),
        "echoes, cut": (partial(_rendered, split, data, "echo", True), range(count // 2)),
        "met": (partial(_met, data, False), paths),
        "met, cut": (partial(_met, data, True), paths),
        "pictures": (partial(_picture, split, data, 0), range(count // 2)),
        "pictures, cut": (partial(_picture, split, data, PARTS), range(count // 2)),
    }
    with ProcessPoolExecutor(workers) as pool:
        made = {
            name: _kept(pool, make, over, data.size, None if folder is None else folder / split / f"{name}.npy")
            for name, (make, over) in (livers | others).items()
        }
    return Frames(livers={name: made[name] for name in livers}, others={name: made[name] for name in others})


def _kept(pool: Executor, make: _Make, over: Sequence[object], size: int, path: Path | None) -> np.ndarray:
    if path is not None and path.exists():
        return np.load(path)
    found = [one for own in pool.map(make, over, chunksize=4) for one in own]
    frames = np.stack(found) if found else np.zeros((0, len(CHANNELS), size, size), np.float16)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial_path = path.with_suffix(".partial.npy")
        np.save(partial_path, frames)
        partial_path.replace(path)
    return frames


def _usable(*frames: np.ndarray | None) -> list[np.ndarray]:
    """Leave out frames in which serving finds no sector."""
    return [one for one in frames if one is not None]


def _real(data: Data, way: str, paths: Sequence[Path]) -> tuple[_Make, Sequence[Path]]:
    return (partial(_as_it_is, data), paths) if way == "whole" else (partial(_shown, data, way), paths)


def _as_it_is(data: Data, path: Path) -> list[np.ndarray]:
    return _usable(real_of(data.size, path))


def _shown(data: Data, way: str, path: Path) -> list[np.ndarray]:
    pixels, rng = read_grey(path, EDITED_ROWS), seeded(data.seed + 10 + KEPT.index(way), path)
    show = {"cut": cut_out, "trimmed": trimmed, "phased": through_sector}[way]
    return _usable(*(prepared(show(pixels, rng), None, data.size) for _ in range(CUTS)))


def _edit(data: Data, path: Path) -> list[np.ndarray]:
    found = edits_of(data.size, 1, data.seed, path)
    return [] if found is None else list(found[0])


def _phantom(data: Data, split: str, way: str, index: int) -> list[np.ndarray]:
    """Render one view of a patient of its own."""
    rng = np.random.default_rng([data.seed, 50 + KEPT.index(way), SPLITS.index(split), index])
    patient, scanner = draw_patient(rng), (Scanner.phased if way == "phased" else Scanner.random)(rng)
    if rng.random() < data.heavy:
        patient = heavier(patient, rng)

    def keep(pixels: np.ndarray, region: Region) -> tuple[np.ndarray, Region]:
        if way not in ("cut", "trimmed"):
            return pixels, region
        part = (cut_out if way == "cut" else trimmed)(pixels, rng)
        return part, (0, 0, part.shape[1], part.shape[0])

    return [prepared_view(patient, VIEWS[index % len(VIEWS)], scanner, rng, data.size, keep)]


def _drawn(split: str, data: Data, index: int) -> list[np.ndarray]:
    return _usable(negative_of(split, data.seed, data.size, index))


def _drawn_cut(split: str, data: Data, index: int) -> list[np.ndarray]:
    rng = np.random.default_rng([data.seed, 20 + len(split), index])
    picture = negative_picture(tuple(NEGATIVES)[index % len(NEGATIVES)], rng)
    return _usable(prepared(cut_out(picture, rng), None, data.size))


def _rendered(split: str, data: Data, kind: str, cut: bool, index: int) -> list[np.ndarray]:
    rng = np.random.default_rng([data.seed, 60 + len(kind) + 10 * cut, SPLITS.index(split), index])
    pixels = render_negative(kind, rng)
    return _usable(prepared(cut_out(pixels, rng) if cut else pixels, None, data.size))


def _carved_cut(data: Data, path: Path) -> list[np.ndarray]:
    """Cut hearts carved into a real frame."""
    pixels, rng = read_grey(path, EDITED_ROWS), seeded(data.seed + 1, path)
    found = (prepared(cut_out(grafted(pixels, way, rng), rng), None, data.size) for way in CUT_HEARTS)
    return _usable(*found)


def _met(data: Data, cut: bool, path: Path) -> list[np.ndarray]:
    """Carve hearts as they are met into a real frame."""
    pixels, rng = read_grey(path, EDITED_ROWS), seeded(data.seed + 20 + cut, path)
    carved = (grafted(pixels, way, rng) for way in MET)
    return _usable(*(prepared(cut_out(one, rng) if cut else one, None, data.size) for one in carved))


def _picture(split: str, data: Data, parts: int, index: int) -> list[np.ndarray]:
    """Draw a picture of things, of any size, and show it whole, or so many parts of it."""
    rng = np.random.default_rng([data.seed, 80, SPLITS.index(split), index])
    rows = int(rng.integers(200, 520))
    pixels = render_negative("picture", rng, rows=rows, columns=int(rows * rng.uniform(1.0, 1.8)))
    shown = [cut_out(pixels, rng) for _ in range(parts)] if parts else [pixels]
    return _usable(*(prepared(one, None, data.size) for one in shown))
