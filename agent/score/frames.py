"""Which part of an image may be scored, judged by its header (PS3.3 C.7.6.3, C.8.5.5, C.8.5.6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from pydicom.dataset import Dataset

from inference.geometry import Box
from inference.preprocess import clamped

LEAST_SIDE: Final = 128
"""Pixels on the short side of a region that may be scored (design, section 3)."""
MOST_PIXELS: Final = 16384 * 16384
MOST_FRAMES: Final = 100_000
_TWO_D, _TISSUE = 1, 1  # Region Spatial Format, Region Data Type (PS3.3 C.8.5.5.1.1 and C.8.5.5.1.2)
_OVER_TISSUE: Final = {
    2: "colour flow over the picture",  # Region Data Type: colour flow
    3: "spectral Doppler",  # pulsed-wave spectral
    4: "spectral Doppler",  # continuous-wave spectral
}
_FORMATS: Final = {2: "M-mode", 3: "spectral Doppler", 4: "a waveform", 5: "a graphic"}
_PHOTOMETRIC: Final = frozenset(
    {"MONOCHROME1", "MONOCHROME2", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "PALETTE COLOR"}
)
_PIXEL_WORDS: Final = frozenset({1, 8, 16, 32})


class NotScorableError(Exception):
    """A frame or an instance cannot be scored; the message is the reason that `show` gives."""


@dataclass(frozen=True, kw_only=True)
class FramePlan:
    """What of an instance to decode and where to look in it."""

    frames: int
    rows: int
    columns: int
    regions: tuple[Box, ...]
    """Tissue regions, clamped to the image; the whole image where the header names none."""
    synthetic: bool


def plan_frames(header: Dataset) -> FramePlan:
    """Read a header and say what may be scored.

    Tolerances: regions beyond the image are clamped; Image Type need not be ORIGINAL; Ultrasound Color Data Present
    is not believed, since greyscale palettes carry it too (colour is judged by the pixels).

    Raises
    ------
    NotScorableError
        With the reason.
    """
    rows, columns, frames = _sizes(header)
    if header.get("PhotometricInterpretation", "") not in _PHOTOMETRIC:
        raise NotScorableError("photometric interpretation is missing or unknown")
    if _number(header, "BitsAllocated", 0) not in _PIXEL_WORDS:
        raise NotScorableError("bits allocated is missing or unknown")
    regions = _regions(header, rows, columns)
    return FramePlan(
        frames=frames,
        rows=rows,
        columns=columns,
        regions=regions,
        synthetic=str(header.get("SyntheticData", "")).upper() == "YES",
    )


def candidate_frames(frames: int, most: int) -> list[int]:
    """Choose which frames of a cine to look at: all, or `most` spread evenly; 0-based."""
    if frames <= most:
        return list(range(frames))
    return sorted({round(index * (frames - 1) / (most - 1)) for index in range(most)})


def _sizes(header: Dataset) -> tuple[int, int, int]:
    """Rows, columns and frames, refused before anything of their size is allocated."""
    rows, columns = _number(header, "Rows", 0), _number(header, "Columns", 0)
    frames = _number(header, "NumberOfFrames", 1)
    if rows <= 0 or columns <= 0:
        raise NotScorableError("no image: rows or columns are missing or zero")
    if frames <= 0 or frames > MOST_FRAMES or rows * columns > MOST_PIXELS:
        raise NotScorableError(f"impossible image size: {columns} x {rows} pixels, {frames} frames")
    if min(rows, columns) < LEAST_SIDE:
        raise NotScorableError(f"image under {LEAST_SIDE} pixels on its short side")
    return rows, columns, frames


def _regions(header: Dataset, rows: int, columns: int) -> tuple[Box, ...]:
    items = list(header.get("SequenceOfUltrasoundRegions") or ())
    if not items:
        return ((0, 0, columns, rows),)
    boxes, reasons = [], []
    for item in items:
        box, reason = _region(item, rows, columns)
        if box is not None:
            boxes.append(box)
        elif reason:
            reasons.append(reason)
    overlaid = [reason for item in items if (reason := _overlay_reason(item, boxes, rows, columns))]
    if overlaid:
        raise NotScorableError(overlaid[0])
    if not boxes:
        raise NotScorableError(reasons[0] if reasons else "no 2D tissue region")
    return tuple(boxes)


def _region(item: Dataset, rows: int, columns: int) -> tuple[Box | None, str | None]:
    box = _box(item, rows, columns)
    space, data = _number(item, "RegionSpatialFormat", 0), _number(item, "RegionDataType", 0)
    if space != _TWO_D:
        return None, _FORMATS.get(space, "no 2D region")
    if data != _TISSUE:
        return None, _OVER_TISSUE.get(data, "no tissue region")
    if min(box[2] - box[0], box[3] - box[1]) < LEAST_SIDE:
        return None, f"region under {LEAST_SIDE} pixels on its short side"
    return box, None


def _overlay_reason(item: Dataset, tissue: list[Box], rows: int, columns: int) -> str | None:
    """Colour flow that lies over every tissue region spoils the frame; beside one it does not."""
    reason = _OVER_TISSUE.get(_number(item, "RegionDataType", 0))
    if reason is None or not tissue or _number(item, "RegionSpatialFormat", 0) != _TWO_D:
        return None
    box = _box(item, rows, columns)
    return reason if all(_overlap(box, other) for other in tissue) else None


def _box(item: Dataset, rows: int, columns: int) -> Box:
    """Region of an item; its own maximum is the last pixel inside."""
    corners = (
        _number(item, "RegionLocationMinX0", 0),
        _number(item, "RegionLocationMinY0", 0),
        _number(item, "RegionLocationMaxX1", columns - 1) + 1,
        _number(item, "RegionLocationMaxY1", rows - 1) + 1,
    )
    return clamped(corners, (rows, columns))


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _number(item: Dataset, keyword: str, default: int) -> int:
    """Whole number of an element as real files write it: empty, several values, decimals in IS."""
    try:
        value: Any = item.get(keyword)
        if isinstance(value, (list, tuple)) or hasattr(value, "__iter__"):
            value = next(iter(value), None)
        return default if value in (None, "") else int(float(value))
    except (ValueError, TypeError, OverflowError):
        return 0
