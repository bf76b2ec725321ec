"""The summary page: one square picture, read in five seconds (order: result-pictures.md)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from agent.domain.borderline import borderline, has_cut_offs
from agent.domain.score import GRADES, Refusal, ScoreOutcome, StudyScore, ViewUse
from agent.report.canvas import (
    AMBER,
    BACKGROUND,
    BODY,
    LEAST_WIDTH,
    LINE,
    MARGIN,
    MUTED,
    RULE,
    SMALL,
    TEXT,
    UNITS,
    Canvas,
    Colour,
    resized,
)
from agent.report.judgement import change_since_earlier, reasons_not_used, used_views
from agent.report.patient_line import GAP, ID_LABEL
from agent.report.words import GRADE_WORDS, REFUSAL_WORDS, REPLACES, view_name
from agent.store.result_files import ViewPicture

SIDE: Final = LEAST_WIDTH
"""Pixels; in a 512 px cell every text keeps a cap height of 10 px."""
_WIDTH: Final = UNITS - 2 * MARGIN
_HEADLINE: Final = 118
_BANDS: Final[tuple[tuple[Colour, Colour], ...]] = (
    ((38, 62, 92), TEXT),
    ((86, 98, 118), TEXT),
    ((150, 146, 118), BACKGROUND),
    ((208, 184, 90), BACKGROUND),
)
"""Fill and text of the four grades on the scale: lighter is more, also in grey (after cividis)."""
_SCALE_TOP: Final = 40.0
"""Percent at the right end of the scale unless the estimate needs more."""
_FOOTER_TOP: Final = UNITS - 88
_GAP: Final = 12
_LEAST_NAME: Final = 120
"""Units; less of a name says nothing."""


def draw_summary(
    outcome: ScoreOutcome, pictures: Sequence[ViewPicture], patient: str, *, replaces: bool = False
) -> NDArray[np.uint8]:
    """Draw the page of a score or of a refusal as [SIDE, SIDE, 3] RGB.

    Parameters
    ----------
    pictures
        In the order of the used views.
    patient
        The patient and exam line, drawable.
    replaces
        Whether an earlier report no longer stands, which the page then says.
    """
    canvas = Canvas(SIDE, UNITS)
    canvas.banner()
    canvas.text(MARGIN, 96, identity_fitted(canvas, patient), size=SMALL, colour=MUTED, anchor="lm")
    if outcome.score is not None:
        y = _headline(canvas, outcome.score)
        y = _scale(canvas, outcome.score, y)
        y = _replacement(canvas, y) if replaces else y
        y = _statements(canvas, outcome, outcome.score, y)
        _thumbnails(canvas, used_views(outcome.views), pictures, y)
    elif outcome.refusal is not None:
        _refusal(canvas, outcome, outcome.refusal, _replacement(canvas, 420) + 18 if replaces else 450)
    _footer(canvas, outcome)
    return canvas.pixels


def identity_fitted(canvas: Canvas, line: str) -> str:
    """Make a patient line fit by shortening the name: of an ID, a date or a number the rest would be another's."""
    name, gap, rest = line.partition(GAP)
    room = _WIDTH - canvas.width_of(gap + rest, SMALL)
    if canvas.width_of(line, SMALL) > _WIDTH and not name.startswith(ID_LABEL) and room > _LEAST_NAME:
        line = canvas.fitted(name, SMALL, room) + gap + rest
    return canvas.fitted(line, SMALL, _WIDTH)


def _headline(canvas: Canvas, score: StudyScore) -> float:
    base, middle = 228.0, UNITS / 2 + 8
    canvas.text(MARGIN, base, score.grade, size=_HEADLINE, bold=True, anchor="ls")
    after = MARGIN + canvas.width_of(score.grade, _HEADLINE) + 22
    canvas.text(after, base, GRADE_WORDS[score.grade], size=60, bold=True, anchor="ls")
    canvas.text(MARGIN, base + 44, "hepatic steatosis", size=BODY, anchor="ls")
    canvas.text(MARGIN, base + 84, "PDFF-equivalent grade", size=SMALL, colour=MUTED, anchor="ls")
    number = f"{score.fat_fraction_percent:.1f}"
    canvas.text(middle, base, number, size=_HEADLINE, bold=True, anchor="ls")
    canvas.text(middle + canvas.width_of(number, _HEADLINE) + 16, base, "%", size=60, bold=True, anchor="ls")
    low, high = score.fat_fraction_interval
    canvas.text(middle, base + 44, "fat fraction, estimated", size=BODY, anchor="ls")
    interval = f"{100 * score.interval_coverage:.0f} % interval {low:.1f} to {high:.1f} %"
    canvas.text(middle, base + 84, interval, size=SMALL, anchor="ls")
    return base + 98


