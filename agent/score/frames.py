"""Which part of an image may be scored, judged by its header (PS3.3 C.7.6.3, C.8.5.5, C.8.5.6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from pydicom.dataset import Dataset

from agent.score.anatomy import other_anatomy
from agent.score.reasons import NotScorableError
from inference.geometry import Box
from inference.preprocess import clamped
from inference.quality import MOST_LOOKED_AT, spread

LEAST_SIDE: Final = 128
"""Pixels on the short side of a region that may be scored (design, section 3)."""
UNDER_LEAST: Final = f"region under {LEAST_SIDE} pixels on its short side"
MOST_PIXELS: Final = 4096 * 4096
MOST_FRAMES: Final = 100_000
_MOST_PIXELS_LOOKED_AT: Final = 1 << 26
_MOST_REGIONS: Final = 4
_TWO_D, _TISSUE = 1, 1  # Region Spatial Format, Region Data Type (PS3.3 C.8.5.5.1.1 and C.8.5.5.1.2)
_OVER_TISSUE: Final = {
    2: "colour flow over the picture",
    3: "spectral Doppler",  # pulsed wave
    4: "spectral Doppler",  # continuous wave
}
"""By Region Data Type."""
_FORMATS: Final = {2: "M-mode", 3: "spectral Doppler", 4: "a waveform", 5: "a graphic"}
"""By Region Spatial Format."""
_SPOILING: Final = frozenset({2, 3})
"""Formats that replace the tissue they cover; the trace of an electrocardiogram only crosses it."""
_TOUCHING: Final = 0.02
"""Share of a tissue region that another region may cover: neighbours share a border."""
_PHOTOMETRIC: Final = frozenset(
    {
        "MONOCHROME1",
        "MONOCHROME2",
        "RGB",
        "YBR_FULL",
        "YBR_FULL_422",
        "YBR_PARTIAL_420",  # every MPEG-2, H.264 and HEVC stream (PS3.5 section 8.2.5)
        "YBR_ICT",
        "YBR_RCT",
        "PALETTE COLOR",
    }
)
_BITS_ALLOCATED: Final = frozenset({8, 16})


@dataclass(frozen=True, kw_only=True)
class FramePlan:
    """What of an instance to decode and where to look in it."""

    frames: int
    rows: int
    columns: int
    regions: tuple[Box, ...]
    """Tissue regions, clamped to the image; the whole image where the header names none."""
    synthetic: bool

    @property
    def candidates(self) -> list[int]:
        """Frames to look at, 0-based: all, or some spread evenly over a long cine; fewer of enormous ones."""
        return spread(self.frames, max(1, min(MOST_LOOKED_AT, _MOST_PIXELS_LOOKED_AT // (self.rows * self.columns))))


def plan_frames(header: Dataset) -> FramePlan:
    """Read a header and say what may be scored.

    Tolerances: regions beyond the image are clamped; Image Type need not be ORIGINAL; Ultrasound Color Data Present
    is not believed, since greyscale palettes carry it too (colour is judged by the pixels).

    Raises
    ------
    NotScorableError
        With the reason.
    """
    if other := other_anatomy(header):
        raise NotScorableError(f"the header says that it shows no abdomen: {other}")
    rows, columns, frames = _sizes(header)
    if str(header.get("PhotometricInterpretation", "")) not in _PHOTOMETRIC:
        raise NotScorableError("photometric interpretation is missing or unknown", undecodable=True)
    _check_bits(header)
    return FramePlan(
        frames=frames,
        rows=rows,
        columns=columns,
        regions=_regions(header, rows, columns),
        synthetic=str(header.get("SyntheticData", "")).upper() == "YES",
    )


def _sizes(header: Dataset) -> tuple[int, int, int]:
    """Rows, columns and frames, refused before anything of their size is allocated."""
    rows, columns = _number(header, "Rows", 0), _number(header, "Columns", 0)
    frames = _number(header, "NumberOfFrames", 1)
    if rows <= 0 or columns <= 0:
        raise NotScorableError("no image: rows or columns are missing or zero", undecodable=True)
    if frames <= 0 or frames > MOST_FRAMES or rows * columns > MOST_PIXELS:
        reason = f"impossible image size: {columns} x {rows} pixels, {frames} frames"
        raise NotScorableError(reason, undecodable=True)
    if min(rows, columns) < LEAST_SIDE:
        raise NotScorableError(f"image under {LEAST_SIDE} pixels on its short side")
    return rows, columns, frames


def _check_bits(header: Dataset) -> None:
    allocated = _number(header, "BitsAllocated", 0)
    stored, high = _number(header, "BitsStored", allocated), _number(header, "HighBit", 0)
    if allocated not in _BITS_ALLOCATED or not 0 < stored <= allocated or not 0 <= high < allocated:
        raise NotScorableError("bits allocated, bits stored and high bit are impossible together", undecodable=True)


def _regions(header: Dataset, rows: int, columns: int) -> tuple[Box, ...]:
    """Tissue regions that nothing lies over; a split screen has several."""
    items = list(header.get("SequenceOfUltrasoundRegions") or ())
    if not items:
        return ((0, 0, columns, rows),)
    over = [(_box(item, rows, columns), reason) for item in items if (reason := _over_tissue(item))]
    boxes: list[Box] = []
    reasons: list[str] = []
    for item in items:
        box, reason = _tissue(item, rows, columns)
        reason = reason or next((why for other, why in over if _covers(other, box)), None)
        if reason is None:
            boxes.append(box)
        else:
            reasons.append(reason)
    if not boxes:
        # What lies over tissue tells more than what else there is on the screen.
        raise NotScorableError(next((why for _, why in over if why in reasons), reasons[0]))
    largest = sorted(dict.fromkeys(boxes), key=lambda box: (-_area(box), box))
    return tuple(largest[:_MOST_REGIONS])


def _tissue(item: Dataset, rows: int, columns: int) -> tuple[Box, str | None]:
    """Box of a region, and why it is none of tissue that may be scored."""
    box = _box(item, rows, columns)
    space, data = _number(item, "RegionSpatialFormat", 0), _number(item, "RegionDataType", 0)
    if space != _TWO_D:
        return box, _FORMATS.get(space, "no 2D region")
    if data != _TISSUE:
        return box, _OVER_TISSUE.get(data, "no tissue region")
    if min(box[2] - box[0], box[3] - box[1]) < LEAST_SIDE:
        return box, UNDER_LEAST
    return box, None


def _over_tissue(item: Dataset) -> str | None:
    """Name what a region shows that would spoil tissue beneath it."""
    space = _number(item, "RegionSpatialFormat", 0)
    if space in _SPOILING:
        return _FORMATS[space]
    return _OVER_TISSUE.get(_number(item, "RegionDataType", 0)) if space == _TWO_D else None


def _box(item: Dataset, rows: int, columns: int) -> Box:
    """Region of an item; its own maximum is the last pixel inside."""
    corners = (
        _number(item, "RegionLocationMinX0", 0),
        _number(item, "RegionLocationMinY0", 0),
        _number(item, "RegionLocationMaxX1", columns - 1) + 1,
        _number(item, "RegionLocationMaxY1", rows - 1) + 1,
    )
    return clamped(corners, (rows, columns))


def _covers(over: Box, tissue: Box) -> bool:
    width = min(over[2], tissue[2]) - max(over[0], tissue[0])
    height = min(over[3], tissue[3]) - max(over[1], tissue[1])
    return width > 0 and height > 0 and width * height > _TOUCHING * _area(tissue)


def _area(box: Box) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])


def _number(item: Dataset, keyword: str, default: int) -> int:
    """Whole number of an element as real files write it: empty, several values, decimals in IS."""
    try:
        value: Any = item.get(keyword)
        if isinstance(value, (list, tuple)) or hasattr(value, "__iter__"):
            value = next(iter(value), None)
        return default if value in (None, "") else int(float(value))
    except (ValueError, TypeError, OverflowError):
        return 0
