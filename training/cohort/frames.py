"""Reading one frame from a file: DICOM with its ultrasound region, or any picture that Pillow reads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image

from inference.geometry import Box

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

DICOM_PREFIX: Final = b"DICM"
_TISSUE: Final = 1
"""RegionDataType (PS3.3 C.8.5.5.1.2)."""
_TWO_DIMENSIONAL: Final = 1
"""RegionSpatialFormat (PS3.3 C.8.5.5.1.1)."""


def check_kind(path: Path, frame: int | None = None) -> None:
    """Look at the beginning of a file.

    Raises
    ------
    ValueError
        It is neither DICOM nor a picture, has no such frame, or its pixels are not 8 bits deep.
    """
    if is_dicom(path):
        _header(path, frame)
        return
    try:
        with Image.open(path) as picture:
            _refuse_deep(path, picture)
    except OSError as error:
        raise _neither(path, error) from error


def _refuse_deep(path: Path, picture: Image.Image) -> None:
    if picture.mode.startswith(("I", "F")):
        raise ValueError(
            f"{path} has more than 8 bits a pixel ({picture.mode}); save it with 8, scaled as it is shown."
        )


def is_dicom(path: Path) -> bool:
    """Say whether a file begins as DICOM files do (PS3.10 section 7.1)."""
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
    if is_dicom(path):
        return _read_dicom(path, frame)
    try:
        with Image.open(path) as picture:
            _refuse_deep(path, picture)  # since Pillow's conversion would cut off what is above 255
            return np.asarray(picture.convert("RGB")), None
    except OSError as error:
        raise _neither(path, error) from error


def frame_count(path: Path) -> int:
    """Return how many frames a DICOM file says it holds."""
    import pydicom

    return int(pydicom.dcmread(path, stop_before_pixels=True).get("NumberOfFrames") or 1)


def _header(path: Path, frame: int | None) -> tuple[Dataset, int]:
    """Return the header of a DICOM file and the frame that is meant; refuses what has no such frame of 8 bits."""
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        header = pydicom.dcmread(path, stop_before_pixels=True)
        count = int(header.get("NumberOfFrames") or 1)
    except (InvalidDicomError, OSError, EOFError, ValueError, AttributeError, NotImplementedError) as error:
        raise ValueError(f"{path} is DICOM that cannot be read: {error}") from error
    if "Rows" not in header or "BitsAllocated" not in header:
        name = header.get("SOPClassUID")
        raise ValueError(f"{path} holds no picture, or is cut off; it is {getattr(name, 'name', 'of unknown class')}.")
    chosen = count // 2 if frame is None else frame
    if not chosen < count:
        raise ValueError(f"{path} has {count} frames, counted from 0; there is no frame {chosen}.")
    if header.BitsAllocated != 8 and header.get("PhotometricInterpretation") != "PALETTE COLOR":
        raise ValueError(f"{path} holds pixels of {header.BitsAllocated} bits; ultrasound has 8 bits.")
    return header, chosen


def _read_dicom(path: Path, frame: int | None) -> tuple[np.ndarray, Box | None]:
    from pydicom.pixels import apply_color_lut, pixel_array

    header, chosen = _header(path, frame)
    try:
        pixels = pixel_array(path, index=chosen)
    except (AttributeError, NotImplementedError, OSError, RuntimeError, ValueError) as error:  # by decoder and fault
        raise ValueError(f"{path}: its pixels cannot be decoded, cut off or damaged as they may be: {error}") from error
    if header.get("PhotometricInterpretation") == "PALETTE COLOR":
        coloured = apply_color_lut(pixels, header)
        pixels = (coloured >> 8).astype(np.uint8) if coloured.dtype == np.uint16 else coloured
    if pixels.dtype != np.uint8:
        raise ValueError(f"{path} holds {pixels.dtype} pixels; ultrasound has 8 bits.")
    return pixels, _region(header)


def _region(header: Dataset) -> Box | None:
    regions = header.get("SequenceOfUltrasoundRegions") or ()
    flat = [item for item in regions if item.get("RegionSpatialFormat") == _TWO_DIMENSIONAL]
    tissue = [item for item in flat if item.get("RegionDataType") == _TISSUE] or flat or list(regions)
    if not tissue:
        return None
    names = ("RegionLocationMinX0", "RegionLocationMinY0", "RegionLocationMaxX1", "RegionLocationMaxY1")
    x0, y0, x1, y1 = (int(tissue[0][name].value) for name in names)
    return x0, y0, x1 + 1, y1 + 1
