"""Studies to explain: phantoms, real liver pictures with their outlines, and files of one's own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from inference.contract import VIEWS
from inference.geometry import Box, InputGeometry
from inference.preprocess import PreparedView, prepare_view
from inference.sector import luma
from training.frames.data import RETAKES, real_frames
from training.frames.outlines import read_outline
from training.phantom import PhantomFrame, Scanner, draw_patient, render_view

SEED: Final = 20260
"""Of phantoms that no experiment's data hold."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One frame, and what a member sees of it."""

    title: str
    pixels: np.ndarray
    """uint8 [rows, columns], grey."""
    prepared: PreparedView
    liver: np.ndarray | None = None
    """bool [rows, columns], where it is known."""

    @property
    def cropped(self) -> np.ndarray:
        """The pixels of the crop."""
        x0, y0, x1, y1 = self.prepared.crop
        return self.pixels[y0:y1, x0:x1]

    @property
    def liver_seen(self) -> np.ndarray | None:
        """The liver inside the sector, bool [crop rows, crop columns], where it is known."""
        if self.liver is None:
            return None
        x0, y0, x1, y1 = self.prepared.crop
        return self.liver[y0:y1, x0:x1] & self.prepared.sector


@dataclass(frozen=True, kw_only=True)
class Study:
    """Pictures of one patient."""

    title: str
    pictures: tuple[Picture, ...]
    fat_fraction: float | None = None
    """Percent, of phantoms."""

    @property
    def tensor(self) -> np.ndarray:
        """The views as `inference.predictor.Predictor` takes them, float32 [V, C, H, W]."""
        return np.stack([picture.prepared.tensor for picture in self.pictures]).astype(np.float32)


def picture_of(
    title: str,
    pixels: np.ndarray,
    geometry: InputGeometry,
    region: Box | None = None,
    liver: np.ndarray | None = None,
) -> Picture | None:
    """Prepare a frame as serving does; None where no sector is found."""
    prepared = prepare_view(pixels, region, geometry=geometry)
    return None if prepared is None else Picture(title=title, pixels=luma(pixels), prepared=prepared, liver=liver)


def phantom_study(index: int, geometry: InputGeometry, *, seed: int = SEED, views: Sequence[str] = VIEWS) -> Study:
    """Render phantom `index`; the same arguments give the same study."""
    rng = np.random.default_rng([seed, index])
    patient, scanner = draw_patient(rng), Scanner.random(rng)
    pictures = []
    for view in views:
        frames = (render_view(patient, view, scanner, seed=attempt) for attempt in range(RETAKES))
        pictures.append(_first_seen(frames, geometry))
    fat = float(patient.fat_fraction_percent)
    return Study(title=f"Phantom {index} (fat {fat:.0f} %)", pictures=tuple(pictures), fat_fraction=fat)


def _first_seen(frames: Iterator[PhantomFrame], geometry: InputGeometry) -> Picture:
    for frame in frames:
        picture = picture_of(frame.view, frame.pixels, geometry, frame.region, frame.liver)
        if picture is not None:
            return picture
    raise ValueError(f"No sector is found in {RETAKES} frames of a phantom's view.")


def outlined_pictures(folder: Path, geometry: InputGeometry, *, split: str = "test") -> Iterator[Picture]:
    """Give the pictures of an AUL folder whose liver is outlined and whose sector is found.

    Parameters
    ----------
    folder
        With `*/image/N.jpg` and `*/segmentation/liver/N.json`.
    split
        Of `training.frames.data.real_frames`; the test split is never trained on.
    """
    for path in real_frames(folder, split):
        with Image.open(path) as file:
            pixels = np.asarray(file.convert("L"))
        liver = read_outline(path.parent.parent / "segmentation" / "liver" / f"{path.stem}.json", pixels.shape)
        if liver is None:
            continue
        picture = picture_of(f"{path.parent.parent.name} {path.stem}", pixels, geometry, liver=liver)
        if picture is not None and picture.liver_seen is not None and picture.liver_seen.any():
            yield picture
