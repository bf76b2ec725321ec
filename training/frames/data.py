"""Splits of rendered patients, prepared as serving prepares them, kept as arrays in the run folder."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from inference.contract import CHANNELS, VIEWS
from inference.preprocess import InputGeometry, prepare_view
from inference.sector import find_sector
from training.bundle.configuration import Data
from training.frames.augment import Region, augment
from training.frames.cues import PHANTOM_CUES, CueLine, cues_of, fit_cue_line, phantom_cues
from training.frames.cuts import frame_key, read_grey, seeded, stored, through_sector
from training.frames.edits import FAT, LEAN, edited, liver_of, read_outlined
from training.frames.grafts import WAYS, grafted
from training.frames.outlines import read_outline
from training.keeping import mapped, whole
from training.phantom import NEGATIVES, Patient, Scanner, draw_patient, render_negative, render_view
from training.phantom.patient import PDFF_CUT_OFFS

SPLITS: Final = ("train", "calibration", "test")
MEAN: Final = (127.0 / 255.0, 0.0, 0.0)
STD: Final = (128.0 / 255.0, 1.0, 1.0)
"""Input normalisation of each channel: EfficientNet-Lite's where its trunk looks, else none."""
RETAKES: Final = 5
EDITED_ROWS: Final = 480
"""Larger real frames are made smaller before they are edited: members see far fewer rows."""
HEAVY: Final = (43.0, 6.0)
"""Mean and spread of the body mass index, kg/m², of patients before bariatric surgery, about as published."""
AUL_HELD_OUT: Final = 5
"""Every fifth real frame of the AUL set is the test's, the next one the calibration's: no member learns from them."""

Keep = Callable[[np.ndarray, Region], tuple[np.ndarray, Region]]


@dataclass(frozen=True, kw_only=True)
class Split:
    """One split: patients with all their views, and frames for the liver gate."""

    views: np.ndarray
    """float16 [patients, 4, 3, H, W], in the order of `inference.contract.VIEWS`; channels are `CHANNELS`."""
    fat_fraction: np.ndarray
    """float32 [patients], percent."""
    negatives: np.ndarray
    """float16 [frames, 3, H, W], not liver B-mode."""
    positives: np.ndarray
    """float16 [frames, 3, H, W], real liver B-mode without any grade."""
    edits: np.ndarray
    """float16 [frames, edits, 3, H, W], real liver B-mode with fat added or taken away."""
    edit_points: np.ndarray
    """float32 [frames, edits], by how many points of fat fraction; only differences within a frame mean anything."""
    ordered: np.ndarray
    """float16 [frames, 3, H, W], real liver B-mode whose liver is outlined, whole or trimmed."""
    order: np.ndarray
    """float32 [frames], where a straight line through their cues puts them (`training.frames.cues`)."""

    @property
    def grades(self) -> np.ndarray:
        """Grade 0 to 3, int64 [patients]."""
        return grade_of(self.fat_fraction)


def grade_of(fat_fraction: np.ndarray) -> np.ndarray:
    """Return grades 0 to 3 of fat fractions in percent."""
    return np.searchsorted(PDFF_CUT_OFFS, fat_fraction, side="right").astype(np.int64)


def geometry_of(size: int) -> InputGeometry:
    """Return the input geometry of members of that size."""
    return InputGeometry(channels=len(CHANNELS), height=size, width=size, mean=MEAN, std=STD)


def prepared(pixels: np.ndarray, region: Region | None, size: int) -> np.ndarray | None:
    """Prepare one frame with serving's own code, float16 [3, size, size]; None where it finds no sector."""
    view = prepare_view(pixels, region, geometry=geometry_of(size))
    return None if view is None else view.tensor.astype(np.float16)


