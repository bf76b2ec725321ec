"""The picture of one used view: its source untouched, and beside it where the model looked (Grad-CAM)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from agent.domain.score import StudyScore, ViewUse
from agent.report.canvas import (
    BANNER_HEIGHT,
    BODY,
    LEAST_WIDTH,
    MARGIN,
    MUTED,
    RULE,
    SMALL,
    TITLE,
    UNITS,
    Canvas,
    put,
    resized,
)
from agent.report.colour_map import colour_table, coloured
from agent.report.words import CAPTION, GRADE_WORDS, evidence_for, view_name
from agent.store.result_files import ViewPicture
from inference.morphology import eroded

FLOOR: Final = 0.2
"""Saliency below this share of the maximum is not shown."""
OPACITY: Final = 0.5
"""Of the overlay at its maximum: speckle stays readable beneath."""
CONTOUR: Final = 0.5
"""Share of the maximum that a line surrounds, so that a grey print shows the place too."""
_CONTOUR_COLOUR: Final = np.array([255, 255, 255], dtype=np.uint8)
_NARROWEST: Final = 360
_LARGEST: Final = 1024
"""Panel sides in pixels between which a source is shown pixel for pixel."""
_GAP: Final = 16
_SHORTEST_BAR: Final = 90
"""Units."""


@dataclass(frozen=True, kw_only=True)
class HeatmapPage:
    """What stands on one heatmap."""

    picture: ViewPicture
    view: ViewUse
    number: int
    """Of the used views, from 1."""
    count: int
    score: StudyScore | None


def draw_heatmap(page: HeatmapPage) -> NDArray[np.uint8]:
    """Draw the page as [h, w, 3] RGB.

    The source is shown pixel for pixel where its size allows, else resampled; both panels have the same scale.
    """
    source = page.picture.source
    height, width = _panel_size(source.shape[0], source.shape[1])
    gap = max(_GAP, width // 32)
    # about square at most: a tall page would shrink its words in a square cell
    total = max(LEAST_WIDTH, 2 * width + 3 * gap, round(1.3 * height))
    canvas = Canvas(total, BANNER_HEIGHT + 66.0 + 226.0)
    canvas.banner()
    y = canvas.px(BANNER_HEIGHT + 66.0)
    left = (total - 2 * width - gap) // 2
    right = left + width + gap
    _title(canvas, page, min(left / canvas.scale, MARGIN))
    _legend(canvas, page, left=left / canvas.scale, right=right / canvas.scale, width=width / canvas.scale,
            y=y / canvas.scale)  # fmt: skip
    drawn = canvas.parted(y, height)
    put(drawn, left, y, resized(source, width, height))
    put(drawn, right, y, resized(overlaid(page.picture), width, height))
    return drawn


def overlaid(picture: ViewPicture) -> NDArray[np.uint8]:
    """Blend the saliency over the source inside the sector; elsewhere the source stays as it is."""
    levels = _levels(picture)
    result = _looked_up(picture.source, np.left_shift(levels, 8, dtype=np.uint16))
    result[_outline(levels, picture.sector)] = _CONTOUR_COLOUR
    return result


def _blended(source: NDArray[np.uint8], saliency: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Blend colours over [..., 3] by saliency [...]."""
    share = np.clip((saliency - FLOOR) / (1 - FLOOR), 0, 1)
    opacity = np.where(share > 0, OPACITY * (0.45 + 0.55 * share), 0.0)[..., None]
    # a step at the floor would draw an edge that is not in the map: fade in over the first tenth
    opacity *= np.clip(share * 10, 0, 1)[..., None]
    blended: NDArray[np.uint8] = np.round(source * (1 - opacity) + coloured(share) * opacity).astype(np.uint8)
    return blended


