"""What serving would take for liver B-mode and what it would refuse, counted over sets of frames of each kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from scipy.ndimage import gaussian_filter

from inference.contract import VIEWS
from inference.geometry import Box
from inference.predictor import Predictor
from inference.preprocess import PreparedView, prepare_view
from inference.quality import (
    MOST_OF_A_CINE,
    colour_fraction,
    frame_quality,
    representative_frames,
    spread,
)
from inference.sector import find_sector
from training.cohort.frames import frame_count, read_frame
from training.frames.cines import moving
from training.frames.cuts import cut_out, read_grey, seeded, through_sector, trimmed
from training.frames.data import real_frames
from training.phantom import KINDS, Scanner, draw_patient, render_cine, render_negative, render_view
from training.phantom.echo import render_beating_heart

COLOURED: Final = 0.01
LEAST_QUALITY: Final = 0.05
"""As `agent.score.candidates` has them."""
SEED: Final = 515151
"""Of no experiment's data."""
NO_LIVER: Final = tuple(kind for kind in KINDS if kind not in ("noise", "static", "photograph", "scene", "page"))
ROWS: Final = 768
CINE: Final = 8
"""Frames of a cine of phantoms."""
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
    view = _usable(predictor, pixels, region)
    if isinstance(view, str):
        return view
    return None if _livers(predictor, [view])[0] else "not liver"


def cine_refused_for(predictor: Predictor, frames: Sequence[Frame]) -> str | None:
    """Return why serving would score no frame of a cine, None where it would, whatever its header says."""
    usable: list[tuple[np.ndarray, PreparedView]] = []
    reasons = []
    for pixels, region in (frames[index] for index in spread(len(frames))):
        view = _usable(predictor, pixels, region)
        if isinstance(view, str):
            reasons.append(view)
        else:
            x0, y0, x1, y1 = view.crop
            usable.append((pixels[y0:y1, x0:x1], view))
    if not usable:
        return reasons[0]
    chosen = representative_frames([crop for crop, _ in usable], [view.sector for _, view in usable], MOST_OF_A_CINE)
    return None if any(_livers(predictor, [usable[index][1] for index in chosen])) else "not liver"


def _usable(predictor: Predictor, pixels: np.ndarray, region: Box | None) -> PreparedView | str:
    """Return a frame prepared, or why it cannot be scored whatever it shows."""
    view = prepare_view(pixels, region, geometry=predictor.bundle.geometry)
    if view is None:
        return "no sector"
    x0, y0, x1, y1 = view.crop
    crop = pixels[y0:y1, x0:x1]
    if colour_fraction(crop, view.sector) > COLOURED:
        return "colour"
    return "quality" if frame_quality(crop, view.sector) < LEAST_QUALITY else view


def _livers(predictor: Predictor, views: Sequence[PreparedView]) -> list[bool]:
    logits = predictor.predict(np.stack([view.tensor for view in views])).liver_logits
    return [bool(logit >= predictor.bundle.liver_logit_minimum) for logit in logits]


def count(predictor: Predictor, name: str, frames: Iterable[Frame], *, liver: bool) -> Count:
    """Ask of every frame of a set."""
    return _counted(name, (refused_for(predictor, *frame) for frame in frames), liver)


def count_cines(predictor: Predictor, name: str, cines: Iterable[Sequence[Frame]], *, liver: bool) -> Count:
    """Ask of every cine of a set, as a whole."""
    return _counted(name, (cine_refused_for(predictor, frames) for frames in cines), liver)


def _counted(name: str, told: Iterable[str | None], liver: bool) -> Count:
    reasons = Counter(told)
    taken = reasons.pop(None, 0)
    others = {str(reason): number for reason, number in reasons.most_common()}
    return Count(name=name, liver=liver, frames=taken + sum(others.values()), taken=taken, reasons=others)


def counts(
    predictor: Predictor,
    aul: Path | None,
    pictures: Iterable[Path],
    each: int,
    *,
    seed: int = SEED,
) -> Iterator[Count]:
    """Count the sets there are, but for those of `heart_counts`.

    Parameters
    ----------
    aul
        Folder of the AUL images; those kept out of training are used.
    pictures
        Photographs, or anything else that is no liver.
    each
        Synthetic frames of each kind.
    seed
        Of what is drawn, cut and painted over.
    """
    if aul is not None:
        yield from _real_counts(predictor, real_frames(aul, "test"), seed)
    phantoms = list(_phantoms(each, seed))
    yield count(predictor, "liver, phantoms", phantoms, liver=True)
    yield count(predictor, "liver, phantoms trimmed to their field", _trimmed(phantoms, seed), liver=True)
    yield count(predictor, "liver, phantoms cut out of their sector", _cut(phantoms, seed), liver=True)
    yield count(predictor, "liver, phantoms through a sector probe", _phantoms(each, seed, Scanner.phased), liver=True)
    flow = [(with_flow(pixels, np.random.default_rng([seed, 7, n])), box) for n, (pixels, box) in enumerate(phantoms)]
    yield count(predictor, "colour Doppler over phantoms", flow, liver=False)
    for kind in NO_LIVER:
        yield count(predictor, f"phantom without liver, {kind}", _negatives(kind, each, seed), liver=False)
    yield count(predictor, "noise in a sector", _negatives("noise", each, seed), liver=False)
    yield count(predictor, "noise edge to edge", _noise(each, seed), liver=False)
    yield count(predictor, "pages of text", _negatives("page", each, seed), liver=False)
    shown = [path for path in pictures if path.is_file()]
    if shown:
        yield count(predictor, "photographs and other pictures", map(read_frame, shown), liver=False)
        yield count(predictor, "the same in grey", ((_grey(path), None) for path in shown), liver=False)
        cut = ((cut_out(_grey(path), seeded(seed, path)), None) for path in shown)
        yield count(predictor, "parts of them, grey", cut, liver=False)
    yield count_cines(predictor, "liver, phantom cines", _cines(each, seed), liver=True)
    yield count_cines(predictor, "hearts, drawn cines", _beating(each, seed), liver=False)