def study_of(
    split: str,
    seed: int,
    size: int,
    index: int,
    *,
    trimmed: float = 0.0,
    foreign: bool = False,
    phased: float = 0.0,
    heavy: float = 0.0,
) -> tuple[np.ndarray, float]:
    """Render patient `index` of a split, prepared views float16 [4, 3, size, size] and the fat fraction.

    `trimmed` is the share of patients whose frames were not kept whole: all of one, since one archive kept them.
    `foreign` takes scanners of another site. `phased` is the share seen through a sector probe, `heavy` that of
    patients whose body mass index is a clinic for obesity's.
    """
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    others = np.random.default_rng([seed, 40 + SPLITS.index(split), index])
    probe = Scanner.phased if others.random() < phased else Scanner.foreign if foreign else Scanner.random
    patient, scanner = draw_patient(rng), probe(rng)
    if others.random() < heavy:
        patient = _heavier(patient, others)
    shears = np.random.default_rng([seed, 30 + SPLITS.index(split), index])
    keep = _whole if shears.random() >= trimmed else partial(_stored, rng=shears)
    views = [prepared_view(patient, view, scanner, rng, size, keep) for view in VIEWS]
    return np.stack(views), patient.fat_fraction_percent


def _heavier(patient: Patient, rng: np.random.Generator) -> Patient:
    index = float(np.clip(rng.normal(*HEAVY), 30.0, 62.0))
    return replace(patient, weight_kg=round(index * patient.size_m**2, 1))


def _whole(pixels: np.ndarray, region: Region) -> tuple[np.ndarray, Region]:
    return pixels, region


def _stored(pixels: np.ndarray, region: Region, *, rng: np.random.Generator) -> tuple[np.ndarray, Region]:
    return stored(pixels, region, rng)


def prepared_view(
    patient: Patient,
    view: str,
    scanner: Scanner,
    rng: np.random.Generator,
    size: int,
    keep: Keep = _whole,
    *,
    frame: int = 0,
) -> np.ndarray:
    """Render a view until serving would take it: an examiner takes a picture again when nothing is on it.

    `frame` is the number of the first try; exams of one patient begin at others.
    """
    for attempt in range(RETAKES):
        shot = render_view(patient, view, scanner, seed=frame + attempt)
        found = prepared(*keep(*augment(shot.pixels, shot.region, rng)), size)
        if found is not None:
            return found
    raise ValueError(f"No sector is found in {RETAKES} frames of view {view} of {patient} with {scanner}.")


def negative_picture(kind: str, rng: np.random.Generator) -> np.ndarray:
    """Render a frame that is no liver, uint8 [rows, columns]; noise at any size: its grain must not tell."""
    if kind != "static":
        return render_negative(kind, rng)
    scale = float(np.exp(rng.uniform(np.log(0.4), np.log(2.2))))
    rows, columns = (max(128, round(scale * side)) for side in (480, 640))
    return render_negative(kind, rng, rows=rows, columns=rows if rng.random() < 0.3 else columns)


def negative_of(split: str, seed: int, size: int, index: int) -> np.ndarray | None:
    """Render negative `index` of a split, prepared, float16 [3, size, size]; None where serving finds no sector."""
    rng = np.random.default_rng([seed, 10 + SPLITS.index(split), index])
    kind = tuple(NEGATIVES)[index % len(NEGATIVES)]
    pixels = negative_picture(kind, rng)
    rows, columns = pixels.shape
    return prepared(*augment(pixels, (0, 0, columns, rows), rng), size)


def real_frames(folder: Path, split: str) -> list[Path]:
    """Return the AUL frames of a split, in a fixed order.

    Raises
    ------
    FileNotFoundError
        The folder holds none: figures that quietly lack them would say something else.
    """
    paths = sorted(folder.glob("*/image/*.jpg"))
    if not paths:
        raise FileNotFoundError(errno.ENOENT, "no AUL frame */image/*.jpg", str(folder))
    if split == "train":
        return [path for index, path in enumerate(paths) if index % AUL_HELD_OUT > 1]
    return paths[("test", "calibration").index(split) :: AUL_HELD_OUT]