def _scale(canvas: Canvas, score: StudyScore, y: float) -> float:
    """Draw the fat-fraction axis with its cut-offs, and interval and estimate on it."""
    low, high = score.fat_fraction_interval
    top = max(_SCALE_TOP, 10.0 * math.ceil(max(high, score.fat_fraction_percent) / 10))

    def at(percent: float) -> float:
        return MARGIN + _WIDTH * min(max(percent, 0.0), top) / top

    bar, depth = y + 54, 46
    if has_cut_offs(score):
        edges = (0.0, *score.cut_offs, top)
        for grade, (fill, ink), start, end in zip(GRADES, _BANDS, edges[:-1], edges[1:], strict=True):
            canvas.rectangle(at(start), bar, at(end), bar + depth, fill=fill, outline=BACKGROUND)
            if grade == score.grade:
                canvas.rectangle(at(start), bar - 2, at(end), bar + depth + 2, outline=TEXT)
            if at(end) - at(start) > canvas.width_of(grade, SMALL) + 6:
                canvas.text((at(start) + at(end)) / 2, bar + depth / 2, grade, size=SMALL, colour=ink, anchor="mm")
    else:
        canvas.rectangle(MARGIN, bar, MARGIN + _WIDTH, bar + depth, fill=_BANDS[0][0], outline=RULE)
    _interval(canvas, at(low), at(score.fat_fraction_percent), at(high), bar)
    _axis(canvas, [(at(cut_off), f"{cut_off:.1f}") for cut_off in score.cut_offs if cut_off > 0], bar + depth, top)
    source = (
        f"Cut-offs: {score.cut_offs_source or 'set not named'}" if has_cut_offs(score) else "No cut-offs in the model"
    )
    line = bar + depth + 66
    while "," in source and canvas.width_of(source, SMALL) > _WIDTH:  # the whole of it stands in the report
        source = source.rpartition(",")[0]
    canvas.text(MARGIN, line, canvas.fitted(source, SMALL, _WIDTH), size=SMALL, colour=MUTED, anchor="lm")
    return line + 30


def _interval(canvas: Canvas, low: float, value: float, high: float, bar: float) -> None:
    height = bar - 20
    canvas.line(low, height, high, height, width=5)
    for end in (low, high):
        canvas.line(end, height - 11, end, height + 11, width=5)
    corners = [(value, bar - 1), (value - 17, bar - 39), (value + 17, bar - 39)]
    canvas.polygon(corners, fill=AMBER, outline=BACKGROUND)


def _axis(canvas: Canvas, ticks: Sequence[tuple[float, str]], y: float, top: float) -> None:
    """Label the cut-offs; labels that would touch move apart."""
    centres: list[float] = []
    for x, text in ticks:
        canvas.line(x, y, x, y + 9, width=3)
        room = canvas.width_of(text, SMALL) + 12
        centres.append(max(x, centres[-1] + room) if centres else x)
        canvas.text(centres[-1], y + 26, text, size=SMALL, anchor="mm")
    canvas.text(MARGIN, y + 26, "0", size=SMALL, colour=MUTED, anchor="lm")
    canvas.text(UNITS - MARGIN, y + 26, f"{top:.0f} %", size=SMALL, colour=MUTED, anchor="rm")


def _replacement(canvas: Canvas, y: float) -> float:
    """Say that an earlier page, which a viewer shows beside this one, no longer stands."""
    canvas.text(MARGIN, y + SMALL / 2, REPLACES, size=SMALL, colour=AMBER, bold=True, anchor="lm")
    return y + SMALL * LINE


def _statements(canvas: Canvas, outcome: ScoreOutcome, score: StudyScore, y: float) -> float:
    """Write what qualifies the headline: borderline, probabilities, quality, limits."""
    blocks = [
        (f"BORDERLINE: {'; '.join(phrases)}" if (phrases := borderline(score)) else "", AMBER, 2),
        (f"LIMITED: {'; '.join(score.limits)}" if score.limits else "", AMBER, 2),
        (_probabilities(score), TEXT, 1),
        (_quality(outcome, score), TEXT, 1),
        (_trend(outcome), TEXT, 1),
    ]
    for text, colour, lines in blocks:
        for line in canvas.wrapped(text, SMALL, _WIDTH, lines):
            canvas.text(MARGIN, y + SMALL / 2, line, size=SMALL, colour=colour, bold=colour == AMBER, anchor="lm")
            y += SMALL * LINE
    return y + 8


def _probabilities(score: StudyScore) -> str:
    each = ", ".join(f"{grade} {_share(p)}" for grade, p in score.probabilities.items())
    return f"Probability: {each} (S1 or more: {_share(score.steatosis_probability)})"


def _share(probability: float) -> str:
    """In whole percent, never 0 or 100: a model is not certain."""
    whole = f"{100 * probability:.0f}"
    return {"0": "<1 %", "100": ">99 %"}.get(whole, f"{whole} %")


