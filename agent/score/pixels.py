"""Decoding single frames of an instance into grey or RGB bytes, whatever the transfer syntax and photometric kind."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import generate_fragments
from pydicom.errors import InvalidDicomError
from pydicom.pixels.processing import apply_color_lut
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, MPEGTransferSyntaxes

from agent.score.frames import NotScorableError

DECODING_ERRORS: Final = (
    ArithmeticError,
    AttributeError,
    EOFError,
    InvalidDicomError,
    LookupError,
    MemoryError,
    NotImplementedError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    av.FFmpegError,
)
"""What decoders raise for files that they cannot read; none of it may lose a study."""

_PALETTE: Final = "PALETTE COLOR"
_INVERTED: Final = "MONOCHROME1"
_LARGEST_WHOLE: Final = 1 << 30
"""Bytes of a file that may be read whole, where its transfer syntax allows no other way."""


def read_frames(path: Path, header: Dataset, indices: Sequence[int]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Decode some frames of an instance, one at a time.

    Parameters
    ----------
    path
        Part 10 file.
    header
        Its data set without pixel data.
    indices
        0-based, ascending.

    Yields
    ------
    tuple
        Index and pixels: uint8 [rows, columns] grey, or [rows, columns, 3] RGB.

    Raises
    ------
    NotScorableError
        The pixel data are missing, broken, or of a kind that cannot be decoded; says which.
    """
    syntax = UID(str(header.file_meta.TransferSyntaxUID))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd files warn; what matters is whether a picture comes out
        try:
            if syntax in MPEGTransferSyntaxes:
                yield from _video(path, indices)
                return
            source = _source(path, syntax)
            for index in indices:
                yield index, _as_bytes(pixel_array(source, index=index, raw=False), header)
        except DECODING_ERRORS as error:
            raise NotScorableError(f"cannot be decoded ({syntax.name}): {_first_line(error)}") from error


def _source(path: Path, syntax: UID) -> Path | Dataset:
    """Give pydicom the path, so that it reads only the wanted frames; a deflated data set must be read whole."""
    if syntax != DeflatedExplicitVRLittleEndian:
        return path
    if path.stat().st_size > _LARGEST_WHOLE:
        raise NotScorableError("deflated data set too large to be read whole")
    return dcmread(path)


def _video(path: Path, indices: Sequence[int]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Decode a video stream from its beginning, keeping only the wanted frames."""
    if path.stat().st_size > _LARGEST_WHOLE:
        raise NotScorableError("video too large to be read whole")
    stream = b"".join(generate_fragments(dcmread(path).PixelData))
    wanted, last = set(indices), max(indices)
    with av.open(io.BytesIO(stream), mode="r") as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index in wanted:
                yield index, np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
            if index >= last:
                return


def _as_bytes(frame: NDArray[Any], header: Dataset) -> NDArray[np.uint8]:
    """Bring a decoded frame to 8 bits, grey or RGB."""
    photometric = str(header.PhotometricInterpretation)
    if photometric == _PALETTE:
        coloured = apply_color_lut(frame, header)
        return _grey_if_grey(np.asarray(coloured >> 8 if coloured.dtype.itemsize > 1 else coloured, np.uint8))
    if frame.ndim == 3:
        return _grey_if_grey(_eight_bits(frame, header))
    grey = _eight_bits(frame, header)
    return np.asarray(np.invert(grey), np.uint8) if photometric == _INVERTED else grey


def _eight_bits(frame: NDArray[Any], header: Dataset) -> NDArray[np.uint8]:
    if frame.dtype == np.uint8:
        return np.asarray(frame, np.uint8)
    low, high = _display_range(frame, header)
    scaled = (frame.astype(np.float32) - low) * (255.0 / max(high - low, 1e-6))
    return np.asarray(np.clip(np.rint(scaled), 0, 255), np.uint8)


def _display_range(frame: NDArray[Any], header: Dataset) -> tuple[float, float]:
    """Values shown as black and white: the window where the header has one, else all stored bits."""
    centre, width = _first(header.get("WindowCenter")), _first(header.get("WindowWidth"))
    if centre is not None and width is not None and width > 1:
        return centre - width / 2, centre + width / 2
    bits = int(header.get("BitsStored") or 8 * frame.dtype.itemsize)
    if np.issubdtype(frame.dtype, np.signedinteger):
        return -float(2 ** (bits - 1)), float(2 ** (bits - 1) - 1)
    return 0.0, float(2**bits - 1)


def _first(value: Any) -> float | None:
    if value in (None, ""):
        return None
    return float(value[0] if isinstance(value, Sequence) or hasattr(value, "__getitem__") else value)


def _grey_if_grey(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Drop the channels of a picture whose channels are all the same."""
    same = np.array_equal(frame[..., 0], frame[..., 1]) and np.array_equal(frame[..., 0], frame[..., 2])
    return np.ascontiguousarray(frame[..., 0]) if same else frame


def _first_line(error: BaseException) -> str:
    """Name the cause in a few words; decoders' texts name tags and plugins, never values."""
    text = str(error).strip().splitlines()
    return (text[0] if text else type(error).__name__)[:160]
