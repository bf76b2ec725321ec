"""A patient's results over time: x in percent of the width, y in pixels, so that text keeps its size on any screen."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Any, Final

from agent.domain.study import date_of
from agent.web.words import day

SCALE_END: Final = 40.0
"""Percent fat at the end of a scale; what lies beyond is drawn at the end."""
_HEIGHT: Final = 190.0
_TOP, _BOTTOM = 10.0, 30.0
"""Room above the highest line, and below the lowest for the dates, in pixels."""
_LEFT, _RIGHT = 10.0, 92.0
"""Where the axis begins and ends, in percent: beside it labels have room on a telephone, too."""
_APART: Final = 1.8
"""Percent of the width by which points stand apart at least: a day may have several studies."""
_MOST_TICKS: Final = 5
_MOST_ON_TELEPHONES: Final = 3
_DAY_STEPS: Final = (1, 2, 4, 7, 14)
_MONTH_STEPS: Final = (1, 2, 3, 6, 12, 24, 60, 120, 240, 600, 1200, 2400, 6000, 12000, 24000, 60000)


def trend_of(points: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Lay results of one patient out by date, each with its interval; another model's than the newest are told apart.

    Parameters
    ----------
    points
        As `known_studies.trend` lists them, oldest first.

    Returns
    -------
    dict or None
        `points` (those given, with what a table says of them), `drawn` (those that have a date, with their places),
        `grid` and `ticks`; None for fewer than two points, which are no trend.
    """
    if len(points) < 2:
        return None
    newest = points[-1]["model_digest"]
    told = [
        point | {"date": day(written), "same": point["model_digest"] == newest, "day": date_of(written)}
        for point in points
        for written in [point["study_date"]]
    ]
    dated = sorted((point for point in told if point["day"] is not None), key=lambda point: point["day"])
    days = [point["day"].toordinal() for point in dated]
    first, last = _span(days)
    places = _apart([_x(number, first, last) for number in days])
    return {
        "points": told,
        "drawn": [point | _place(point, x) for point, x in zip(dated, places, strict=True)],
        "undated": len(told) - len(dated),
        "grid": [{"value": value, "y": _y(value)} for value in (0, 10, 20, 30, 40)],
        "ticks": _ticks(days, first, last),
        "height": _HEIGHT,
        "bottom": _HEIGHT - _BOTTOM,
        "left": _LEFT,
        "right": _RIGHT,
    }


def _span(days: list[int]) -> tuple[float, float]:
    """From before the first day until after the last: no point stands on the edge, and one day alone has a width."""
    first, last = min(days, default=1), max(days, default=1)
    room = max(1.0, 0.04 * (last - first))
    return first - room, last + room


def _x(number: float, first: float, last: float) -> float:
    return round(_LEFT + (_RIGHT - _LEFT) * (number - first) / (last - first), 2)


def _y(value: float) -> float:
    share = min(max(value, 0.0), SCALE_END) / SCALE_END
    return round(_HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * share, 1)


def _place(point: dict[str, Any], x: float) -> dict[str, float]:
    low, high = point["fat_fraction_interval"]
    return {"x": x, "y": _y(point["fat_fraction_percent"]), "low": _y(low), "high": _y(high)}


def _apart(places: list[float]) -> list[float]:
    """Move what would lie over each other apart, to the right; what then stands beyond the axis, back."""
    moved: list[float] = []
    for place in places:
        moved.append(max(place, moved[-1] + _APART) if moved else place)
    end = _RIGHT
    for index in reversed(range(len(moved))):
        moved[index] = round(min(moved[index], end), 2)
        end = moved[index] - _APART
    return moved


def _ticks(days: list[int], first: float, last: float) -> list[dict[str, Any]]:
    """Find the finest round dates of which few enough lie between the studies; telephones show every second of many."""
    if not days:
        return []
    dates, form = next(offer for offer in _calendars(days[0], days[-1]) if len(offer[0]) <= _MOST_TICKS)
    many = len(dates) > _MOST_ON_TELEPHONES
    return [
        {"x": _x(one.toordinal(), first, last), "text": form.format(one), "spare": many and index % 2 == 1}
        for index, one in enumerate(dates)
    ]


def _calendars(low: int, high: int) -> Iterator[tuple[list[date], str]]:
    """Offer the days, then the beginnings of months and years from a day to another: ever fewer, with their format."""
    for step in _DAY_STEPS:
        begin = low + (1 - low) % step  # weeks begin on Mondays: the first day of all was one
        if (high - begin) // step < _MOST_TICKS:
            yield [date.fromordinal(number) for number in range(begin, high + 1, step)], "{:%Y-%m-%d}"
    since, until = date.fromordinal(low), date.fromordinal(high)
    for step in _MONTH_STEPS:
        begin = -(-(12 * since.year + since.month - 1) // step) * step
        months = (
            date(number // 12, number % 12 + 1, 1) for number in range(begin, 12 * until.year + until.month, step)
        )
        yield [month for month in months if since <= month], "{:%Y}" if step >= 12 else "{:%Y-%m}"
