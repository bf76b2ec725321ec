"""Phantom patients looked at by a bundle, a few at a time and kept, so that an interrupted run goes on.

What members make of a view is a hundred times smaller than the view, so thousands of patients cost no disk.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from training.bundle.configuration import Data
from training.bundle.halves import Halves, Seen
from training.frames.data import study_of
from training.keeping import whole

CHUNK: Final = 100
"""Patients rendered, looked at and kept at a time."""
NAMES: Final = ("embedding", "pooled", "view_logits", "liver_logit")

Make = Callable[[int], tuple[np.ndarray, float]]


@dataclass(frozen=True, kw_only=True)
class Draw:
    """Which phantom patients: the arguments of `training.frames.data.study_of` but for the place."""

    seed: int
    split: str = "test"
    trimmed: float = 0.0
    foreign: bool = False
    phased: float = 0.0
    heavy: float = 0.0

    @classmethod
    def held_out(cls, data: Data, split: str) -> Draw:
        """Return the patients of an experiment that no member learns from."""
        return cls(seed=data.seed, split=split, trimmed=data.trimmed_held_out, phased=data.phased, heavy=data.heavy)

    def study(self, size: int) -> Make:
        """Return what renders a patient by place."""
        shares = {"trimmed": self.trimmed, "foreign": self.foreign, "phased": self.phased, "heavy": self.heavy}
        return partial(study_of, self.split, self.seed, size, **shares)

    @property
    def folder(self) -> str:
        """Name that tells these patients from others."""
        site = "foreign" if self.foreign else "home"
        return f"{self.split}-{self.seed}-{site}-{self.trimmed}-{self.phased}-{self.heavy}"


def looked_at(
    members: Sequence[bytes], size: int, patients: int, draw: Draw, folder: Path, *, workers: int = 2
) -> tuple[Seen, np.ndarray]:
    """Return what members make of patients' views, four of each, and the patients' fat fractions [N].

    Parameters
    ----------
    members
        ONNX graphs as `training.bundle.export` writes them.
    size
        Rows and columns of their input.
    folder
        Keeps what is done, by members and patients; a bundle's calibration may change.
    """
    made_by = hashlib.sha256(b"".join(members)).hexdigest()[:12]
    kept = folder / f"{made_by}-{draw.folder}"
    kept.mkdir(parents=True, exist_ok=True)
    parts = list(_parts(draw.study(size), Halves(members), patients, kept, workers))
    seen = Seen(
        **{
            name: [np.concatenate([part[f"{name}_{member}"] for part in parts]) for member in range(len(members))]
            for name in NAMES
        }
    )
    return seen, np.concatenate([part["fat"] for part in parts])


def _parts(make: Make, halves: Halves, patients: int, kept: Path, workers: int) -> Iterator[dict[str, np.ndarray]]:
    """Yield what is kept of each chunk of patients; the next to be made is rendered while one is looked at."""
    chunks = [(start, min(start + CHUNK, patients)) for start in range(0, patients, CHUNK)]
    paths = {chunk: kept / f"{chunk[0]:06}-{chunk[1]:06}.npz" for chunk in chunks}
    missing = [chunk for chunk in chunks if not paths[chunk].exists()]
    with ProcessPoolExecutor(workers, initializer=os.nice, initargs=(5,)) as pool:
        ahead = (pool.map(make, range(*chunk), chunksize=4) for chunk in missing)
        rendered = next(ahead, ())
        for chunk, path in paths.items():
            if chunk in missing:
                views, fat = zip(*rendered, strict=True)
                rendered = next(ahead, ())
                seen = halves.look(np.concatenate(views))
                arrays = {
                    f"{name}_{member}": values
                    for name, found in vars(seen).items()
                    for member, values in enumerate(found)
                }
                with whole(path) as partial_path:
                    np.savez(partial_path, fat=np.array(fat, np.float32), **arrays)
                print(f"{kept.name}: {chunk[1]} of {patients} patients looked at", flush=True)
            with np.load(path) as found:
                yield {name: found[name] for name in found.files}
