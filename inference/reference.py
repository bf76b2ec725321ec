"""How figures were distributed where a bundle was made: `reference.json` beside `bundle.json`, and histograms at large.

The file is no part of the bundle's digest: it says nothing of how studies are scored, and a bundle that lacks it is
whole. It names the digest that it was made for, so that a file left over from another bundle is not taken.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

FILE: Final = "reference.json"
FORMAT: Final = 1
MOST_BINS: Final = 10
_PER_BIN: Final = 10
"""Values that a bin of a numeric figure should hold in the reference."""
_PER_COARSE_BIN: Final = 6
"""Values a bin of those compared with it: ten bins of two studies each show nothing but chance."""
_LEAST_BINS: Final = 3
OTHER: Final = "other"
"""Bin of what the reference has never seen."""
Value = float | str


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """Counts of one figure: of a number between inner edges, or of words by name.

    Parameters
    ----------
    edges
        Inner edges, rising; a number is in bin i where i edges lie at or below it. None for words.
    names
        Words, one a bin; what is none of them falls into a last bin, `OTHER`. None for numbers.
    counts
        One a bin.
    """

    edges: tuple[float, ...] | None
    names: tuple[str, ...] | None
    counts: tuple[int, ...]

    def __post_init__(self) -> None:
        if (self.edges is None) == (self.names is None):
            raise ValueError("a histogram has edges or names")
        bins = len(self.edges) + 1 if self.edges is not None else len(self.names or ()) + 1
        if len(self.counts) != bins or min(self.counts) < 0:
            raise ValueError(f"{len(self.counts)} counts for {bins} bins")
        if self.edges is not None and list(self.edges) != sorted(set(self.edges)):
            raise ValueError("edges do not rise")

    @classmethod
    def of(cls, values: Iterable[Value]) -> Histogram:
        """Make the histogram of a reference: numbers between their own quantiles, words by name."""
        found = list(values)
        if any(isinstance(value, str) for value in found):
            counted = Counter(str(value) for value in found)
            names = tuple(sorted(counted, key=_natural))
            return cls(edges=None, names=names, counts=(*(counted[name] for name in names), 0))
        numbers = np.array(found, np.float64)
        bins = min(MOST_BINS, max(_LEAST_BINS, len(numbers) // _PER_BIN))
        inner = np.quantile(numbers, np.linspace(0, 1, bins + 1)[1:-1]) if len(numbers) else np.zeros(0)
        edges = tuple(float(edge) for edge in np.unique(inner))
        made = cls(edges=edges, names=None, counts=(0,) * (len(edges) + 1))
        return cls(edges=edges, names=None, counts=tuple(int(count) for count in made.count(found)))

    def count(self, values: Iterable[Value]) -> NDArray[np.int64]:
        """Count other values in the same bins."""
        found = list(values)
        if self.edges is not None:
            places = np.searchsorted(np.array(self.edges), np.array(found, np.float64), side="right")
            return np.bincount(places, minlength=len(self.counts)).astype(np.int64)
        names = {name: index for index, name in enumerate(self.names or ())}
        places = np.array([names.get(str(value), len(names)) for value in found], np.int64)
        return np.bincount(places, minlength=len(self.counts)).astype(np.int64)

    def coarser(self, values: int) -> Histogram:
        """Join neighbouring bins of a number so that `values` others suffice; words stay as they are."""
        bins = len(self.counts)
        wanted = min(bins, max(_LEAST_BINS, values // _PER_COARSE_BIN))
        if self.edges is None or wanted == bins:
            return self
        starts = [round(index * bins / wanted) for index in range(wanted)]
        counts = np.add.reduceat(np.array(self.counts), starts)
        edges = tuple(self.edges[start - 1] for start in starts[1:])
        return Histogram(edges=edges, names=None, counts=tuple(int(count) for count in counts))

    @property
    def total(self) -> int:
        """How many values it was made of."""
        return sum(self.counts)

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        kind = {"edges": list(self.edges)} if self.edges is not None else {"names": list(self.names or ())}
        return {**kind, "counts": list(self.counts)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Histogram:
        """Rebuild it; raises ValueError, KeyError or TypeError where the values are none."""
        edges = values.get("edges")
        if edges is not None and not all(math.isfinite(edge) for edge in edges):
            raise ValueError("an edge is not finite")
        return cls(
            edges=None if edges is None else tuple(float(edge) for edge in edges),
            names=None if edges is not None else tuple(str(name) for name in values["names"]),
            counts=tuple(int(count) for count in values["counts"]),
        )


def _natural(name: str) -> tuple[int, str]:
    """Order words that begin with a number by it."""
    digits = "".join(takewhile(str.isdecimal, name))
    return (int(digits) if digits else -1, name)


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What a bundle was made with."""

    made_from: str
    """In words, for people."""
    figures: Mapping[str, Histogram]


def write_reference(folder: Path, digest: str, made_from: str, values: Mapping[str, Iterable[Value]]) -> Path:
    """Write the file beside a finished bundle; a figure's values become a histogram."""
    figures = {name: Histogram.of(found).as_dict() for name, found in values.items()}
    content = {"format": FORMAT, "bundle": digest, "made_from": made_from, "figures": figures}
    path = folder / FILE
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def read_reference(folder: Path, digest: str) -> tuple[Reference | None, str]:
    """Read a bundle's reference.

    Returns
    -------
    tuple
        The reference, or None; and in words what there is, or why there is none.
    """
    path = folder / FILE
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None, "the bundle has no reference distribution"
    except (OSError, ValueError, RecursionError) as error:
        return None, f"{FILE} of the bundle cannot be read: {type(error).__name__}"
    try:
        if content["format"] != FORMAT:
            return None, f"{FILE} of the bundle is not of format {FORMAT}"
        if content["bundle"] != digest:
            return None, f"{FILE} was made for another bundle"
        figures = {str(name): Histogram.from_dict(values) for name, values in content["figures"].items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        return None, f"{FILE} of the bundle lacks or garbles {error}"
    made_from = str(content.get("made_from", ""))
    return Reference(made_from=made_from, figures=figures), made_from
