"""New phantom patients looked at by a bundle, a few at a time and kept, so that an interrupted run goes on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from inference.bundle import Bundle
from training.bundle.halves import Halves, Seen
from training.frames.data import study_of

CHUNK: Final = 100
"""Patients rendered, looked at and kept at a time."""


def looked_at(
    bundle: Bundle,
    halves: Halves,
    patients: int,
    seed: int,
    folder: Path,
    *,
    workers: int = 2,
    trimmed: float = 0.0,
    foreign: bool = False,
) -> tuple[Seen, np.ndarray]:
    """Return what a bundle makes of new patients' views, four of each, and their fat fractions [N].

    Parameters
    ----------
    seed
        Of no experiment's data, or the patients are not new.
    folder
        Keeps what is done, by bundle and settings.
    trimmed
        Share of patients whose frames were not kept whole.
    foreign
        Scanners of another site.
    """
    kept = folder / f"{bundle.digest[:12]}-{seed}-{trimmed}-{'foreign' if foreign else 'home'}"
    kept.mkdir(parents=True, exist_ok=True)
    make = partial(study_of, "test", seed, bundle.geometry.height, trimmed=trimmed, foreign=foreign)
    parts = list(_parts(make, halves, patients, kept, workers))
    members = range(len(bundle.members))
    seen = Seen(
        **{
            name: [np.concatenate([part[f"{name}_{member}"] for part in parts])[: 4 * patients] for member in members]
            for name in ("embedding", "pooled", "view_logits", "liver_logit")
        }
    )
    return seen, np.concatenate([part["fat"] for part in parts])[:patients]


def _parts(
    make: partial[tuple[np.ndarray, float]], halves: Halves, patients: int, kept: Path, workers: int
) -> Iterator[dict[str, np.ndarray]]:
    with ProcessPoolExecutor(workers, initializer=os.nice, initargs=(5,)) as pool:
        for start in range(0, patients, CHUNK):
            path = kept / f"{start:06}.npz"
            if not path.exists():
                views, fat = zip(*pool.map(make, range(start, start + CHUNK), chunksize=4), strict=True)
                seen = halves.look(np.concatenate(views))
                arrays = {
                    f"{name}_{member}": values
                    for name, found in vars(seen).items()
                    for member, values in enumerate(found)
                }
                partial_path = path.with_suffix(".partial.npz")
                np.savez(partial_path, fat=np.array(fat, np.float32), **arrays)
                partial_path.replace(path)
                print(f"{start + CHUNK} of {patients} new patients looked at", flush=True)
            with np.load(path) as found:
                yield {name: found[name] for name in found.files}
