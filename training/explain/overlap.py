"""Whether saliency lies on the liver more than chance would have it: on real outlines, and on phantoms' truth.

Chance is the liver's share of the sector. Since livers lie in the middle of most pictures, a map that never looked at
its picture can beat that; so each picture's liver is also held against the maps of other pictures, laid over its
sector.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from inference.geometry import InputGeometry
from inference.preprocess import saliency_on_crop
from training.explain.pictures import Picture, Study
from training.explain.views import Predicts
from training.metrics import Interval, bootstrap, mean

OTHERS: Final = 12
"""Maps of other pictures that each liver is held against."""
ROUNDS: Final = 10_000
"""Of the tests; the smallest p they can give is one in so many."""


@dataclass(frozen=True, kw_only=True)
class Located:
    """Where the saliency of one picture lies."""

    study: str
    title: str
    chance: float
    """Share of the sector that the liver covers."""
    share: float
    """Share of the saliency on the liver."""
    swapped: float
    """The same with the maps of other pictures, on average."""
    hit: bool
    """The map's maximum lies on the liver (pointing game, Zhang et al. 2018)."""
    grade: str
    """That its study was told: the map shows the evidence for it, for S1 to S3 or more."""


@dataclass(frozen=True, kw_only=True)
class OverlapReport:
    """Figures of a set of pictures; those in tuples are (value, low, high), 95 % bootstrap over studies."""

    name: str
    pictures: int
    studies: int
    blank: int
    """Pictures without any saliency; they are left out."""
    share: Interval
    chance: Interval
    swapped: Interval
    above_chance: Interval
    """Mean of share less chance."""
    above_swapped: Interval
    """Mean of share less that of other pictures' maps."""
    ahead: float
    """Part of the pictures whose share is above chance."""
    p_chance: float
    """One-sided, that the share is no more than chance: signs of the studies' mean differences flipped at random."""
    p_swapped: float
    """The same against other pictures' maps."""
    hits: Interval
    """Of the pointing game."""
    hits_above_chance: Interval
    p_hits: float
    """One-sided, that maxima fall anywhere in the sector; a study's views hit or miss independently."""

    @property
    def ok(self) -> bool:
        """Whether maps lie on the liver more than chance, at 5 %, by both measures."""
        return self.p_chance < 0.05 and self.p_hits < 0.05


def located(predictor: Predicts, studies: Iterable[Study], geometry: InputGeometry, *, seed: int = 0) -> list[Located]:
    """Measure where the saliency lies in every picture whose liver is known; blank maps give no entry's share.

    Parameters
    ----------
    predictor
        An opened bundle.
    studies
        Each is scored whole, as serving does.
    geometry
        Of the bundle.
    """
    rng = np.random.default_rng(seed)
    maps: list[tuple[str, Picture, np.ndarray]] = []
    told: list[str] = []
    for study in studies:
        answer = predictor.predict(study.tensor)
        known = zip(study.pictures, answer.saliency, strict=True)
        maps += [(study.title, picture, grid) for picture, grid in known if picture.liver_seen is not None]
        told += [answer.grade] * (len(maps) - len(told))
    return [_located(number, maps, told[number], geometry, rng) for number in range(len(maps))]


def _located(
    number: int,
    maps: Sequence[tuple[str, Picture, np.ndarray]],
    grade: str,
    geometry: InputGeometry,
    rng: np.random.Generator,
) -> Located:
    study, picture, grid = maps[number]
    liver = picture.liver_seen
    strangers = [index for index, (other, _, _) in enumerate(maps) if other != study]
    chosen = rng.choice(strangers, min(OTHERS, len(strangers)), replace=False) if strangers else []
    shown = saliency_on_crop(grid, picture.prepared, geometry)
    swapped = [_share(saliency_on_crop(maps[index][2], picture.prepared, geometry), liver) for index in chosen]
    seen = [value for value in swapped if np.isfinite(value)]
    return Located(
        study=study,
        title=picture.title,
        chance=float(liver.sum() / picture.prepared.sector.sum()),
        share=_share(shown, liver),
        swapped=float(np.mean(seen)) if seen else float("nan"),
        hit=bool(liver[np.unravel_index(int(shown.argmax()), shown.shape)]),
        grade=grade,
    )


def _share(saliency: np.ndarray, mask: np.ndarray) -> float:
    """Return the part of the saliency that lies on the mask; not a number for a blank map."""
    whole = float(saliency.sum(dtype=np.float64))
    return float(saliency[mask].sum(dtype=np.float64) / whole) if whole > 0 else float("nan")


def overlap(name: str, found: Sequence[Located], *, seed: int = 0) -> OverlapReport:
    """Sum up where the saliency of a set of pictures lies.

    Raises
    ------
    ValueError
        There is no picture with a map and a liver.
    """
    shown = [entry for entry in found if np.isfinite(entry.share)]
    if not shown:
        raise ValueError(f"{name}: there is no picture with an outlined liver and a map.")

    def by_study(figure: Callable[[Located], float]) -> np.ndarray:
        return np.array([np.mean([figure(entry) for entry in group]) for group in _grouped(shown)])

    against_chance = by_study(lambda entry: entry.share - entry.chance)
    against_others = by_study(lambda entry: entry.share - entry.swapped)
    strangers = np.isfinite(against_others).all()
    unknown = (float("nan"),) * 3
    return OverlapReport(
        name=name,
        pictures=len(shown),
        studies=len(against_chance),
        blank=len(found) - len(shown),
        share=bootstrap(mean, by_study(lambda entry: entry.share), seed=seed),
        chance=bootstrap(mean, by_study(lambda entry: entry.chance), seed=seed),
        swapped=bootstrap(mean, by_study(lambda entry: entry.swapped), seed=seed) if strangers else unknown,
        above_chance=bootstrap(mean, against_chance, seed=seed),
        above_swapped=bootstrap(mean, against_others, seed=seed) if strangers else unknown,
        ahead=float(np.mean([entry.share > entry.chance for entry in shown])),
        p_chance=flipped_signs(against_chance, seed=seed),
        p_swapped=flipped_signs(against_others, seed=seed) if strangers else float("nan"),
        hits=bootstrap(mean, by_study(lambda entry: entry.hit), seed=seed),
        hits_above_chance=bootstrap(mean, by_study(lambda entry: entry.hit - entry.chance), seed=seed),
        p_hits=hits_by_chance(shown, seed=seed),
    )


def flipped_signs(differences: np.ndarray, *, rounds: int = ROUNDS, seed: int = 0) -> float:
    """Return the one-sided p of the mean of paired differences being above 0, by flipping their signs."""
    rng = np.random.default_rng(seed)
    signs = rng.choice(np.array([-1.0, 1.0]), (rounds, len(differences)))
    means = signs @ differences / len(differences)
    return float((1 + (means >= differences.mean() - 1e-12).sum()) / (rounds + 1))


def hits_by_chance(found: Sequence[Located], *, rounds: int = ROUNDS, seed: int = 0) -> float:
    """Return the one-sided p of so many hits if each maximum fell anywhere in its sector."""
    rng = np.random.default_rng(seed)
    chances = np.array([entry.chance for entry in found])
    drawn = (rng.random((rounds, len(found))) < chances).sum(axis=1)
    return float((1 + (drawn >= sum(entry.hit for entry in found)).sum()) / (rounds + 1))


def _grouped(found: Sequence[Located]) -> Iterator[list[Located]]:
    groups: dict[str, list[Located]] = {}
    for entry in found:
        groups.setdefault(entry.study, []).append(entry)
    yield from groups.values()
