"""Real pictures with more or less fat than they have: what fat does to echoes, done to pixels.

No real steatosis label is needed or used. How fat a real liver is stays unknown; by how much two edits of one picture
differ is known, and that difference is what members are taught on real texture and real anatomy.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from inference.sector import find_sector
from training.frames.cuts import read_grey
from training.frames.outlines import read_outline

LEAN, FAT = -8.0, 24.0
"""Points of fat fraction that are taken away or added at most."""
_ATTENUATION: Final = 0.0055
"""dB/cm/MHz a point, about as in `training.phantom.patient`."""
_BACKSCATTER: Final = (20.0, 14.0)
"""dB at saturation and points of fat to 63 % of it, as there."""
_OWN_FAT: Final = 6.0
"""Points that an unknown liver is taken to have: backscatter saturates from there."""
_LEAST_LIVER: Final = 0.04
"""Share of the picture that the outlined liver must cover."""


def liver_of(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """Return the liver outlined beside an AUL picture, bool [rows, columns]; None where it is missing or small."""
    liver = read_outline(path.parent.parent / "segmentation" / "liver" / f"{path.stem}.json", shape)
    return liver if liver is not None and liver.mean() > _LEAST_LIVER else None


def read_outlined(path: Path, rows: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Read an AUL picture and the liver outlined beside it, made smaller where it has more rows.

    Returns
    -------
    tuple or None
        uint8 [rows, columns] and bool [rows, columns]; None where the liver is missing or small.
    """
    with Image.open(path) as picture:
        shape = picture.height, picture.width
    liver = liver_of(path, shape)
    if liver is None:
        return None
    pixels = read_grey(path, rows)
    return pixels, np.asarray(Image.fromarray(liver).resize(pixels.shape[::-1]))


def edited(pixels: np.ndarray, liver: np.ndarray, points: float, rng: np.random.Generator) -> np.ndarray:
    """Return the picture as it might look with so many points of fat more, by an operator who stands at the knobs.

    Attenuation adds up along the way through the liver, backscatter changes inside it, vessels fade and lines blur as
    fat grows. Dynamic range, frequency, depth, gain and depth gain are drawn: they are not known.

    Parameters
    ----------
    pixels
        uint8 [rows, columns], real B-mode.
    liver
        bool [rows, columns].
    points
        Change of the fat fraction in percent points, negative for less.
    """
    sector = find_sector(pixels)
    decibel = 255.0 / rng.uniform(48.0, 72.0)
    span = np.flatnonzero(sector.any(axis=1))
    centimetre = rng.uniform(12.0, 18.0) / max(len(span), 1)
    # Neighbouring lines share their way: an outline must not leave an edge in the echoes behind it.
    passed = gaussian_filter1d(np.cumsum(liver, axis=0, dtype=np.float32), 12.0, axis=1)
    loss = 2.0 * rng.uniform(1.7, 3.2) * _ATTENUATION * points * centimetre * passed
    most, scale = _BACKSCATTER
    gain = most * (np.exp(-_OWN_FAT / scale) - np.exp(-max(_OWN_FAT + points, 0.0) / scale))
    change = gain * gaussian_filter(liver.astype(np.float32), 4.0) - loss
    picture = _faded(pixels.astype(np.float32), liver, points) + decibel * change
    picture += decibel * _operator(change, liver, rng)
    # What the machine has not shown stays unseen: black stays black but for the noise that gain would lift.
    shown = np.minimum(pixels.astype(np.float32) / 12.0, 1.0)
    result = np.where(sector, shown * picture + (1.0 - shown) * pixels, pixels)
    return np.clip(np.rint(result), 0, 255).astype(np.uint8)


def _faded(picture: np.ndarray, liver: np.ndarray, points: float) -> np.ndarray:
    """Fill vessels and blur across the beam where fat is added; nothing brings back what a picture does not show."""
    if points <= 0:
        return picture
    smooth = gaussian_filter(picture, 2.0)
    share = gaussian_filter(liver.astype(np.float32), 14.0)
    around = gaussian_filter(picture * liver, 14.0) / np.maximum(share, 1e-3)
    below = np.minimum(smooth - around, 0.0) * liver
    filled = picture - below * (1.0 - np.exp(-points / 24.0))
    return gaussian_filter1d(filled, 0.03 * points, axis=1, truncate=2.5) if points > 8 else filled


def _operator(change: np.ndarray, liver: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return what gain and depth gain add, dB [rows, 1]: some making up for the change, some by chance."""
    rows = np.linspace(-0.5, 0.5, change.shape[0])[:, None]
    mean = float(change[liver].mean())
    own = -rng.uniform(0.0, 0.3) * mean + rng.normal(0.0, 1.2)
    where = np.broadcast_to(rows, change.shape)[liver]
    slope = float(np.polyfit(where, change[liver], 1)[0]) if np.ptp(where) > 0 else 0.0
    return own + (-rng.uniform(0.0, 0.5) * slope + rng.normal(0.0, 2.0)) * rows
