from __future__ import annotations

import io
import re
import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.encaps import generate_frames
from pydicom.uid import JPEGBaseline8Bit

from agent.domain.score import Refusal
from agent.report import canvas, heatmap
from agent.report.canvas import (
    AMBER,
    BACKGROUND,
    BANNER_FILL,
    LEAST_WIDTH,
    MUTED,
    SMALL,
    TEXT,
    UNITS,
    Canvas,
    drawable,
    font,
    is_drawable,
)
from agent.report.colour_map import colour_table
from agent.report.heatmap import CONTOUR, FLOOR, OPACITY, HeatmapPage, draw_heatmap, overlaid
from agent.report.report_study import build_report
from agent.report.summary import SIDE, draw_summary, identity_fitted
from agent.report.words import REFUSAL_WORDS
from agent.store.result_files import ViewPicture
from tests.unit.report.report_sources import outcome, picture, refused, request, score, source


def page(shown: ViewPicture) -> HeatmapPage:
    made = outcome([(shown.sop_instance_uid, shown.frame)])
    return HeatmapPage(picture=shown, view=made.views[0], number=1, count=1, score=made.score)


def lightness(rgb: NDArray[np.uint8] | tuple[int, int, int]) -> NDArray[np.float64]:
    """Relative luminance (WCAG 2.1)."""
    share = np.asarray(rgb, dtype=np.float64) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return linear @ np.array([0.2126, 0.7152, 0.0722])


