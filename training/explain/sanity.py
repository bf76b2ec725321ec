"""Sanity checks for saliency maps (Adebayo et al. 2018): a map that survives random weights shows no model.

Weights are replaced from the heads down through the trunk, cascading, by draws of the same mean and spread. The map of
the evidence for steatosis must then change. Similarity is Spearman's rank correlation and SSIM (Wang et al. 2004), on
the map's own grid and inside the sector only: around it all maps are alike.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from scipy.ndimage import gaussian_filter
from scipy.stats import rankdata

from inference.backends.registry import open_engine
from inference.contract import OUTPUT_SALIENCY
from training.bundle.export import shipped
from training.explain.pictures import Study
from training.members.models import Member
from training.metrics import Interval, bootstrap

HEADS: Final = (("grade",), ("fusion",), ("embed", "profile", "clinical"), ("spatial",))
"""Between the features and the evidence, from its end: modules that are replaced together."""
TRUNK: Final = "trunk"
TRUNK_STEPS: Final = 4
HIGHEST_SIMILARITY: Final = 0.5
"""Rank correlation, without its sign, that maps of random weights may keep with the fitted member's on average."""
LEAST_CELLS: Final = 8
"""Of the grid inside the sector; fewer tell nothing."""
_SSIM_SPREAD: Final = 1.5
_SSIM_STABLE: Final = (0.01**2, 0.03**2)
"""Window and constants of Wang et al. for values from 0 to 1."""
_STATISTICS: Final = ("running_mean", "running_var", "num_batches_tracked")
"""Of batch normalisation: nothing that was learnt, and a variance drawn at random may be negative."""
_HALF: Final = re.compile(r"_half$")

Weights = Mapping[str, np.ndarray]


class SanityError(Exception):
    """Maps do not depend on the weights as they must, or there are no maps to compare."""


class Subject(Protocol):
    """A member whose weights can be replaced."""

    name: str
    weights: Weights

    def maps(self, weights: Weights, views: np.ndarray) -> np.ndarray:
        """Return Grad-CAM [V, h, w] of views [V, C, H, W] with these weights in place of the own ones."""


class TorchSubject:
    """A fitted member in torch, as it ships: normalisation folded into the convolutions.

    Parameters
    ----------
    name
        For tables.
    member
        Of `training.members.fit.read_member`.
    """

    def __init__(self, name: str, member: Member) -> None:
        self.name = name
        self._member = shipped(member)
        self.weights = {key: value.numpy().copy() for key, value in self._member.state_dict().items()}

    def maps(self, weights: Weights, views: np.ndarray) -> np.ndarray:
        """Return the maps; see `Subject`."""
        state = {key: torch.from_numpy(np.ascontiguousarray(value)) for key, value in weights.items()}
        with torch.no_grad():
            outputs = torch.func.functional_call(self._member, state, (torch.from_numpy(views),))
        return outputs.saliency.numpy()


class GraphSubject:
    """An exported member: the graph itself, with its initialisers replaced.

    Exporting stores some weights a second time, transposed and without their name; the copies follow the named ones.

    Parameters
    ----------
    name
        For tables.
    graph
        Bytes of the ONNX file.
    """

    def __init__(self, name: str, graph: bytes) -> None:
        self.name = name
        self._model = onnx.load_from_string(graph)
        stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in self._model.graph.initializer}
        self._stored = {_plain(key): key for key in stored if "." in key}
        self.weights = {plain: stored[key].astype(np.float32) for plain, key in self._stored.items()}
        self._copies = {
            key: plain
            for key, value in stored.items()
            if "." not in key and value.ndim == 2 and min(value.shape) > 0
            for plain, original in self._stored.items()
            if stored[original].ndim == 2 and np.array_equal(stored[original].T, value)
        }

    def maps(self, weights: Weights, views: np.ndarray) -> np.ndarray:
        """Return the maps; see `Subject`."""
        (outputs,) = self._engine(weights).run(views)
        return np.asarray(outputs[OUTPUT_SALIENCY])

    def _engine(self, weights: Weights):
        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        for tensor in model.graph.initializer:
            plain, copied = _plain(tensor.name), self._copies.get(tensor.name)
            if plain in weights or copied is not None:
                value = weights[plain] if plain in weights else weights[copied].T
                kind = numpy_helper.to_array(tensor).dtype
                tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value, kind), tensor.name))
        return open_engine("onnxruntime", [model.SerializeToString()], 1)


def _plain(name: str) -> str:
    return _HALF.sub("", name)


