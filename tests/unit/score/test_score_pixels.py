"""Decoding: the same picture in every photometric kind, and reasons where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    RLELossless,
)

from agent.score.pixels import read_frames
from agent.score.reading import read_image
from agent.score.reasons import NotScorableError
from tests.support.ultrasound import image, jpeg, saved

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian)


def decoded(ds: Dataset, folder: Path, syntax: str = ExplicitVRLittleEndian, index: int = 0) -> NDArray[np.uint8]:
    _, path = saved(ds, folder, syntax)
    ((_, frame),) = read_frames(read_image(path), [index])
    assert isinstance(frame, np.ndarray), frame
    assert frame.dtype == np.uint8
    return frame


@pytest.mark.parametrize("syntax", NATIVE)
def test_grey(tmp_path: Path, syntax: str) -> None:
    np.testing.assert_array_equal(decoded(image(1, RAMP), tmp_path, syntax), RAMP)


def test_inverted_grey(tmp_path: Path) -> None:
    ds = image(1, RAMP, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(decoded(ds, tmp_path), 255 - RAMP)


def test_sixteen_bits_fill_the_range(tmp_path: Path) -> None:
    ds = image(1, RAMP.astype(np.uint16) << 4, BitsStored=12, HighBit=11)
    np.testing.assert_allclose(decoded(ds, tmp_path).astype(int), RAMP, atol=1)


def test_bits_above_those_stored_are_left_out(tmp_path: Path) -> None:
    overlay = (RAMP.astype(np.uint16) << 4) | 0x8000
    ds = image(1, overlay, BitsStored=12, HighBit=11)
    np.testing.assert_allclose(decoded(ds, tmp_path).astype(int), RAMP, atol=1)


def test_signed_values(tmp_path: Path) -> None:
    ds = image(1, (RAMP.astype(np.int16) - 128) * 256)
    np.testing.assert_allclose(decoded(ds, tmp_path).astype(int), RAMP, atol=1)


def test_a_window_is_applied_after_the_rescale(tmp_path: Path) -> None:
    ds = image(1, RAMP.astype(np.uint16), BitsStored=16, RescaleSlope="2", RescaleIntercept="-100")
    ds.WindowCenter, ds.WindowWidth = "100.5", "201"
    values = RAMP.astype(float) * 2 - 100
    np.testing.assert_allclose(decoded(ds, tmp_path), np.clip(values * 255 / 200, 0, 255), atol=1)


@pytest.mark.parametrize("planar", [0, 1])
def test_colour_by_pixel_and_by_plane(tmp_path: Path, planar: int) -> None:
    colour = np.stack([RAMP, 255 - RAMP, RAMP // 2], axis=-1)
    stored = colour if planar == 0 else np.ascontiguousarray(colour.transpose(2, 0, 1))
    ds = image(1, colour, PlanarConfiguration=planar)
    ds.PixelData = stored.tobytes()
    np.testing.assert_array_equal(decoded(ds, tmp_path), colour)


def test_colour_without_colour_is_grey(tmp_path: Path) -> None:
    np.testing.assert_array_equal(decoded(image(1, np.stack([RAMP] * 3, axis=-1)), tmp_path), RAMP)


def test_ybr_full_422_native(tmp_path: Path) -> None:
    """PS3.3 C.7.6.3.1.2: two luminances, then the pair's Cb and Cr; neutral chroma leaves grey."""
    stored = np.full((16, 8, 4), 128, np.uint8)
    stored[..., :2] = RAMP.reshape(16, 8, 2)
    ds = image(1, np.zeros((16, 16, 3), np.uint8), PhotometricInterpretation="YBR_FULL_422")
    ds.PixelData = stored.tobytes()
    frame = decoded(ds, tmp_path)
    np.testing.assert_allclose((frame if frame.ndim == 2 else frame[..., 0]).astype(int), RAMP, atol=1)


def test_a_frame_of_a_jpeg_cine(tmp_path: Path) -> None:
    frames = [np.full((64, 64), 40 * number, np.uint8) for number in range(1, 5)]
    ds = image(1, np.stack(frames), NumberOfFrames="4")
    ds.PixelData = jpeg(frames)
    np.testing.assert_allclose(decoded(ds, tmp_path, JPEGBaseline8Bit, index=2).astype(int), 120, atol=2)


