"""The receive part of docs/benchmarks.md, and its plot."""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from xml.sax.saxutils import escape

from tests.load.sending import Measured

AGENT, STORESCP, SYNCING, NAMING = "agent", "storescp", "storescp, syncing", "storescp, naming"
ORTHANC, PYNETDICOM = "Orthanc", "pynetdicom"
NAMES: Final = (AGENT, STORESCP, SYNCING, NAMING, ORTHANC, PYNETDICOM)
_DOCS: Final = Path(__file__).parents[2] / "docs"
_MARKS: Final = {
    False: ("<!-- receive: written by `make bench` -->", "<!-- end of receive -->"),
    True: ("<!-- receive in memory: written by `make bench` -->", "<!-- end of receive in memory -->"),
}
_COLOURS: Final = {
    AGENT: "#1b6ca8",
    STORESCP: "#6e6e6e",
    SYNCING: "#9a9a9a",
    NAMING: "#c6c6c6",
    ORTHANC: "#d98c3f",
    PYNETDICOM: "#e6c79c",
}


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Medians of one receiver in one cell."""

    megabytes_a_second: float
    cpu_seconds_a_gigabyte: float
    peak_bytes: int
    answer_seconds: tuple[float, float] | None
    slowest: float
    fastest: float

    @classmethod
    def of(cls, runs: Sequence[Measured], answer_seconds: tuple[float, float] | None) -> Figures:
        rates = [run.megabytes_a_second for run in runs]
        return cls(
            megabytes_a_second=statistics.median(rates),
            cpu_seconds_a_gigabyte=statistics.median(run.cpu_seconds_a_gigabyte for run in runs),
            peak_bytes=max(run.peak_bytes for run in runs),
            answer_seconds=answer_seconds,
            slowest=min(rates),
            fastest=max(rates),
        )


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One corpus with so many associations at once."""

    corpus: str
    associations: int
    figures: dict[str, Figures]

    @property
    def name(self) -> str:
        return f"{self.corpus} × {self.associations}"

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> Cell:
        """Make a cell of what `dataclasses.asdict` made of one."""
        return cls(**{**told, "figures": {name: Figures(**figures) for name, figures in told["figures"].items()}})

    def ratio(self, of: str, to: str) -> float:
        return self.figures[of].megabytes_a_second / self.figures[to].megabytes_a_second


def write(cells: Sequence[Cell], *, machine: str, repeats: int, in_memory: bool) -> None:
    """Put the tables into docs/benchmarks.md, between their marks, and draw the plot beside it.

    Parameters
    ----------
    in_memory
        The stores lay on a file system in memory: a part of its own, since nothing was durable.
    """
    page, (begin, end) = _DOCS / "benchmarks.md", _MARKS[in_memory]
    today = datetime.now(UTC).date().isoformat()
    told = f"{today}, {machine}, medians of {repeats}; the agent runs one listener process a core."
    plot = f"benchmarks-receive{'-in-memory' if in_memory else ''}.svg"
    content = "\n\n".join((told, f"![ratios]({plot})", _ratios(cells), _rates(cells), _costs(cells)))
    marked = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    text = marked.sub(lambda _: f"{begin}\n\n{content}\n\n{end}", page.read_text(encoding="utf-8"))
    page.write_text(text, encoding="utf-8")
    (_DOCS / plot).write_text(_plot(cells), encoding="utf-8")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _ratios(cells: Sequence[Cell]) -> str:
    others = [name for name in NAMES if name != AGENT]
    rows = [[cell.name, *(f"{cell.ratio(AGENT, other):.2f}" for other in others)] for cell in cells]
    return _table(["agent : peer", *others], rows)


def _rates(cells: Sequence[Cell]) -> str:
    def told(one: Figures) -> str:
        return f"{one.megabytes_a_second:.0f} ({one.slowest:.0f}–{one.fastest:.0f})"

    rows = [[cell.name, *(told(cell.figures[name]) for name in NAMES)] for cell in cells]
    return _table(["MB/s (lowest–highest)", *NAMES], rows)


def _costs(cells: Sequence[Cell]) -> str:
    def told(one: Figures) -> str:
        cost = f"{one.cpu_seconds_a_gigabyte:.1f} s/GB, {one.peak_bytes / 1e6:.0f} MB"
        if one.answer_seconds is None:
            return cost
        median, late = (1000 * seconds for seconds in one.answer_seconds)
        return f"{cost}, {median:.1f} / {late:.1f} ms"

    rows = [[cell.name, *(told(cell.figures[name]) for name in NAMES)] for cell in cells]
    return _table(["CPU, peak memory, answer p50 / p95", *NAMES], rows)


def _plot(cells: Sequence[Cell]) -> str:
    """Bars of throughput relative to storescp's."""
    width, left, bar, gap, high = 900, 60, 13, 26, 260
    group = bar * len(NAMES) + gap
    most = max(2.0, *(min(4.0, cell.ratio(name, STORESCP)) for cell in cells for name in NAMES))
    parts = []
    for mark in (0.5, 1.0, 1.5, 2.0, 3.0, 4.0):
        if mark <= most:
            y = 30 + high * (1 - mark / most)
            parts.append(f'<line x1="{left}" y1="{y:.0f}" x2="{width}" y2="{y:.0f}" stroke="#ddd"/>')
            parts.append(f'<text x="{left - 6}" y="{y + 4:.0f}" text-anchor="end">{mark:g}</text>')
    for n, cell in enumerate(cells):
        x = left + gap // 2 + n * group
        for k, name in enumerate(NAMES):
            ratio = cell.ratio(name, STORESCP)
            tall = high * min(ratio, most) / most
            at = f'x="{x + k * bar}" y="{30 + high - tall:.1f}" width="{bar - 2}" height="{tall:.1f}"'
            parts.append(f'<rect {at} fill="{_COLOURS[name]}"><title>{escape(name)}: {ratio:.2f}</title></rect>')
        middle = x + group // 2 - gap // 2
        words = cell.name.replace(" with Nagle", ", Nagle").split(" × ")
        parts.append(f'<text x="{middle}" y="{high + 48}" text-anchor="middle">{escape(words[0])}</text>')
        parts.append(f'<text x="{middle}" y="{high + 62}" text-anchor="middle">× {escape(words[1])}</text>')
    for k, name in enumerate(NAMES):
        parts.append(f'<rect x="{left + k * 135}" y="8" width="10" height="10" fill="{_COLOURS[name]}"/>')
        parts.append(f'<text x="{left + k * 135 + 14}" y="17">{escape(name)}</text>')
    body = "\n".join(parts)
    title = f"<title>Throughput relative to storescp; bars end at {most:g}</title>"
    head = f'viewBox="0 0 {width} {high + 80}" font-family="sans-serif" font-size="11"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {head}>\n{title}\n{body}\n</svg>\n'