def stages(names: Iterable[str]) -> list[tuple[str, tuple[str, ...]]]:
    """Return (label, weights) of each stage of the cascade, heads first, then the trunk from its end.

    Raises
    ------
    SanityError
        There is no grade head or no trunk among the weights.
    """
    names = [name for name in names if not name.endswith(_STATISTICS)]
    found = [("+".join(modules), _of(names, modules)) for modules in HEADS]
    found = [("+".join(_present(label, weights)), weights) for label, weights in found if weights]
    units = _trunk_units(names)
    if not found or "grade" not in found[0][0] or not units:
        raise SanityError("There is no grade head or no trunk among the weights; this check does not know the model.")
    steps = [list(part) for part in np.array_split(np.arange(len(units)), min(TRUNK_STEPS, len(units)))]
    for number, part in enumerate(steps):
        weights = tuple(name for index in part for name in units[index])
        found.append((f"trunk, part {len(steps) - number} of {len(steps)}", weights))
    return found


def _of(names: Sequence[str], modules: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in names if name.split(".")[0] in modules)


def _present(label: str, weights: Sequence[str]) -> list[str]:
    return [module for module in label.split("+") if any(name.split(".")[0] == module for name in weights)]


def _trunk_units(names: Sequence[str]) -> list[list[str]]:
    """Group the trunk's weights by block, the one nearest the heads first; what has no number comes at the stem."""
    units: dict[tuple[int, ...], list[str]] = {}
    for name in names:
        if name.split(".")[0] == TRUNK:
            numbers = tuple(int(part) for part in name.split(".") if part.isdigit())
            units.setdefault(numbers, []).append(name)
    return [units[key] for key in sorted(units, reverse=True)]


