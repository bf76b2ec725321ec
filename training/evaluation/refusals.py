"""What serving would take for liver B-mode and what it would refuse, counted over sets of frames of each kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from scipy.ndimage import gaussian_filter

from inference.geometry import Box
from inference.predictor import Predictor
from inference.preprocess import prepare_view
from inference.quality import colour_fraction, frame_quality
from inference.sector import find_sector
from training.cohort.frames import frame_count, read_frame
from training.frames.cuts import cut_out, read_grey, seeded, through_sector, trimmed
from training.frames.data import real_frames
from training.phantom import NEGATIVES, Scanner, draw_patient, render_negative, render_view

COLOURED: Final = 0.01
LEAST_QUALITY: Final = 0.05
"""As `agent.score.candidates` has them."""
SEED: Final = 515151
"""Of no experiment's data."""
NO_LIVER: Final = tuple(kind for kind in NEGATIVES if kind not in ("noise", "static", "photograph", "scene", "page"))
ROWS: Final = 768
SIDES: Final = (128, 240, 360, 480, 720, 1080)
"""Rows of pictures of noise, by turns."""

Frame = tuple[np.ndarray, Box | None]


@dataclass(frozen=True, kw_only=True)
class Count:
    """How many frames of a set were taken, and why the others were not."""

    name: str
    liver: bool
    """Whether they ought to be taken."""
    frames: int
    taken: int
    reasons: dict[str, int]

    @property
    def right(self) -> float:
        """Share treated as they ought to be."""
        share = self.taken / max(self.frames, 1)
        return share if self.liver else 1.0 - share


def refused_for(predictor: Predictor, pixels: np.ndarray, region: Box | None = None) -> str | None:
    """Return why serving would not score a frame, None where it would; steps and order are serving's."""
    view = prepare_view(pixels, region, geometry=predictor.bundle.geometry)
    if view is None:
        return "no sector"
    x0, y0, x1, y1 = view.crop
    crop = pixels[y0:y1, x0:x1]
    if colour_fraction(crop, view.sector) > COLOURED:
        return "colour"
    if frame_quality(crop, view.sector) < LEAST_QUALITY:
        return "quality"
    logit = float(predictor.predict(view.tensor[None]).liver_logits[0])
    return None if logit >= predictor.bundle.liver_logit_minimum else "not liver"


def count(predictor: Predictor, name: str, frames: Iterable[Frame], *, liver: bool) -> Count:
    """Ask of every frame of a set."""
    reasons = Counter(refused_for(predictor, *frame) for frame in frames)
    taken = reasons.pop(None, 0)
    told = {str(reason): number for reason, number in reasons.most_common()}
    return Count(name=name, liver=liver, frames=taken + sum(told.values()), taken=taken, reasons=told)


def counts(predictor: Predictor, aul: Path | None, pictures: Iterable[Path], each: int) -> Iterator[Count]:
    """Count the sets there are.

    Parameters
    ----------
    aul
        Folder of the AUL images; those kept out of training are used.
    pictures
        Photographs, or anything else that is no liver.
    each
        Synthetic frames of each kind.
    """
    paths = [] if aul is None else real_frames(aul, "test")
    whole = [(read_grey(path, ROWS), None) for path in paths]
    if whole:
        yield count(predictor, "liver, AUL held out", whole, liver=True)
        cuts = [(cut_out(pixels, seeded(SEED, path)), None) for (pixels, _), path in zip(whole, paths, strict=True)]
        yield count(predictor, "liver, the same cut out of their sector", cuts, liver=True)
        yield count(predictor, "liver, the same trimmed to their field", _trimmed(whole), liver=True)
        pies = [(through_sector(frame[0], seeded(SEED, path)), None) for frame, path in zip(whole, paths, strict=True)]
        yield count(predictor, "liver, the same through a sector probe", pies, liver=True)
        flow = [(with_flow(pixels, seeded(SEED, path)), None) for (pixels, _), path in zip(whole, paths, strict=True)]
        yield count(predictor, "colour Doppler over AUL", flow, liver=False)
    phantoms = list(_phantoms(each))
    yield count(predictor, "liver, phantoms", phantoms, liver=True)
    yield count(predictor, "liver, phantoms trimmed to their field", _trimmed(phantoms), liver=True)
    yield count(predictor, "liver, phantoms cut out of their sector", _cut(phantoms), liver=True)
    yield count(predictor, "liver, phantoms through a sector probe", _phantoms(each, Scanner.phased), liver=True)
    flow = [(with_flow(pixels, np.random.default_rng([SEED, 7, n])), box) for n, (pixels, box) in enumerate(phantoms)]
    yield count(predictor, "colour Doppler over phantoms", flow, liver=False)
    for kind in NO_LIVER:
        yield count(predictor, f"phantom without liver, {kind}", _negatives(kind, each), liver=False)
    yield count(predictor, "noise in a sector", _negatives("noise", each), liver=False)
    yield count(predictor, "noise edge to edge", _noise(each), liver=False)
    yield count(predictor, "pages of text", _negatives("page", each), liver=False)
    shown = [path for path in pictures if path.is_file()]
    if shown:
        yield count(predictor, "photographs and other pictures", map(read_frame, shown), liver=False)
        cut = ((cut_out(read_frame(path)[0].mean(axis=2).astype(np.uint8), seeded(SEED, path)), None) for path in shown)
        yield count(predictor, "parts of them, grey", cut, liver=False)
    yield count(predictor, "hearts of the pydicom package", _hearts(), liver=False)