def _trend(outcome: ScoreOutcome) -> str:
    change = change_since_earlier(outcome)
    return "" if change is None else f"Earlier {change.line}"


def _quality(outcome: ScoreOutcome, score: StudyScore) -> str:
    used = len(used_views(outcome.views))
    views = f"{used} of {outcome.expected_views} views" if used <= outcome.expected_views else f"{used} views"
    return f"{views} used; quality {score.quality}; ensemble spread {score.fat_fraction_spread:.1f} points"


def _thumbnails(canvas: Canvas, views: Sequence[ViewUse], pictures: Sequence[ViewPicture], y: float) -> None:
    height = _FOOTER_TOP - 14 - y
    if not pictures or height < 80:
        return
    rows = 1 if len(pictures) <= 4 or height < 260 else 2
    columns = -(-len(pictures) // rows)
    width, depth = (_WIDTH - _GAP * (columns - 1)) / columns, (height - _GAP * (rows - 1)) / rows
    room = depth - SMALL * LINE
    for row in range(rows):
        cells = range(row * columns, min((row + 1) * columns, len(pictures)))
        shown = [_reduced(pictures[index], canvas.px(width), canvas.px(room)) for index in cells]
        top = y + row * (depth + _GAP)
        tallest = max(one.shape[0] for one in shown)
        for column, (index, one) in enumerate(zip(cells, shown, strict=True)):
            centre = MARGIN + column * (width + _GAP) + width / 2
            left, above = canvas.px(centre) - one.shape[1] // 2, (tallest - one.shape[0]) // 2
            canvas.paste(left, canvas.px(top) + above, one)
            label = _label(canvas, views[index], index + 1, width)
            below = top + tallest / canvas.scale + SMALL * 0.75
            canvas.text(centre, below, label, size=SMALL, colour=MUTED, anchor="mm")


def _reduced(picture: ViewPicture, width: int, height: int) -> NDArray[np.uint8]:
    """Fit a source into so many pixels."""
    source = picture.source
    factor = min(width / source.shape[1], height / source.shape[0])
    return resized(source, max(1, round(source.shape[1] * factor)), max(1, round(source.shape[0] * factor)))


def _label(canvas: Canvas, view: ViewUse, number: int, width: float) -> str:
    """Write number, name and weight, as many as fit: the number leads to the heatmap, "View 1 of 3"."""
    name, weight = view_name(view.view), "" if view.weight is None else f"{view.weight:.2f}"
    wordings = (
        f"{number} {name}, weight {weight}",
        f"{number} {name} {weight}",
        f"{number} {name}",
        f"{number}: {weight}",
    )
    return next((text for text in wordings if canvas.width_of(text, SMALL) <= width), f"{number}")


def _refusal(canvas: Canvas, outcome: ScoreOutcome, refusal: Refusal, y: float) -> None:
    canvas.rectangle(MARGIN, 150, UNITS - MARGIN, 400, outline=AMBER)
    canvas.text(UNITS / 2, 236, "NO AI SCORE", size=108, bold=True, anchor="mm")
    canvas.text(UNITS / 2, 340, "not a negative result", size=60, colour=AMBER, bold=True, anchor="mm")
    paragraphs = [
        (f"Reason: {REFUSAL_WORDS[refusal]}", 42, TEXT, 2),
        (outcome.detail, BODY, TEXT, 3),
        ("Hepatic steatosis was neither found nor excluded.", BODY, TEXT, 2),
        *((f"{count} x {reason}", SMALL, MUTED, 1) for reason, count in reasons_not_used(outcome.views)[:5]),
    ]
    for text, size, colour, lines in paragraphs:
        for line in canvas.wrapped(text, size, _WIDTH, lines):
            canvas.text(MARGIN, y + size / 2, line, size=size, colour=colour, anchor="lm")
            y += size * LINE
        y += 12 if text else 0


def _footer(canvas: Canvas, outcome: ScoreOutcome) -> None:
    model = outcome.model
    canvas.line(MARGIN, _FOOTER_TOP - 2, UNITS - MARGIN, _FOOTER_TOP - 2, colour=RULE, width=2)
    identity = f"{model.name} {model.version} ({model.digest[:8]}), {model.backend} {model.precision}"
    nature = "Estimate from B-mode, not MRI." if outcome.score is not None else "For research use only."
    synthetic = "SYNTHETIC IMAGES. " if outcome.synthetic else ""
    lines = [identity, f"{synthetic}Unverified. {nature}"]
    for index, line in enumerate(lines):
        text = canvas.fitted(line, SMALL, _WIDTH)
        canvas.text(MARGIN, _FOOTER_TOP + 24 + index * 37, text, size=SMALL, colour=MUTED, anchor="lm")