def randomised(weights: Weights, chosen: Iterable[str], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Replace the chosen weights by normal draws of the same mean and spread; others stay."""
    result = dict(weights)
    for name in chosen:
        own = np.asarray(weights[name], dtype=np.float64)
        drawn = rng.normal(own.mean(), own.std() or 1.0, own.shape)
        result[name] = drawn.astype(np.float32)
    return result


def cells_inside(study: Study, height: int, width: int, shape: tuple[int, int]) -> np.ndarray:
    """Return which cells of maps of that shape lie mostly in the sector, bool [V, h, w], for a member's input size."""
    inside = np.zeros((len(study.pictures), *shape), dtype=bool)
    rows, columns = height // shape[0], width // shape[1]
    for number, picture in enumerate(study.pictures):
        x0, y0, x1, y1 = picture.prepared.content
        sector = picture.prepared.sector
        whole = np.zeros((height, width))
        across = (np.arange(x1 - x0) * sector.shape[1] / (x1 - x0)).astype(int)
        down = (np.arange(y1 - y0) * sector.shape[0] / (y1 - y0)).astype(int)
        whole[y0:y1, x0:x1] = sector[np.ix_(down, across)]
        cut = whole[: rows * shape[0], : columns * shape[1]]
        inside[number] = cut.reshape(shape[0], rows, shape[1], columns).mean(axis=(1, 3)) >= 0.5
    return inside


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Return Spearman's rank correlation of two lists; not a number where one is constant."""
    ranks = [rankdata(values) - (len(values) + 1) / 2 for values in (first, second)]
    spread = float(np.sqrt((ranks[0] ** 2).sum() * (ranks[1] ** 2).sum()))
    return float((ranks[0] * ranks[1]).sum() / spread) if spread else float("nan")


def structural_similarity(first: np.ndarray, second: np.ndarray, inside: np.ndarray) -> float:
    """Return SSIM of two maps [h, w], each scaled to its own maximum, over the cells inside."""
    blur = partial(gaussian_filter, sigma=_SSIM_SPREAD, mode="reflect")
    a, b = (np.asarray(values, np.float64) / max(float(values.max()), 1e-12) for values in (first, second))
    mean_a, mean_b = blur(a), blur(b)
    luminance, contrast = _SSIM_STABLE
    both = (2 * mean_a * mean_b + luminance) * (2 * (blur(a * b) - mean_a * mean_b) + contrast)
    each = (mean_a**2 + mean_b**2 + luminance) * (blur(a * a) - mean_a**2 + blur(b * b) - mean_b**2 + contrast)
    return float((both / each)[inside].mean())


@dataclass(frozen=True, kw_only=True)
class Similarity:
    """How alike maps were, over all comparisons of one row of the table."""

    label: str
    rank: Interval
    """Mean Spearman correlation, with 95 % bootstrap interval over patients."""
    rank_size: Interval
    """The same without its sign: a map turned over still shows the same picture."""
    ssim: Interval
    comparisons: int
    empty: float
    """Share of the comparisons left out since the changed member's map is blank or has one value everywhere."""


@dataclass(frozen=True, kw_only=True)
class SanityReport:
    """The checks of one set of members."""

    cascade: tuple[Similarity, ...]
    """Each stage with all before it."""
    alone: tuple[Similarity, ...]
    """Each stage by itself, the rest as fitted."""
    members: Similarity | None
    """Between members as fitted, for comparison: what learning twice leaves alike."""
    limit: float
    failures: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether the maps depend on the weights."""
        return not self.failures


@dataclass
class _Row:
    """Comparisons of one row, by study."""

    label: str
    rank: list[list[float]]
    ssim: list[list[float]]
    empty: int = 0

    def add(self, study: int, maps: np.ndarray, others: np.ndarray, inside: np.ndarray) -> None:
        for own, other, cells in zip(maps, others, inside, strict=True):
            rank = rank_correlation(own[cells], other[cells])
            if cells.sum() < LEAST_CELLS or not np.ptp(own[cells]) > 0:
                continue
            if not np.isfinite(rank):
                self.empty += 1
                continue
            self.rank[study].append(rank)
            self.ssim[study].append(structural_similarity(own, other, cells))

    def similarity(self) -> Similarity:
        count = sum(len(found) for found in self.rank)
        return Similarity(
            label=self.label,
            rank=_over_patients(self.rank, np.asarray),
            rank_size=_over_patients(self.rank, np.abs),
            ssim=_over_patients(self.ssim, np.asarray),
            comparisons=count,
            empty=self.empty / max(count + self.empty, 1),
        )


def check(
    subjects: Sequence[Subject],
    studies: Sequence[Study],
    size: tuple[int, int],
    *,
    draws: int = 3,
    seed: int = 0,
    limit: float = HIGHEST_SIMILARITY,
) -> SanityReport:
    """Compare the members' maps with those of random weights.

    Parameters
    ----------
    subjects
        Members of one ensemble.
    studies
        Whose maps are compared.
    size
        Height and width of the members' input.
    draws
        Random weights for each member and stage.
    limit
        The check fails where the mean rank correlation, without its sign, is above it once the grade head, or once
        everything, is random; or where no map is left to compare.

    Raises
    ------
    SanityError
        The members make no maps of these studies.
    """
    rng = np.random.default_rng(seed)
    cascade, alone = {}, {}
    between = _row("members as fitted, with each other", studies)
    first: list[list[np.ndarray]] = []
    insides: list[np.ndarray] = []
    for subject in subjects:
        steps = stages(subject.weights)
        fitted = [subject.maps(subject.weights, study.tensor) for study in studies]
        insides = insides or [
            cells_inside(study, *size, maps.shape[1:]) for study, maps in zip(studies, fitted, strict=True)
        ]
        for earlier in first:
            _compare(between, earlier, fitted, insides)
        first.append(fitted)
        for _ in range(draws):
            changed: Weights = subject.weights
            for label, chosen in steps:
                changed = randomised(changed, chosen, rng)
                single = randomised(subject.weights, chosen, rng)
                for rows, weights in ((cascade, changed), (alone, single)):
                    row = rows.setdefault(label, _row(label, studies))
                    _compare(row, fitted, [subject.maps(weights, study.tensor) for study in studies], insides)
    if not any(np.ptp(maps) > 0 for fitted in first for maps in fitted):
        raise SanityError("The members' own maps are blank; there is nothing to check.")
    down = tuple(row.similarity() for row in cascade.values())
    return SanityReport(
        cascade=down,
        alone=tuple(row.similarity() for row in alone.values()),
        members=between.similarity() if len(subjects) > 1 else None,
        limit=limit,
        failures=tuple(_failures(down, limit)),
    )


def _row(label: str, studies: Sequence[Study]) -> _Row:
    return _Row(label, [[] for _ in studies], [[] for _ in studies])


def _compare(
    row: _Row, maps: Sequence[np.ndarray], others: Sequence[np.ndarray], insides: Sequence[np.ndarray]
) -> None:
    for number, (own, other, inside) in enumerate(zip(maps, others, insides, strict=True)):
        row.add(number, own, other, inside)


def _failures(cascade: Sequence[Similarity], limit: float) -> Iterable[str]:
    for row, what in ((cascade[0], "the grade head is"), (cascade[-1], "all weights are")):
        value = row.rank_size[0]
        if not row.comparisons:
            yield f"No map is left to compare once {what} random."
        elif not value <= limit:
            yield f"Maps stay alike once {what} random: rank correlation {value:.2f}, allowed {limit:.2f}."


def _over_patients(found: Sequence[Sequence[float]], change: Callable[[np.ndarray], np.ndarray]) -> Interval:
    means = np.array([change(np.array(values)).mean() for values in found if values])
    return bootstrap(np.mean, means) if len(means) else (float("nan"),) * 3
