"""Where things lie in the small drawings of the watching page: numbers in, coordinates out; templates draw them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from agent.watch.agreement import Agreement, Pair

_LINE: Final = (320.0, 96.0, 52.0)
_SCATTER: Final = (640.0, 260.0, 46.0)
_MONTHS: Final = (640.0, 200.0, 46.0)
"""Width, height, and the margin on the left that labels need."""
_TOP, _BOTTOM, _RIGHT = 10.0, 22.0, 12.0
_BAR: Final = (320.0, 18.0, 100.0)
"""Width, height of a row, and room for its name."""
_MOST_POINTS: Final = 600
_LEAST_KAPPA: Final = -0.2


def line(points: Sequence[tuple[float, float]], band: tuple[float, float] | None, start: float) -> dict[str, Any]:
    """Lay medians by day out, (beginning of the day, value), with the reference's band and where the window starts."""
    width, height, margin = _LINE
    values = [value for _, value in points] + list(band or ())
    low, high = min(values), max(values)
    room = (high - low) * 0.15 or max(abs(high) * 0.1, 0.1)
    low, high = low - room, high + room
    first, last = points[0][0], max(points[-1][0], points[0][0] + 86400.0)

    def x(day: float) -> float:
        return round(margin + (width - margin - _RIGHT) * (day - first) / (last - first), 1)

    def y(value: float) -> float:
        return round(_TOP + (height - _TOP - _BOTTOM) * (high - value) / (high - low), 1)

    return {
        "width": width,
        "height": height,
        "margin": margin,
        "points": [{"x": x(day), "y": y(value), "new": day >= start} for day, value in points],
        "path": " ".join(f"{x(day)},{y(value)}" for day, value in points),
        "band": None if band is None else {"y": y(band[1]), "height": round(y(band[0]) - y(band[1]), 1)},
        "start": x(start) if first < start < last else None,
        "ticks": [{"y": y(value), "text": _short(value)} for value in (band or (min(values), max(values)))],
        "from": _day(first),
        "to": _day(points[-1][0]),
    }


def bars(names: Sequence[str], then: Sequence[float], now: Sequence[float]) -> dict[str, Any]:
    """Lay shares out as pairs of bars, a row a name; names that neither has are left out."""
    width, row, margin = _BAR
    shown = [each for each in zip(names, then, now, strict=True) if each[1] > 0 or each[2] > 0]
    highest = max([0.01, *then, *now])

    def length(share: float) -> float:
        return round((width - margin - 40) * share / highest, 1)

    rows = [
        {"name": name, "y": index * row * 1.6, "then": length(before), "now": length(after), "share": f"{after:.0%}"}
        for index, (name, before, after) in enumerate(shown)
    ]
    return {"rows": rows, "width": width, "height": round(len(rows) * row * 1.6, 1), "margin": margin}


def scatter(found: Agreement) -> dict[str, Any] | None:
    """Lay differences out over means (Bland and Altman), with bias and limits; None without limits."""
    limits = found.fat_fraction
    if limits is None or limits.low is None or limits.high is None:
        return None
    width, height, margin = _SCATTER
    pairs = [pair for pair in found.pairs if pair.difference is not None][:_MOST_POINTS]
    reach = 1.1 * max(1.0, -limits.low, limits.high, *(abs(pair.difference or 0.0) for pair in pairs))
    far = max(10.0, *(_mean(pair) for pair in pairs))

    def x(value: float) -> float:
        return round(margin + (width - margin - _RIGHT) * value / far, 1)

    def y(value: float) -> float:
        return round(_TOP + (height - _TOP - _BOTTOM) * (reach - value) / (2 * reach), 1)

    lines = (("bias", limits.bias), ("upper limit", limits.high), ("lower limit", limits.low))
    return {
        "width": width,
        "height": height,
        "margin": margin,
        "points": [{"x": x(_mean(p)), "y": y(p.difference or 0.0), "differs": p.differs} for p in pairs],
        "lines": [{"y": y(value), "text": f"{name} {value:+.1f}", "bias": name == "bias"} for name, value in lines],
        "zero": y(0.0),
        "ticks": [{"x": x(far * part / 4), "text": f"{far * part / 4:.0f}"} for part in range(5)],
    }


def months(parts: Sequence[tuple[str, Agreement]]) -> dict[str, Any] | None:
    """Lay kappa out month by month, each with its interval; None where none is known."""
    known = [(name, found.kappa) for name, found in parts if found.kappa is not None and found.kappa.value is not None]
    if not known:
        return None
    width, height, margin = _MONTHS
    step = (width - margin - _RIGHT) / len(known)

    def y(value: float | None) -> float:
        share = (1.0 - max(value or 0.0, _LEAST_KAPPA)) / (1.0 - _LEAST_KAPPA)
        return round(_TOP + (height - _TOP - _BOTTOM) * share, 1)

    return {
        "width": width,
        "height": height,
        "margin": margin,
        "points": [
            {
                "x": round(margin + step * (index + 0.5), 1),
                "y": y(kappa.value),
                "low": y(kappa.low),
                "high": y(kappa.high),
                "text": name,
            }
            for index, (name, kappa) in enumerate(known)
        ],
        "grid": [{"y": y(value), "text": f"{value:g}"} for value in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)],
        "every": -(-len(known) // 12),
    }


def _mean(pair: Pair) -> float:
    return ((pair.first.fat_fraction_percent or 0.0) + (pair.second.fat_fraction_percent or 0.0)) / 2


def _short(value: float) -> str:
    """Write a number in seven characters, which the margin has room for: a first digit cut off is another number."""
    text = f"{value:.3g}"
    return text if len(text) <= 7 else f"{value:.1g}"


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")
