"""A patient's results over time: dates on an axis that can be read, whatever lies between the studies."""

from __future__ import annotations

from datetime import date, timedelta
from itertools import pairwise
from typing import Any

import pytest

from agent.web.trend import trend_of

NARROW, DAY_WIDTH = 370.0, 72.0
"""Width of the drawing on a telephone, and of a date in it, in pixels."""


def point(study_date: str, fat: float = 12.0, digest: str = "a") -> dict[str, Any]:
    return {
        "study_instance_uid": f"1.{study_date}",
        "study_date": study_date,
        "grade": "S1",
        "fat_fraction_percent": fat,
        "fat_fraction_interval": [fat - 2, fat + 2],
        "model_digest": digest,
        "model": "m 1",
    }


def drawn(*dates: str) -> dict[str, Any]:
    trend = trend_of([point(one) for one in dates])
    assert trend is not None
    return trend


def texts(trend: dict[str, Any]) -> list[str]:
    return [tick["text"] for tick in trend["ticks"]]


@pytest.mark.parametrize(
    ("dates", "ticks"),
    [
        (("20261123", "20261123"), ["2026-11-23"]),
        (("20261123", "20261124"), ["2026-11-23", "2026-11-24"]),
        (("20261030", "20261127"), ["2026-11-02", "2026-11-09", "2026-11-16", "2026-11-23"]),
        (("20260504", "20261123"), ["2026-07", "2026-09", "2026-11"]),
        (("20240229", "20261123"), ["2024-07", "2025-01", "2025-07", "2026-01", "2026-07"]),
        (("20120101", "20261123"), ["2015", "2020", "2025"]),
        (("00010101", "99991231"), ["2000", "4000", "6000", "8000"]),
    ],
)
def test_ticks_are_round_dates(dates: tuple[str, ...], ticks: list[str]) -> None:
    assert texts(drawn(*dates)) == ticks


@pytest.mark.parametrize("count", range(2, 13))
@pytest.mark.parametrize("step", [0, 1, 3, 10, 31, 95, 200, 365, 900])
def test_two_to_twelve_points_are_told_apart_and_their_dates_can_be_read(count: int, step: int) -> None:
    days = [date(2013, 2, 27) + timedelta(days=step * number * number // count) for number in range(count)]
    trend = drawn(*(f"{one:%Y%m%d}" for one in days))
    places = [one["x"] for one in trend["drawn"]]
    assert len(places) == count
    assert all(after - before >= 1.79 for before, after in pairwise(places))
    assert trend["left"] <= places[0]
    assert places[-1] <= trend["right"]
    for ticks, width in ((trend["ticks"], 2 * NARROW), ([t for t in trend["ticks"] if not t["spare"]], NARROW)):
        assert min(2, len(set(days))) <= len(ticks) <= 5
        gaps = [(after["x"] - before["x"]) * width / 100 for before, after in pairwise(ticks)]
        assert min(gaps, default=NARROW) > DAY_WIDTH * len(ticks[0]["text"]) / 10


def test_points_stand_where_their_dates_are() -> None:
    trend = drawn("20250101", "20250701", "20260101")
    first, middle, last = (one["x"] for one in trend["drawn"])
    assert middle - first == pytest.approx(last - middle, rel=0.02)
    (new_year,) = (tick["x"] for tick in trend["ticks"] if tick["text"] == "2026-01")
    assert new_year == last


def test_values_stay_on_the_scale() -> None:
    trend = trend_of([point("20250101", 1.0), point("20250201", 45.0)])
    assert trend is not None
    low, high = trend["drawn"]
    lines = {line["value"]: line["y"] for line in trend["grid"]}
    assert low["low"] == lines[0]
    assert high["y"] == high["high"] == lines[40]


def test_what_has_no_date_is_told_and_not_drawn() -> None:
    trend = trend_of([point(""), point("20261399"), point("20260101", digest="b")])
    assert trend is not None
    assert [one["study_date"] for one in trend["drawn"]] == ["20260101"]
    assert trend["undated"] == 2
    assert [one["same"] for one in trend["points"]] == [False, False, True]
    assert drawn("", "")["drawn"] == []


def test_one_result_is_no_trend() -> None:
    assert trend_of([point("20260101")]) is None
    assert trend_of([]) is None
