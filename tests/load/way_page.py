"""The part of docs/benchmarks.md on the way from claimed to proved, and its plot."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from xml.sax.saxutils import escape

_DOCS: Final = Path(__file__).parents[2] / "docs"
_COLOURS: Final = ("#1b6ca8", "#9fc3dd", "#d98c3f", "#e6c79c", "#3d8b5f", "#74b58f", "#b5d8c4")


def put(part: str, content: str) -> None:
    """Write a part of docs/benchmarks.md between its marks."""
    page, begin, end = _DOCS / "benchmarks.md", f"<!-- {part}: written by a bench -->", f"<!-- end of {part} -->"
    text = page.read_text(encoding="utf-8")
    assert begin in text, f"docs/benchmarks.md has no part {part!r}"
    marked = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    page.write_text(marked.sub(lambda _: f"{begin}\n\n{content}\n\n{end}", text), encoding="utf-8")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def dated(words: str) -> str:
    """Begin a part."""
    return f"{datetime.now(UTC).date().isoformat()}, {words}"


def stacked(stages: Mapping[str, float], whole: float, name: str, *, beside: float) -> None:
    """Draw the medians of the stages as one bar, and what of it is the engine's."""
    width, left, high = 900, 10, 46
    total = sum(stages.values())
    parts, x = [], float(left)
    for colour, (stage, value) in zip(_COLOURS, stages.items(), strict=True):
        wide = (width - 2 * left) * value / total
        said = f"{escape(stage)}: {value:.0f} ms"
        parts.append(
            f'<rect x="{x:.1f}" y="24" width="{wide:.1f}" height="{high}" fill="{colour}"><title>{said}</title></rect>'
        )
        if wide > 24:
            parts.append(f'<text x="{x + wide / 2:.1f}" y="52" text-anchor="middle">{value:.0f}</text>')
        x += wide
    for number, (colour, stage) in enumerate(zip(_COLOURS, stages, strict=True)):
        at, y = left + (number % 3) * 295, 92 + 18 * (number // 3)
        parts.append(f'<rect x="{at}" y="{y - 9}" width="10" height="10" fill="{colour}"/>')
        parts.append(f'<text x="{at + 14}" y="{y}">{escape(stage)}</text>')
    head = f"Medians in ms; claimed to proved {whole:.0f} ms, of which the engine takes {beside:.0f} ms"
    _write(name, width, 150, [f'<text x="{left}" y="16">{escape(head)}</text>', *parts])


def bars(values: Mapping[str, float], unit: str, name: str) -> None:
    """Draw named values as horizontal bars."""
    width, left = 900, 330
    most = max(values.values())
    parts = []
    for number, (label, value) in enumerate(values.items()):
        y = 10 + 22 * number
        wide = (width - left - 110) * value / most
        parts.append(f'<text x="{left - 8}" y="{y + 13}" text-anchor="end">{escape(label)}</text>')
        parts.append(f'<rect x="{left}" y="{y}" width="{wide:.1f}" height="17" fill="{_COLOURS[0]}"/>')
        parts.append(f'<text x="{left + wide + 6:.1f}" y="{y + 13}">{value:,.0f} {escape(unit)}</text>')
    _write(name, width, 20 + 22 * len(values), parts)


def _write(name: str, width: int, height: int, parts: Sequence[str]) -> None:
    head = f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12"'
    body = "\n".join(parts)
    (_DOCS / name).write_text(f'<svg xmlns="http://www.w3.org/2000/svg" {head}>\n{body}\n</svg>\n', encoding="utf-8")


def kept(folder: Path, name: str, values: Any) -> None:
    """Leave the figures beside the run, for whoever wants more than the page says."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(values, indent=1, ensure_ascii=False), encoding="utf-8")
