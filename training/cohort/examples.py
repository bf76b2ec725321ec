"""Studies as arrays: prepared views, clinical variables, labels, and whose they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

import numpy as np

from inference.contract import CHANNELS
from training.cohort.clinical import VARIABLES, encode
from training.cohort.frames import read_frame
from training.cohort.manifest import Frame, by_study, gathered
from training.frames.data import prepared
from training.keeping import whole

TOLD_EVERY: Final = 50
"""Studies, while they are read."""
MOST_VIEWS: Final = 8
"""Of one study; later frames are left out."""


@dataclass(frozen=True, kw_only=True)
class Examples:
    """N studies of up to V views, S by S, with K clinical variables; `present` says which places hold a view."""

    views: np.ndarray
    """float16 [N, V, 3, S, S], zero where there is no view; or what a frozen front made of them."""
    names: np.ndarray
    """str [N, V], of `inference.contract.VIEWS`, or empty."""
    present: np.ndarray
    """bool [N, V]."""
    clinical: np.ndarray
    """float32 [N, K], scaled as `training.cohort.clinical` says, 0 where missing."""
    known: np.ndarray
    """bool [N, K]."""
    grades: np.ndarray
    """int [N]."""
    fat_fraction: np.ndarray
    """float32 [N], percent, not a number where unknown."""
    patients: np.ndarray
    studies: np.ndarray
    sites: np.ndarray
    scanners: np.ndarray
    """str [N] each."""
    readers: np.ndarray
    """dict of grades by reader's name, object [N]."""

    def __len__(self) -> int:
        return len(self.grades)

    def some(self, chosen: np.ndarray) -> Examples:
        """Return the studies of an index or a mask."""
        return Examples(**{field.name: getattr(self, field.name)[chosen] for field in fields(self)})

    def with_views(self, names: Sequence[str]) -> Examples:
        """Return every study with at most one view of each of the names, in their order.

        A study that has none of them, or whose views are not named, keeps its first views, as many as there are names.
        """
        views, present, found = (
            np.zeros_like(array[:, : len(names)]) for array in (self.views, self.present, self.names)
        )
        for study, here in enumerate(self.present):
            wanted = [place for name in names for place in np.flatnonzero(here & (self.names[study] == name))[:1]]
            places = wanted or np.flatnonzero(here)[: len(names)].tolist()
            views[study, : len(places)] = self.views[study, places]
            found[study, : len(places)] = self.names[study, places]
            present[study, : len(places)] = True
        kept = {field.name: getattr(self, field.name) for field in fields(self)}
        return Examples(**{**kept, "views": views, "names": found, "present": present})

    @property
    def plain_clinical(self) -> list[dict[str, float]]:
        """Known clinical variables of each study in their own units."""
        from training.cohort.clinical import decode

        return [decode(*pair) for pair in zip(self.clinical, self.known, strict=True)]


def stack(studies: Iterable[dict[str, object]]) -> Examples:
    """Return examples of single studies, each with the fields of `Examples` without the first axis."""
    kept = list(studies)
    if not kept:
        raise ValueError("There is no study.")
    arrays = {field.name: [study[field.name] for study in kept] for field in fields(Examples)}
    objects = np.empty(len(kept), dtype=object)
    objects[:] = arrays.pop("readers")
    return Examples(**{name: np.stack(values) for name, values in arrays.items()}, readers=objects)


def read_examples(frames: Iterable[Frame], size: int) -> tuple[Examples, list[str]]:
    """Read and prepare the studies of a manifest with serving's own code.

    Returns
    -------
    tuple
        The examples, and what was left out: frames without a sector, studies without a frame, frames beyond
        `MOST_VIEWS`.

    Raises
    ------
    ValueError
        A file cannot be read, or no study has a usable frame.
    """
    studies = by_study(frames)
    room = min(MOST_VIEWS, max((len(rows) for rows in studies.values()), default=0))
    kept, left_out = [], []
    for place, (study, rows) in enumerate(studies.items(), start=1):
        if place % TOLD_EVERY == 0:
            print(f"{place} of {len(studies)} studies read", flush=True)
        usable = []
        for row in rows:
            view = prepared(*read_frame(row.file, row.frame), size)
            if view is None:
                left_out.append(f"{row.file.name} of study {study}: no ultrasound sector is found")
            else:
                usable.append((view, row.view or ""))
        if len(usable) > MOST_VIEWS:
            left_out.append(
                f"study {study}: {len(usable) - MOST_VIEWS} of {len(usable)} frames, more than are looked at"
            )
        if usable:
            kept.append(_study(gathered(rows), usable[:MOST_VIEWS], room, size))
        else:
            left_out.append(f"study {study}: no usable frame")
    return stack(kept), left_out


def _study(row: Frame, usable: Sequence[tuple[np.ndarray, str]], room: int, size: int) -> dict[str, object]:
    views = np.zeros((room, len(CHANNELS), size, size), np.float16)
    views[: len(usable)] = [view for view, _ in usable]
    clinical, known = encode(row.clinical)
    fat = row.fat_fraction_percent
    return {
        "views": views,
        "names": np.array([*(name for _, name in usable), *[""] * (room - len(usable))], dtype="U16"),
        "present": np.arange(room) < len(usable),
        "clinical": clinical,
        "known": known,
        "grades": row.true_grade,
        "fat_fraction": np.float32(np.nan if fat is None else fat),
        "patients": row.patient,
        "studies": row.study,
        "sites": row.site,
        "scanners": row.scanner,
        "readers": dict(row.readers),
    }


def save(examples: Examples, folder: Path) -> None:
    """Keep examples in a folder; views are read back memory-mapped."""
    folder.mkdir(parents=True, exist_ok=True)
    with whole(folder / "views.npy") as partial:
        np.save(partial, examples.views)
    rest = {
        field.name: getattr(examples, field.name)
        for field in fields(Examples)
        if field.name not in ("views", "readers")
    }
    readers = np.array([repr(sorted(own.items())) for own in examples.readers])
    with whole(folder / "rest.npz") as partial:
        np.savez(partial, **rest, readers=readers)
    (folder / "done").touch()


def load(folder: Path) -> Examples | None:
    """Return kept examples, None where there are none."""
    from ast import literal_eval

    if not (folder / "done").exists():
        return None
    with np.load(folder / "rest.npz") as rest:
        kept = {name: rest[name] for name in rest.files}
    if kept["clinical"].shape[1] != len(VARIABLES):
        raise ValueError(f"{folder} was kept with other clinical variables; remove it.")
    readers = np.empty(len(kept["grades"]), dtype=object)
    readers[:] = [dict(literal_eval(str(text))) for text in kept.pop("readers")]
    return Examples(views=np.load(folder / "views.npy", mmap_mode="r"), readers=readers, **kept)
