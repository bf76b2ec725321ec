"""Reading one frame from a file: DICOM with its ultrasound region, or any picture that Pillow reads."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from inference.geometry import Box

DICOM_PREFIX: Final = b"DICM"
_TISSUE: Final = 1
"""RegionDataType (PS3.3 C.8.5.5.1.2)."""
_TWO_DIMENSIONAL: Final = 1
"""RegionSpatialFormat (PS3.3 C.8.5.5.1.1)."""


def check_kind(path: Path) -> None:
    """Look at the beginning of a file: raises ValueError where it is neither DICOM nor a picture."""
    if _is_dicom(path):
        return
    try:
        with Image.open(path):
            return
    except OSError as error:
        raise _neither(path, error) from error


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == DICOM_PREFIX


def _neither(path: Path, error: OSError) -> ValueError:
    return ValueError(f"{path} is neither DICOM nor a picture: {error}")


def read_frame(path: Path, frame: int | None = None) -> tuple[np.ndarray, Box | None]:
    """Return the pixels, uint8 [rows, columns] or [rows, columns, 3], and the region of tissue where a header says it.

    Parameters
    ----------
    frame
        Of a multi-frame DICOM file, from 0; None takes the middle one.

    Raises
    ------
    ValueError
        The file is neither DICOM nor a picture, has no such frame, or its pixels are not 8 bits deep.
    """
    if _is_dicom(path):
        return _read_dicom(path, frame)
    try:
        with Image.open(path) as picture:
            return np.asarray(picture.convert("RGB")), None
    except OSError as error:
        raise _neither(path, error) from error


def frame_count(path: Path) -> int:
    """Return how many frames a DICOM file says it holds."""
    import pydicom

    return int(pydicom.dcmread(path, stop_before_pixels=True).get("NumberOfFrames") or 1)


def _read_dicom(path: Path, frame: int | None) -> tuple[np.ndarray, Box | None]:
    import pydicom
    from pydicom.pixels import apply_color_lut, pixel_array

    header = pydicom.dcmread(path, stop_before_pixels=True)
    count = int(header.get("NumberOfFrames") or 1)
    chosen = count // 2 if frame is None else frame
    if not chosen < count:
        raise ValueError(f"{path} has {count} frames, counted from 0; there is no frame {chosen}.")
    pixels = pixel_array(path, index=chosen)
    if header.get("PhotometricInterpretation") == "PALETTE COLOR":
        coloured = apply_color_lut(pixels, header)
        pixels = (coloured >> 8).astype(np.uint8) if coloured.dtype == np.uint16 else coloured
    if pixels.dtype != np.uint8:
        raise ValueError(f"{path} holds {pixels.dtype} pixels; ultrasound has 8 bits.")
    return pixels, _region(header)


def _region(header: object) -> Box | None:
    regions = header.get("SequenceOfUltrasoundRegions") or ()
    flat = [item for item in regions if item.get("RegionSpatialFormat") == _TWO_DIMENSIONAL]
    tissue = [item for item in flat if item.get("RegionDataType") == _TISSUE] or flat or list(regions)
    if not tissue:
        return None
    names = ("RegionLocationMinX0", "RegionLocationMinY0", "RegionLocationMaxX1", "RegionLocationMaxY1")
    x0, y0, x1, y1 = (int(tissue[0][name].value) for name in names)
    return x0, y0, x1 + 1, y1 + 1