def find(big: NDArray[np.uint8], small: NDArray[np.uint8]) -> list[tuple[int, int]]:
    """Corners at which `small` stands in `big`, pixel for pixel."""
    windows = np.lib.stride_tricks.sliding_window_view(big[..., 0], small.shape[:2])
    probe = (small.shape[0] // 2, slice(None))
    rows, columns = np.nonzero((windows[:, :, probe[0], :] == small[probe[0], :, 0]).all(axis=2))
    return [
        (int(row), int(column))
        for row, column in zip(rows, columns, strict=True)
        if (big[row : row + small.shape[0], column : column + small.shape[1]] == small).all()
    ]


def test_the_source_stands_untouched_beside_the_overlay_at_the_same_scale() -> None:
    shown = picture("1.2", 1, 3, rows=400, columns=560)
    drawn = draw_heatmap(page(shown))
    rgb = np.repeat(shown.source[..., None], 3, axis=2)
    (row, left), = find(drawn, rgb)  # fmt: skip
    (overlay_row, right), = find(drawn, overlaid(shown))  # fmt: skip
    assert row == overlay_row
    assert right >= left + 560


def test_a_colour_source_is_not_recoloured() -> None:
    grey = picture("1.2", 1, 3, rows=400, columns=560)
    colours = np.random.default_rng(1).integers(0, 255, (400, 560, 3), dtype=np.uint8)
    assert len(find(draw_heatmap(page(replace(grey, source=colours))), colours)) == 1


def test_the_overlay_stays_in_the_sector_and_above_the_floor() -> None:
    shown = picture("1.2", 1, 3, rows=300, columns=500)
    everywhere = replace(shown, saliency=np.ones_like(shown.saliency))
    changed = (overlaid(everywhere) != shown.source[..., None]).any(axis=2)
    assert not changed[~shown.sector].any()
    low = replace(shown, saliency=np.full_like(shown.saliency, FLOOR))
    assert (overlaid(low) == shown.source[..., None]).all()


def test_the_overlay_is_at_most_half_opaque() -> None:
    flat = picture("1.2", 1, 3, rows=300, columns=500)
    sources = [np.full((300, 500), value, dtype=np.uint8) for value in (0, 255)]
    dark, bright = (overlaid(replace(flat, source=one)).astype(int) for one in sources)
    line = (dark == 255).all(axis=2)
    assert (bright - dark)[~line].min() >= 255 * (1 - OPACITY) - 1


@pytest.mark.parametrize("channels", [1, 3])
def test_the_table_blends_as_the_formula_does(channels: int) -> None:
    shown = picture("1.2.3", 1, seed=3)
    levels = np.random.default_rng(0).integers(0, 128, shown.saliency.shape)  # below the line
    colours = np.random.default_rng(1).integers(0, 256, (*shown.saliency.shape, channels)).astype(np.uint8)
    kept = replace(
        shown,
        saliency=levels.astype(np.float32) / 255,
        source=colours[..., 0] if channels == 1 else colours,
        sector=np.ones_like(shown.sector),
    )
    np.testing.assert_array_equal(overlaid(kept), heatmap._blended(colours, kept.saliency))


def test_a_line_carries_the_place_without_colour() -> None:
    shown = picture("1.2", 1, 3, rows=300, columns=500)
    line = (overlaid(replace(shown, source=np.zeros((300, 500), dtype=np.uint8))) == 255).all(axis=2)
    assert line.any()
    assert shown.saliency[line].min() >= CONTOUR


def test_odd_saliency_is_borne() -> None:
    shown = picture("1.2", 1, 3)
    for value in (np.nan, np.inf, 0.0, 7.0):
        draw_heatmap(page(replace(shown, saliency=np.full_like(shown.saliency, value))))


@pytest.mark.parametrize(
    ("rows", "columns"), [(128, 128), (130, 600), (600, 130), (480, 640), (1200, 1600), (2000, 300), (90, 3000)]
)
def test_any_size_of_source_makes_a_page_of_sane_size(rows: int, columns: int) -> None:
    drawn = draw_heatmap(page(picture("1.2", 1, 3, rows, columns)))
    assert LEAST_WIDTH <= drawn.shape[1] <= 2200
    assert drawn.shape[0] <= 1700


def test_drawing_again_gives_the_same_pixels_and_another_map_does_not() -> None:
    shown = picture("1.2", 1, 3)
    other = replace(shown, saliency=np.ascontiguousarray(shown.saliency[::-1]))
    assert (draw_heatmap(page(shown)) == draw_heatmap(page(shown))).all()
    assert (draw_heatmap(page(shown)) != draw_heatmap(page(other))).any()


def test_the_colour_map_only_gets_lighter() -> None:
    assert np.diff(lightness(colour_table())).min() > -1e-3
    assert np.diff(lightness(colour_table())[::16]).min() > 0


@pytest.mark.parametrize(
    ("ink", "ground"), [(TEXT, BACKGROUND), (MUTED, BACKGROUND), (AMBER, BACKGROUND), (AMBER, BANNER_FILL)]
)
def test_text_has_enough_contrast(ink: tuple[int, int, int], ground: tuple[int, int, int]) -> None:
    assert (lightness(ink) + 0.05) / (lightness(ground) + 0.05) >= 4.5


def test_the_smallest_text_is_legible_in_a_512_px_cell() -> None:
    pixels = Canvas(LEAST_WIDTH, UNITS).px(SMALL)
    _, top, _, bottom = font(pixels).getbbox("H")
    assert bottom - top >= 14  # as it is
    assert (bottom - top) * 512 / LEAST_WIDTH >= 10


def test_nothing_without_a_glyph_is_drawn() -> None:
    assert not is_drawable("山田")
    assert not is_drawable("")
    assert is_drawable("O'Neil-Smith, A.")
    assert drawable("≥ 2 × ü 山") == ">= 2 x ü ?"


@pytest.mark.parametrize(
    "name", ["Müller, Jürgen", "Łuczak, Żaneta", "Παπαδόπουλος, Νίκος", "Щукина, Юлия", "Nguyễn, Đức"]
)
def test_names_in_letters_of_europe_are_drawn(name: str) -> None:
    """With their letters, not without their accents, also where these are written apart, and as tall as all else."""
    apart = unicodedata.normalize("NFD", name)
    assert is_drawable(name)
    assert drawable(name) == drawable(apart) == name
    sheet, same = Canvas(1024, 60), Canvas(1024, 60)
    sheet.text(0, 0, name, size=SMALL)
    same.text(0, 0, apart, size=SMALL)
    assert (sheet.pixels == same.pixels).all()
    assert (sheet.pixels != Canvas(1024, 60).pixels).any()
    assert sheet.width_of(name, SMALL) > 100
    heights = [font(SMALL, wide=wide).getbbox("H") for wide in (False, True)]
    assert abs((heights[0][3] - heights[0][1]) - (heights[1][3] - heights[1][1])) <= 1


def test_ascii_keeps_its_font() -> None:
    assert not canvas.needs_wide("O'Neil-Smith, A. >= 3")
    assert not canvas.needs_wide("≥ 2 × …")


def test_long_text_is_cut_to_its_width() -> None:
    sheet = Canvas(1024, 100)
    text = sheet.fitted("word " * 200, SMALL, 400)
    assert text.endswith(canvas.ELLIPSIS)
    assert sheet.width_of(text, SMALL) <= 400
    lines = sheet.wrapped("word " * 200, SMALL, 400, 3)
    assert len(lines) == 3
    assert all(sheet.width_of(line, SMALL) <= 400 for line in lines)
    assert sheet.wrapped("", SMALL, 400, 3) == []


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
def test_the_summary_is_one_square_page_with_a_clear_rim(count: int) -> None:
    uids = [(f"1.2.{index}", 1) for index in range(count)]
    crowded = score(
        limits=("fewer views than the model was made for " * 4,),
        fat_fraction_percent=47.0,
        fat_fraction_interval=(0.0, 61.0),
        cut_offs_source="a very long name of a set of cut-offs " * 4,
    )
    shown = [picture(uid, 1, index) for index, (uid, _) in enumerate(uids)]
    drawn = draw_summary(outcome(uids, scored=crowded), shown, "Patient " * 40, replaces=True)
    assert drawn.shape == (SIDE, SIDE, 3)
    rim = np.concatenate([drawn[80:, :20].reshape(-1, 3), drawn[80:, -20:].reshape(-1, 3), drawn[-6:].reshape(-1, 3)])
    assert (rim == BACKGROUND).all(), "text or pictures reach the edge"


@pytest.mark.parametrize("refusal", Refusal)
def test_a_refusal_has_its_own_page(refusal: Refusal) -> None:
    drawn = draw_summary(refused(refusal, [], detail="山 " * 200), [], "ID 1")
    assert drawn.shape == (SIDE, SIDE, 3)
    assert all(is_drawable(words) for words in REFUSAL_WORDS.values())


@pytest.mark.parametrize(("stated", "heatmap"), [("NO", "NO"), ("YES", "YES"), (None, None)])  # absent does not mean NO
def test_burned_in_annotation_is_inherited(tmp_path: Path, stated: str | None, heatmap: str | None) -> None:
    def change(ds: Dataset) -> None:
        del ds.BurnedInAnnotation
        if stated is not None:
            ds.BurnedInAnnotation = stated

    _, summary, first, *_ = build_report(request(tmp_path, [source(1)], change=change))
    assert dcmread(io.BytesIO(summary.encoded)).BurnedInAnnotation == "YES"
    assert dcmread(io.BytesIO(first.encoded)).get("BurnedInAnnotation") == heatmap


def test_pictures_add_their_own_compression_to_that_of_their_sources(tmp_path: Path) -> None:
    _, *captures = (dcmread(io.BytesIO(one.encoded)) for one in build_report(request(tmp_path)))
    assert {one.LossyImageCompression for one in captures} == {"01"}
    steps = [list(np.atleast_1d(one.LossyImageCompressionRatio)) for one in captures]
    assert [one[:-1] for one in steps] == [[9.5], [], [], [9.5]]
    for one, ratios in zip(captures, steps, strict=True):
        (stream,) = generate_frames(one.PixelData, number_of_frames=1)
        assert ratios[-1] == pytest.approx(one.Rows * one.Columns * 3 / len(stream), rel=0.01)
        methods = one.LossyImageCompressionMethod
        assert ([methods] if isinstance(methods, str) else list(methods)) == ["ISO_10918_1"] * len(ratios)
        assert one.DerivationCodeSequence[-1].CodeValue == "113040"


def test_what_compression_takes_from_a_picture_is_not_seen(tmp_path: Path) -> None:
    asked = request(tmp_path)
    sent = dcmread(io.BytesIO(build_report(asked)[2].encoded))
    assert (sent.file_meta.TransferSyntaxUID, sent.PhotometricInterpretation) == (JPEGBaseline8Bit, "YBR_FULL_422")
    view, told = asked.outcome.views[0], asked.outcome.score
    shown = draw_heatmap(HeatmapPage(picture=asked.pictures[0], view=view, number=1, count=3, score=told))
    lost = sent.pixel_array.astype(int) - shown
    assert np.sqrt(np.mean(lost**2)) < 2.55, "40 dB, of noise, which is the worst to compress"
    assert np.abs(lost.mean(axis=(0, 1))).max() < 0.5, "no tint"


def test_a_source_that_hides_its_ratio_is_said_to(tmp_path: Path) -> None:
    def change(ds: Dataset) -> None:
        ds.LossyImageCompression = "01"

    _, _, first = (dcmread(io.BytesIO(one.encoded)) for one in build_report(request(tmp_path, [source(1)], change)))
    assert (first.LossyImageCompressionRatio[0], first.LossyImageCompressionMethod[0]) == (1, "UNKNOWN")
    assert "not known" in first.DerivationDescription


@pytest.mark.parametrize(
    ("grade", "claim"), [("S0", "Evidence for S0."), ("S2", "Evidence for S2 or more."), ("S3", "Evidence for S3.")]
)
def test_a_heatmap_says_for_which_grade_it_shows_evidence(tmp_path: Path, grade: str, claim: str) -> None:
    asked = request(tmp_path)
    told = replace(asked.outcome, score=score(grade=grade))
    _, _, *heatmaps = (dcmread(io.BytesIO(one.encoded)) for one in build_report(replace(asked, outcome=told)))
    assert all(
        one.DerivationDescription.startswith("Grad-CAM") and claim in one.DerivationDescription for one in heatmaps
    )
    strips = {}
    for other in {grade, "S1", "S3"}:
        drawn = draw_heatmap(replace(page(picture("1.2", 1, 3)), score=score(grade=other)))
        unit = drawn.shape[1] / canvas.UNITS
        strips[other] = drawn[round(-136 * unit) : round(-96 * unit), drawn.shape[1] // 2 :]  # beside the caption
    assert len({strip.tobytes() for strip in strips.values()}) == len(strips)


@pytest.mark.parametrize(
    ("line", "drawn"),
    [
        ("Demo, Pat   ID 7   2026-11-30   Acc. A7", r"Demo, Pat   ID 7   2026-11-30   Acc\. A7"),
        (
            "Mueller-Luedenscheidt-Hohenzollern, Anne-Margarethe   ID 0123456789   2026-11-30   Acc. A7",
            r"Mueller-L.+…   ID 0123456789   2026-11-30   Acc\. A7",
        ),
        ("Demo, Pat   ID " + "7" * 64 + "   2026-11-30", r"Demo, Pat   ID 7+…"),
        ("ID " + "7" * 64 + "   2026-11-30", r"ID 7+…"),
    ],
)
def test_a_long_name_pushes_nothing_else_off_the_page(line: str, drawn: str) -> None:
    page = Canvas(LEAST_WIDTH, UNITS)
    fitted = identity_fitted(page, line)
    assert re.fullmatch(drawn, fitted)
    assert page.width_of(fitted, SMALL) <= UNITS - 2 * canvas.MARGIN