def _real_counts(predictor: Predictor, paths: Sequence[Path], seed: int) -> Iterator[Count]:
    """Count real frames of livers, shown in every way, and with colour flow over them."""
    whole = [(read_grey(path, ROWS), None) for path in paths]
    yield count(predictor, "liver, AUL held out", whole, liver=True)
    cuts = [(cut_out(pixels, seeded(seed, path)), None) for (pixels, _), path in zip(whole, paths, strict=True)]
    yield count(predictor, "liver, the same cut out of their sector", cuts, liver=True)
    yield count(predictor, "liver, the same trimmed to their field", _trimmed(whole, seed), liver=True)
    pies = [(through_sector(frame[0], seeded(seed, path)), None) for frame, path in zip(whole, paths, strict=True)]
    yield count(predictor, "liver, the same through a sector probe", pies, liver=True)
    flow = [(with_flow(pixels, seeded(seed, path)), None) for (pixels, _), path in zip(whole, paths, strict=True)]
    yield count(predictor, "colour Doppler over AUL", flow, liver=False)
    yield count_cines(predictor, "liver, cines made of the same", _breathing(whole, paths, seed), liver=True)


def _grey(path: Path) -> np.ndarray:
    """Read a picture of any kind as the mean of its colours, uint8 [rows, columns]."""
    return read_frame(path)[0].mean(axis=2).astype(np.uint8)


def heart_counts(predictor: Predictor) -> Iterator[Count]:
    """Count the echocardiograms of the pydicom package: no gate may be fitted to them, or chosen by them."""
    files = list(_hearts())
    frames = [one for own in files for one in own]
    yield count(predictor, "hearts of the pydicom package, frames", frames, liver=False)
    yield count_cines(predictor, "hearts of the pydicom package, files", files, liver=False)


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
    for channel, flowing in ((0, speed > rng.uniform(0.8, 1.4)), (2, speed < -rng.uniform(0.8, 1.4))):
        vessel = box & flowing & sector
        result[vessel] = 0
        result[vessel, channel] = np.clip(110 + 60 * np.abs(speed[vessel]), 0, 255).astype(np.uint8)
    return result


def _phantoms(each: int, seed: int, draw: Callable[[np.random.Generator], Scanner] = Scanner.random) -> Iterator[Frame]:
    for index in range(each):
        rng = np.random.default_rng([seed, 1, index])
        patient, scanner = draw_patient(rng), draw(rng)
        frame = render_view(patient, VIEWS[index % len(VIEWS)], scanner)
        yield frame.pixels, frame.region


def _trimmed(frames: Iterable[Frame], seed: int) -> Iterator[Frame]:
    for index, (pixels, _) in enumerate(frames):
        yield trimmed(pixels, np.random.default_rng([seed, 8, index])), None


def _cut(frames: Iterable[Frame], seed: int) -> Iterator[Frame]:
    for index, (pixels, _) in enumerate(frames):
        yield cut_out(pixels, np.random.default_rng([seed, 9, index])), None


def _negatives(kind: str, each: int, seed: int) -> Iterator[Frame]:
    for index in range(each):
        yield render_negative(kind, np.random.default_rng([seed, 2, index])), None


def _noise(each: int, seed: int) -> Iterator[Frame]:
    for index in range(each):
        rng = np.random.default_rng([seed, 3, index])
        rows = SIDES[index % len(SIDES)]
        field = gaussian_filter(rng.standard_normal((rows, rows * 4 // 3)), rng.choice((0.0, 0.8, 2.0, 6.0)))
        level = rng.uniform(40, 160) + rng.uniform(10, 60) * field / field.std()
        yield np.clip(level, 0, 255).astype(np.uint8), None


def _cines(each: int, seed: int) -> Iterator[list[Frame]]:
    """Give cines of phantom livers, half of them through sector probes, with a quarter of each without contact."""
    for index in range(each):
        rng = np.random.default_rng([seed, 4, index])
        scanner = (Scanner.random, Scanner.phased)[index // len(VIEWS) % 2](rng)
        shown = render_cine(draw_patient(rng), VIEWS[index % len(VIEWS)], scanner, frames=CINE)
        yield [(pixels, None) for pixels in shown]


def _breathing(whole: Sequence[Frame], paths: Sequence[Path], seed: int) -> Iterator[list[Frame]]:
    """Give cines made of real frames, every second as if through a sector probe."""
    for index, ((pixels, _), path) in enumerate(zip(whole, paths, strict=True)):
        shown = moving(pixels, seeded(seed, path), frames=CINE, phased=index % 2 == 1)
        yield [(frame, None) for frame in shown]


def _beating(each: int, seed: int) -> Iterator[list[Frame]]:
    for index in range(each):
        shown = render_beating_heart(np.random.default_rng([seed, 5, index]), frames=CINE)
        yield [(pixels, None) for pixels in shown]


def _hearts() -> Iterator[list[Frame]]:
    """Give the frames of each echocardiogram that comes with pydicom; what their headers say is not asked."""
    from pydicom.data import get_testdata_file

    for name in ("examples_ybr_color.dcm", "examples_palette.dcm"):
        path = Path(str(get_testdata_file(name, download=False)))
        yield [read_frame(path, frame) for frame in range(frame_count(path))]