def test_rle(tmp_path: Path) -> None:
    ds = image(1, RAMP)
    saved(ds, tmp_path)
    ds.compress(RLELossless, generate_instance_uid=False)
    np.testing.assert_array_equal(decoded(ds, tmp_path, RLELossless), RAMP)


def palette_image(pixels: NDArray[Any], tables: list[bytes], *, entries: int, first: int, bits: int) -> Dataset:
    ds = image(1, pixels, PhotometricInterpretation="PALETTE COLOR")
    for colour, table in zip(("Red", "Green", "Blue"), tables, strict=True):
        ds.add_new(f"{colour}PaletteColorLookupTableDescriptor", "US", [entries, first, bits])
        ds.add_new(f"{colour}PaletteColorLookupTableData", "OW", table)
    return ds


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_palette_of_sixteen_bits_in_either_byte_order(tmp_path: Path, syntax: str) -> None:
    order = ">u2" if syntax == ExplicitVRBigEndian else "<u2"
    tables = [(np.arange(256) * scale // 255 << 8).astype(order).tobytes() for scale in (255, 128, 0)]
    frame = decoded(palette_image(RAMP, tables, entries=256, first=0, bits=16), tmp_path, syntax)
    np.testing.assert_array_equal(frame[..., 0], RAMP)
    np.testing.assert_array_equal(frame[..., 1], RAMP.astype(int) * 128 // 255)
    assert not frame[..., 2].any()


def test_palette_of_eight_bits_and_a_first_value_mapped(tmp_path: Path) -> None:
    tables = [np.arange(100, 200, dtype=np.uint8).tobytes()] * 3
    frame = decoded(palette_image(RAMP, tables, entries=100, first=50, bits=8), tmp_path)
    np.testing.assert_array_equal(frame, np.clip(RAMP.astype(int) - 50, 0, 99) + 100)


def test_palette_whose_upper_bytes_a_vendor_left_empty(tmp_path: Path) -> None:
    tables = [np.arange(256).astype("<u2").tobytes()] * 3
    np.testing.assert_array_equal(decoded(palette_image(RAMP, tables, entries=256, first=0, bits=16), tmp_path), RAMP)


def test_a_short_palette_is_a_reason(tmp_path: Path) -> None:
    _, path = saved(palette_image(RAMP, [b"\1\2"] * 3, entries=256, first=0, bits=8), tmp_path)
    assert "palette" in str(next(iter(read_frames(read_image(path), [0])))[1])


def test_damaged_frames_are_reasons_and_the_others_are_read(tmp_path: Path) -> None:
    frames = [np.full((64, 64), 100, np.uint8)] * 3
    ds = image(1, np.stack(frames), NumberOfFrames="3")
    ds.PixelData = jpeg(frames)
    whole = ds.PixelData.rfind(b"\xff\xd8\xff")
    ds.PixelData = ds.PixelData[: whole + 2] + bytes(len(ds.PixelData) - whole - 2 - 8) + ds.PixelData[-8:]
    _, path = saved(ds, tmp_path, JPEGBaseline8Bit)
    read = dict(read_frames(read_image(path), [0, 1, 2]))
    assert isinstance(read[0], np.ndarray)
    assert isinstance(read[1], np.ndarray)
    assert "cannot be decoded (JPEG Baseline" in str(read[2])


def test_too_few_pixels_are_a_reason(tmp_path: Path) -> None:
    ds = image(1, RAMP)
    ds.PixelData = ds.PixelData[:100]
    _, path = saved(ds, tmp_path)
    reason = str(next(iter(read_frames(read_image(path), [0])))[1])
    assert "cannot be decoded" in reason
    assert "Pixel Data" in reason
    assert "reshape" not in reason


def test_an_instance_without_pixels_is_a_reason(tmp_path: Path) -> None:
    ds = image(1, RAMP)
    del ds.PixelData
    _, path = saved(ds, tmp_path)
    with pytest.raises(NotScorableError, match="no pixel data"):
        read_image(path)


def test_reasons_name_no_path_and_nobody(tmp_path: Path) -> None:
    ds = image(1, RAMP)
    ds.PixelData = b"\0\0"
    _, path = saved(ds, tmp_path)
    reason = str(next(iter(read_frames(read_image(path), [0])))[1])
    assert str(tmp_path) not in reason
    assert "Nobody" not in reason