def _looked_up(source: NDArray[np.uint8], places: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Blend by table; `places` [h, w] are 256 times the saliency's levels."""
    result = np.empty((*source.shape[:2], 3), np.uint8)
    if source.ndim == 2:
        words = np.take(_grey_blends(), places | source).view(np.uint8).reshape(*source.shape, 4)
        put(result, 0, 0, words)
        return result
    for channel in range(3):
        result[..., channel] = np.take(_blends()[channel], places | source[..., channel])
    return result


@lru_cache(maxsize=1)
def _grey_blends() -> NDArray[np.uint32]:
    """Return [65536]: red, green and blue of a grey source blended, in one word."""
    words = np.zeros((1 << 16, 4), np.uint8)
    words[:, :3] = _blends().T
    return words.view(np.uint32)[:, 0]


@lru_cache(maxsize=1)
def _blends() -> NDArray[np.uint8]:
    """Return [3, 65536]: each channel blended, by 256 times the saliency's level plus the source's."""
    levels, greys = np.divmod(np.arange(1 << 16), 256)
    source = np.repeat(greys.astype(np.uint8)[:, None], 3, axis=1)
    return np.ascontiguousarray(_blended(source, levels.astype(np.float32) / np.float32(255)).T)


def _levels(picture: ViewPicture) -> NDArray[np.uint8]:
    """Saliency as it is kept, in 255 steps; nothing outside the sector."""
    scaled = picture.saliency * np.float32(255)
    if not np.isfinite(scaled).all():
        scaled = np.nan_to_num(scaled, nan=0.0, posinf=0.0, neginf=0.0)
    levels: NDArray[np.uint8] = np.clip(np.rint(scaled, out=scaled), 0, 255, out=scaled).astype(np.uint8)
    return levels * picture.sector


def _outline(levels: NDArray[np.uint8], sector: NDArray[np.bool_]) -> NDArray[np.bool_]:
    inside = levels >= math.ceil(CONTOUR * 255)
    thick = max(1, round(min(levels.shape) / 300))
    # along the sector's own border the line would only repeat it
    return inside & ~eroded(inside, thick) & eroded(sector, thick + 1)


def _panel_size(rows: int, columns: int) -> tuple[int, int]:
    longest, width = max(rows, columns), columns
    if longest > _LARGEST:
        factor = _LARGEST / longest
    elif width < _NARROWEST:
        factor = min(_NARROWEST / width, _LARGEST / longest)
    else:
        return rows, columns
    return max(1, round(rows * factor)), max(1, round(columns * factor))


def _title(canvas: Canvas, page: HeatmapPage, left: float) -> None:
    y = BANNER_HEIGHT + 33
    weight = "" if page.view.weight is None else f"Weight {page.view.weight:.2f}"
    canvas.text(UNITS - left, y, weight, size=TITLE - 4, anchor="rm")
    room = UNITS - 2 * left - MARGIN - canvas.width_of(weight, TITLE - 4)
    title = f"View {page.number} of {page.count}: {view_name(page.view.view)}"
    canvas.text(left, y, canvas.fitted(title, TITLE, room), size=TITLE, bold=True, anchor="lm")


def _legend(canvas: Canvas, page: HeatmapPage, *, left: float, right: float, width: float, y: float) -> None:
    row = y + 24
    canvas.text(left, row, canvas.fitted(_source(page), SMALL, width), size=SMALL, colour=MUTED, anchor="lm")
    words = "relative, this image only"
    bar_right = right + width - canvas.width_of(words, SMALL) - 14
    canvas.text(right + width, row, words, size=SMALL, colour=MUTED, anchor="rm")
    if bar_right - right < _SHORTEST_BAR:  # narrow panels: the bar has a row of its own under the words
        row, bar_right = row + 36, right + width
    _colour_bar(canvas, right, row - 13, bar_right, row + 13)
    edge = min(left, MARGIN)
    canvas.line(edge, y + 74, UNITS - edge, y + 74, colour=RULE, width=2)
    canvas.text(edge, y + 110, CAPTION, size=BODY + 3, bold=True, anchor="lm")
    if page.score is not None:
        canvas.text(UNITS - edge, y + 110, evidence_for(page.score.grade), size=SMALL, anchor="rm")
    line = f"White line: half of the maximum. Below {100 * FLOOR:.0f} % nothing is shown."
    for offset, text in ((154, line), (194, _result(page.score))):
        canvas.text(edge, y + offset, canvas.fitted(text, SMALL, UNITS - 2 * edge), size=SMALL, anchor="lm")


def _source(page: HeatmapPage) -> str:
    rows, columns = page.picture.source.shape[:2]
    shown = _panel_size(rows, columns)[1]
    how = "original size" if shown == columns else "enlarged" if shown > columns else "reduced"
    frame = f", frame {page.picture.frame}" if page.picture.frame > 1 else ""
    return f"Source, {how}{frame}"


def _colour_bar(canvas: Canvas, x0: float, y0: float, x1: float, y1: float) -> None:
    width, height = max(2, canvas.px(x1) - canvas.px(x0)), canvas.px(y1) - canvas.px(y0)
    shown = np.linspace(0, 255, width).round().astype(np.uint8)
    canvas.paste(canvas.px(x0), canvas.px(y0), np.repeat(colour_table()[shown][None], height, axis=0))


def _result(score: StudyScore | None) -> str:
    if score is None:
        return ""
    low, high = score.fat_fraction_interval
    return (
        f"Study: {score.grade} ({GRADE_WORDS[score.grade]}), fat fraction {score.fat_fraction_percent:.1f} % "
        f"({low:.1f} to {high:.1f}), estimate"
    )