def with_flow(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a grey frame as RGB with colour flow over it: red and blue vessels in a box, and their scale beside it."""
    sector = find_sector(pixels)
    rows, columns = pixels.shape
    inside = np.argwhere(sector)
    if not len(inside):
        inside = np.argwhere(np.ones_like(sector))
    y, x = inside[rng.integers(0, len(inside))]
    down, across = np.mgrid[0:rows, 0:columns]
    box = (np.abs(down - y) < rng.uniform(0.1, 0.25) * rows) & (np.abs(across - x) < rng.uniform(0.1, 0.25) * columns)
    course = gaussian_filter(rng.standard_normal(pixels.shape), 0.02 * rows)
    speed = course / (course[box].std() + 1e-9)
    result = np.stack([pixels] * 3, axis=-1)
    for channel, moving in ((0, speed > rng.uniform(0.8, 1.4)), (2, speed < -rng.uniform(0.8, 1.4))):
        vessel = box & moving & sector
        result[vessel] = 0
        result[vessel, channel] = np.clip(110 + 60 * np.abs(speed[vessel]), 0, 255).astype(np.uint8)
    return result


def _phantoms(each: int, draw: Callable[[np.random.Generator], Scanner] = Scanner.random) -> Iterator[Frame]:
    for index in range(each):
        rng = np.random.default_rng([SEED, 1, index])
        patient, scanner = draw_patient(rng), draw(rng)
        frame = render_view(patient, ("subcostal", "intercostal", "liver-kidney", "left-lobe")[index % 4], scanner)
        yield frame.pixels, frame.region


def _trimmed(frames: Iterable[Frame]) -> Iterator[Frame]:
    for index, (pixels, _) in enumerate(frames):
        yield trimmed(pixels, np.random.default_rng([SEED, 8, index])), None


def _cut(frames: Iterable[Frame]) -> Iterator[Frame]:
    for index, (pixels, _) in enumerate(frames):
        yield cut_out(pixels, np.random.default_rng([SEED, 9, index])), None


def _negatives(kind: str, each: int) -> Iterator[Frame]:
    for index in range(each):
        yield render_negative(kind, np.random.default_rng([SEED, 2, index])), None


def _noise(each: int) -> Iterator[Frame]:
    for index in range(each):
        rng = np.random.default_rng([SEED, 3, index])
        rows = SIDES[index % len(SIDES)]
        field = gaussian_filter(rng.standard_normal((rows, rows * 4 // 3)), rng.choice((0.0, 0.8, 2.0, 6.0)))
        level = rng.uniform(40, 160) + rng.uniform(10, 60) * field / field.std()
        yield np.clip(level, 0, 255).astype(np.uint8), None


def _hearts() -> Iterator[Frame]:
    """Give every frame of the echocardiograms that come with pydicom."""
    from pydicom.data import get_testdata_file

    for name in ("examples_ybr_color.dcm", "examples_palette.dcm"):
        path = Path(str(get_testdata_file(name, download=False)))
        for frame in range(frame_count(path)):
            yield read_frame(path, frame)
