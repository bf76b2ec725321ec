"""Whether evidence on real frames follows the signs that it follows on phantoms; no steatosis label is needed.

The signs are those of `training.frames.cues`. How closely evidence follows them depends on how far the fat of a set's
patients is spread, so phantoms are shown both with grades drawn evenly and with mostly lean livers, as a set of lesions
is likely to have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from scipy.stats import spearmanr

from inference.contract import VIEWS
from inference.predictor import Predictor
from inference.sector import find_sector
from training.evaluation.robustness import WAYS, evidence
from training.frames.cues import CUES, CueLine, cues_of, fit_cue_line, phantom_cues
from training.frames.data import EDITED_ROWS, real_frames
from training.frames.edits import read_outlined
from training.metrics import auroc
from training.phantom import Scanner, draw_patient, render_view
from training.phantom.patient import PDFF_CUT_OFFS

SHOWN: Final = ("as it is", "field of 636 × 434", "cut out, 636 × 434", "sector probe")
SEED: Final = 727272
"""Of no experiment's data."""
LEAN: Final = 0.7
"""Share of livers below the first cut-off in the lean set."""


@dataclass(frozen=True, kw_only=True)
class Followed:
    """How the evidence on one set, stored in one way, goes with the signs."""

    name: str
    way: str
    frames: int
    taken: float
    """Share that the gate takes."""
    rho: dict[str, float]
    """Spearman's ρ of the evidence with each of `CUES`, and with the line through them."""
    area: float
    """AUROC of the evidence for S1 or more; not a number where no fat is known."""
    line_area: float
    """The line's."""


@dataclass(frozen=True)
class _Frame:
    pixels: np.ndarray
    sector: np.ndarray
    cues: np.ndarray
    fat: float


def followed(predictor: Predictor, aul: Path | None, each: int) -> Iterator[Followed]:
    """Compare the real frames kept out of training with `each` phantoms of every kind."""
    line = fit_cue_line(*phantom_cues())
    sets: dict[str, Callable[[], list[_Frame]]] = {
        "phantoms": lambda: _phantoms(each, 1, Scanner.random, lean=False),
        "phantoms, mostly lean": lambda: _phantoms(each, 2, Scanner.random, lean=True),
        "phantoms, foreign scanners": lambda: _phantoms(each, 3, Scanner.foreign, lean=False),
    }
    if aul is not None:
        sets = {"AUL held out": lambda: list(_real(aul)), **sets}
    for name, make in sets.items():
        frames = make()
        for way in SHOWN:
            yield _asked(predictor, name, way, frames, line)


def _asked(predictor: Predictor, name: str, way: str, frames: list[_Frame], line: CueLine) -> Followed:
    change = WAYS[way]
    asked = np.array(
        [
            evidence(predictor, change(one.pixels, one.sector, np.random.default_rng([SEED, index])))
            for index, one in enumerate(frames)
        ]
    )
    seen = np.isfinite(asked[:, 0])
    odds, cues = asked[seen, 0], np.stack([one.cues for one in frames])[seen]
    fat, score = np.array([one.fat for one in frames])[seen], line(cues)
    told = np.column_stack([cues, score])
    known = bool(np.isfinite(fat).all())
    return Followed(
        name=name,
        way=way,
        frames=len(frames),
        taken=float((asked[:, 1] >= predictor.bundle.liver_logit_minimum).mean()),
        rho={title: float(spearmanr(odds, told[:, place]).statistic) for place, title in enumerate((*CUES, "line"))},
        area=auroc(odds, fat >= PDFF_CUT_OFFS[0]) if known else float("nan"),
        line_area=auroc(score, fat >= PDFF_CUT_OFFS[0]) if known else float("nan"),
    )


def _real(aul: Path) -> Iterator[_Frame]:
    for path in real_frames(aul, "test"):
        outlined = read_outlined(path, EDITED_ROWS)
        if outlined is None:
            continue
        pixels, liver = outlined
        sector = find_sector(pixels)
        cues = cues_of(pixels, liver, sector)
        if cues is not None:
            yield _Frame(pixels, sector, cues, float("nan"))


def _phantoms(each: int, key: int, draw: Callable[[np.random.Generator], Scanner], *, lean: bool) -> list[_Frame]:
    found = []
    for index in range(each):
        rng = np.random.default_rng([SEED, key, index])
        fat = float(rng.uniform(0.5, PDFF_CUT_OFFS[0])) if lean and rng.random() < LEAN else None
        patient, scanner = draw_patient(rng, fat_fraction_percent=fat), draw(rng)
        frame = render_view(patient, VIEWS[index % len(VIEWS)], scanner)
        cues = cues_of(frame.pixels, frame.liver, frame.sector)
        if cues is not None:
            found.append(_Frame(frame.pixels, frame.sector, cues, patient.fat_fraction_percent))
    return found
