"""Whether the evidence on real frames follows fat, and not how a frame was stored: no steatosis label is needed.

Real frames kept out of training are edited (`training.frames.edits`): by how much two edits of one frame differ is
known. Then every frame, edited or not, is stored in ways that hospitals and published sets have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image
from scipy.stats import spearmanr

from inference.predictor import Predictor
from inference.preprocess import prepare_view
from inference.sector import find_sector
from training.frames.augment import lossy
from training.frames.cuts import cut_out, seeded, through_sector
from training.frames.data import EDITED_ROWS, real_frames
from training.frames.edits import edited, read_outlined

POINTS: Final = (-6.0, 0.0, 8.0, 16.0, 24.0)
"""Fat added to each frame, percent points."""
SEED: Final = 616161
BYRA: Final = (636, 434)
"""Columns and rows of Byra et al. 2018."""
GAIN: Final = 15
"""Grey values by which an operator's gain is moved, about 3.5 dB of a display's 60."""

Way = Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]


def _resized(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))


def _field(pixels: np.ndarray, sector: np.ndarray, _: np.random.Generator) -> np.ndarray:
    """Trim to the sector's box and off its sides, to the size of the published set."""
    rows, columns = (np.flatnonzero(sector.any(axis=axis)) for axis in (1, 0))
    tall = len(rows)
    top, bottom = rows[0] + tall // 12, rows[-1] + 1 - tall // 20
    wide = min(len(columns), round((bottom - top) * BYRA[0] / BYRA[1]))
    left = columns[0] + (len(columns) - wide) // 2
    return _resized(pixels[top:bottom, left : left + wide], BYRA)


def _gain(step: int) -> Way:
    def changed(pixels: np.ndarray, sector: np.ndarray, _: np.random.Generator) -> np.ndarray:
        shown = np.minimum(pixels / 12.0, 1.0)  # black stays black
        return np.where(sector, np.clip(pixels + step * shown, 0, 255), pixels).astype(np.uint8)

    return changed


def _depth_gain(pixels: np.ndarray, sector: np.ndarray, _: np.random.Generator) -> np.ndarray:
    slope = np.linspace(-GAIN, GAIN, len(pixels))[:, None] * np.minimum(pixels / 12.0, 1.0)
    return np.where(sector, np.clip(pixels + slope, 0, 255), pixels).astype(np.uint8)


WAYS: Final[dict[str, Way]] = {
    "as it is": lambda pixels, sector, rng: pixels,
    "JPEG, quality 50": lambda pixels, sector, rng: lossy(pixels, 50),
    "half the size": lambda pixels, sector, rng: _resized(pixels, (pixels.shape[1] // 2, pixels.shape[0] // 2)),
    "field of 636 × 434": _field,
    "cut out, 636 × 434": lambda pixels, sector, rng: _resized(cut_out(pixels, rng), BYRA),
    "sector probe": lambda pixels, sector, rng: through_sector(pixels, rng),
    "more gain": _gain(GAIN),
    "less gain": _gain(-GAIN),
    "more depth gain": _depth_gain,
}
"""How a frame may be stored or set."""


@dataclass(frozen=True, kw_only=True)
class Response:
    """How the evidence on real frames stored in one way behaves."""

    way: str
    frames: int
    taken: float
    """Share of the unedited ones that the gate takes."""
    alike: float
    """Spearman's ρ of the evidence of unedited frames with that of the same as they are."""
    shift: float
    """Median change of that evidence, log-odds."""
    ordered: float
    """Share of pairs of edits of a frame whose evidence is in the order of their fat."""
    gained: float
    """Median evidence that 24 points more fat than -6 add, log-odds."""


def evidence(predictor: Predictor, pixels: np.ndarray) -> tuple[float, float]:
    """Return the log-odds of S1 or more and the liver logit of one frame; not a number where no sector is found."""
    view = prepare_view(pixels, geometry=predictor.bundle.geometry)
    if view is None:
        return float("nan"), float("-inf")
    said = predictor.predict(view.tensor[None])
    none = float(np.clip(said.probabilities[0], 1e-6, 1.0 - 1e-6))
    return float(np.log((1.0 - none) / none)), float(said.liver_logits[0])


def responses(predictor: Predictor, aul: Path, *, every: int = 3) -> Iterator[Response]:
    """Try every way on each `every`th real frame kept out of training whose liver is outlined."""
    frames = [found for path in real_frames(aul, "test")[::every] if (found := _edits(path)) is not None]
    plain: np.ndarray | None = None
    for way, change in WAYS.items():
        asked = np.array([[evidence(predictor, one) for one in _changed(change, edits)] for edits in frames])
        odds, liver = asked[..., 0], asked[..., 1]
        own = odds[:, POINTS.index(0.0)]
        plain = own if plain is None else plain
        yield Response(
            way=way,
            frames=len(frames),
            taken=float((liver[:, POINTS.index(0.0)] >= predictor.bundle.liver_logit_minimum).mean()),
            alike=float(spearmanr(own, plain).statistic),
            shift=float(np.median(own - plain)),
            ordered=_ordered(odds),
            gained=float(np.median(odds[:, -1] - odds[:, 0])),
        )


def _ordered(odds: np.ndarray) -> float:
    first, second = np.triu_indices(odds.shape[1], 1)
    return float((odds[:, second] > odds[:, first]).mean())


def _changed(change: Way, edits: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """Store all edits of a frame alike: the same cut of each."""
    sector = find_sector(edits[POINTS.index(0.0)])
    for one in edits:
        yield change(one, sector, np.random.default_rng(SEED))


def _edits(path: Path) -> list[np.ndarray] | None:
    outlined = read_outlined(path, EDITED_ROWS)
    if outlined is None:
        return None
    pixels, liver = outlined
    rng = seeded(SEED, path)
    return [pixels if not points else edited(pixels, liver, points, rng) for points in POINTS]