def real_of(size: int, path: Path) -> np.ndarray | None:
    """Read and prepare one real frame, float16 [3, size, size]; None where serving finds no sector."""
    with Image.open(path) as picture:
        return prepared(np.asarray(picture.convert("L")), None, size)


def edits_of(
    size: int, count: int, seed: int, path: Path, *, trimmed: float = 0.0, phased: float = 0.0
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return edits of one real frame, float16 [count, 3, size, size], and their points, float32 [count].

    None where its liver is not outlined, or serving finds no sector. Each edit is seen trimmed, or through a
    sector probe, by itself: how much of a frame was kept says nothing of its fat.
    """
    outlined = read_outlined(path, EDITED_ROWS)
    if outlined is None:
        return None
    pixels, liver = outlined
    rng = np.random.default_rng([seed, frame_key(path)])
    points = rng.uniform(LEAN, FAT, count).astype(np.float32)
    rows, columns = pixels.shape
    made = []
    for more in points:
        changed = augment(edited(pixels, liver, float(more), rng), (0, 0, columns, rows), rng)
        made.append(prepared(*_seen(*changed, rng, trimmed, phased), size))
    whole = [view for view in made if view is not None]
    return (np.stack(whole), points) if len(whole) == count else None


def _seen(
    pixels: np.ndarray, region: Region, rng: np.random.Generator, trimmed: float, phased: float
) -> tuple[np.ndarray, Region]:
    """Return a real frame as it is, as an archive may have kept it, or as a sector probe would show it."""
    draw = rng.random()
    if draw < trimmed:
        return stored(pixels, region, rng)
    if draw < trimmed + phased:
        pie = through_sector(pixels, rng)
        return pie, (0, 0, pie.shape[1], pie.shape[0])
    return pixels, region


def ordered_of(size: int, seed: int, line: CueLine, path: Path) -> list[tuple[np.ndarray, float]]:
    """Return a real frame whole, trimmed, and through a sector probe, float16 [3, size, size], with its cues' place."""
    with Image.open(path) as picture:
        shape = picture.height, picture.width
    liver = liver_of(path, shape)
    if liver is None:
        return []
    lump = read_outline(path.parent.parent / "segmentation" / "mass" / f"{path.stem}.json", shape)
    liver = liver if lump is None else liver & ~lump
    pixels, rng = read_grey(path, EDITED_ROWS), seeded(seed + 2, path)
    rows, columns = pixels.shape
    cues = cues_of(pixels, np.asarray(Image.fromarray(liver).resize((columns, rows))), find_sector(pixels))
    if cues is None:
        return []
    score = float(line(cues[None])[0])
    kept = [_seen(pixels, (0, 0, columns, rows), rng, float(way == 1), float(way == 2)) for way in range(3)]
    made = (prepared(*augment(*one, rng), size) for one in kept)
    return [(view, score) for view in made if view is not None]


def grafts_of(size: int, seed: int, path: Path) -> list[np.ndarray]:
    """Return frames of a real frame's texture that show no liver, each float16 [3, size, size]."""
    pixels, rng = read_grey(path, EDITED_ROWS), np.random.default_rng([seed, 1, frame_key(path)])
    made = (grafted(pixels, way, rng) for way in WAYS)
    return [frame for frame in (prepared(graft, None, size) for graft in made) if frame is not None]


def make_split(split: str, data: Data, folder: Path, *, workers: int = 2) -> Split:
    """Return a split, rendered now or read from `folder` where an earlier run left it."""
    target = folder / split
    counts = {"train": data.train_patients, "calibration": data.calibration_patients, "test": data.test_patients}
    if not (target / "done").exists():
        target.mkdir(parents=True, exist_ok=True)
        gate = data.negatives if split == "train" else data.negatives // 4
        with ProcessPoolExecutor(workers, initializer=os.nice, initargs=(5,)) as pool:
            trimmed = data.trimmed if split == "train" else data.trimmed_held_out
            shares = {"trimmed": trimmed, "phased": data.phased, "heavy": data.heavy}
            render = partial(study_of, split, data.seed, data.size, **shares)
            if not (target / "fat_fraction.npy").exists():  # written last
                _render(pool, render, range(counts[split]), target, split)
            paths = real_frames(Path(data.real_frames), split) if data.real_frames else []
            _save(target / "negatives.npy", _negatives(pool, data, split, gate, paths))
            positives = pool.map(partial(real_of, data.size), paths, chunksize=16)
            _save(target / "positives.npy", _stacked(positives, data.size))
            learnt = paths if split == "train" else []  # only members need these
            _edit(pool, data, learnt, target)
            _order(pool, data, learnt, target)
        (target / "done").touch()
    names = ("views", "fat_fraction", "negatives", "positives", "edits", "edit_points", "ordered", "order")
    return Split(**{name: np.load(target / f"{name}.npy", mmap_mode="r") for name in names})


def _save(path: Path, array: np.ndarray) -> None:
    with whole(path) as partial:
        np.save(partial, array)


def _stacked(frames: Iterable[np.ndarray | None], size: int) -> np.ndarray:
    found = [frame for frame in frames if frame is not None]
    return np.stack(found) if found else np.zeros((0, len(CHANNELS), size, size), dtype=np.float16)


def _negatives(pool: ProcessPoolExecutor, data: Data, split: str, count: int, paths: list[Path]) -> np.ndarray:
    """Render frames that are no liver, and carve as many into each real frame as there are ways."""
    rendered = pool.map(partial(negative_of, split, data.seed, data.size), range(count), chunksize=16)
    carved = pool.map(partial(grafts_of, data.size, data.seed), paths, chunksize=8)
    return _stacked([*rendered, *(frame for frames in carved for frame in frames)], data.size)


def _edit(pool: ProcessPoolExecutor, data: Data, paths: list[Path], target: Path) -> None:
    edit = partial(edits_of, data.size, data.edits, data.seed, trimmed=data.trimmed, phased=data.phased)
    made = [found for found in pool.map(edit, paths if data.edits else [], chunksize=8) if found is not None]
    shape = (0, data.edits, len(CHANNELS), data.size, data.size)
    _save(target / "edits.npy", np.stack([views for views, _ in made]) if made else np.zeros(shape, np.float16))
    points = np.stack([points for _, points in made]) if made else np.zeros((0, data.edits), np.float32)
    _save(target / "edit_points.npy", points)


def _order(pool: ProcessPoolExecutor, data: Data, paths: list[Path], target: Path) -> None:
    made: list[tuple[np.ndarray, float]] = []
    if paths and data.edits:
        parts = pool.map(phantom_cues, [range(start, start + 60) for start in range(0, PHANTOM_CUES, 60)])
        cues, fat = (np.concatenate(part) for part in zip(*parts, strict=True))
        line = fit_cue_line(cues, fat)
        found = pool.map(partial(ordered_of, data.size, data.seed, line), paths, chunksize=8)
        made = [one for own in found for one in own]
    _save(target / "ordered.npy", _stacked([view for view, _ in made], data.size))
    _save(target / "order.npy", np.array([score for _, score in made], np.float32))


def _render(pool: ProcessPoolExecutor, render: Callable[[int], Any], indices: range, target: Path, split: str) -> None:
    views, fat = None, np.empty(len(indices), dtype=np.float32)
    for index, (study, fat_fraction) in enumerate(pool.map(render, indices, chunksize=8)):
        if views is None:
            shape = (len(indices), *study.shape)
            views = mapped(target / "views.npy", shape)
        views[index], fat[index] = study, fat_fraction
        if index % 200 == 199:
            print(f"{split}: {index + 1} of {len(indices)} patients rendered", flush=True)
    _save(target / "fat_fraction.npy", fat)
