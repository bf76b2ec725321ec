"""Decoding single frames of an instance into grey or RGB bytes, whatever the transfer syntax and photometric kind."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, Final

import av
import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import generate_fragments
from pydicom.pixels.utils import pixel_array
from pydicom.uid import ExplicitVRBigEndian, MPEGTransferSyntaxes

from agent.score.palette import apply_palette
from agent.score.reading import ImageFile
from agent.score.reasons import DECODING_ERRORS, NotScorableError, cause_of

_PALETTE: Final = "PALETTE COLOR"
_INVERTED: Final = "MONOCHROME1"
_LARGEST_VIDEO: Final = 1 << 29
"""Bytes of a video file; it is read whole, since only decoding from the beginning finds a frame."""

Decoded = NDArray[np.uint8] | str
"""A frame, uint8 [rows, columns] grey or [rows, columns, 3] RGB; or in its place the reason why there is none."""


def read_frames(image: ImageFile, indices: Sequence[int]) -> Iterator[tuple[int, Decoded]]:
    """Decode some frames of an image, one at a time, and say of each that cannot be decoded why.

    Parameters
    ----------
    image
        Its header has been judged.
    indices
        0-based, ascending.

    Yields
    ------
    tuple
        Index, and the frame or a reason.
    """
    if image.syntax in MPEGTransferSyntaxes:
        yield from _video(image, indices)
        return
    for index in indices:
        yield index, _frame(image, index)


def _frame(image: ImageFile, index: int) -> Decoded:
    """Decode one frame; pydicom reads no other, native or encapsulated."""
    try:
        with warnings.catch_warnings(), image.open() as file:
            warnings.simplefilter("ignore")  # odd files warn; what matters is whether a picture comes out
            stored = pixel_array(file, index=index, raw=False)
            return _as_bytes(stored, image.header, little=image.syntax != ExplicitVRBigEndian)
    except DECODING_ERRORS as error:
        return _undecodable(image, error)


def _undecodable(image: ImageFile, error: BaseException) -> str:
    return f"cannot be decoded ({image.syntax.name}): {cause_of(error)}"


def _video(image: ImageFile, indices: Sequence[int]) -> Iterator[tuple[int, Decoded]]:
    """Decode a video stream from its beginning, keeping only the wanted frames."""
    wanted, found = set(indices), set()
    reason = "the video has fewer frames than its header says"
    try:
        for index, frame in _video_frames(image, max(indices)):
            if index in wanted:
                found.add(index)
                yield index, _grey_if_grey(np.asarray(frame.to_ndarray(format="rgb24"), np.uint8))
    except NotScorableError as error:
        reason = str(error)
    except DECODING_ERRORS as error:
        reason = _undecodable(image, error)
    yield from ((index, reason) for index in indices if index not in found)


def _video_frames(image: ImageFile, last: int) -> Iterator[tuple[int, Any]]:
    with image.open() as file:
        if file.seek(0, io.SEEK_END) > _LARGEST_VIDEO:
            raise NotScorableError(f"a video of more than {_LARGEST_VIDEO >> 20} MiB")
        file.seek(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            stream = b"".join(generate_fragments(dcmread(file, specific_tags=["PixelData"]).PixelData))
    rows, columns = int(image.header.Rows), int(image.header.Columns)
    with av.open(io.BytesIO(stream), mode="r") as container:
        for index, frame in enumerate(container.decode(video=0)):
            if (frame.height, frame.width) != (rows, columns):
                raise NotScorableError("the video has another size than its header says")
            yield index, frame
            if index >= last:
                return


def _as_bytes(stored: NDArray[Any], header: Dataset, *, little: bool) -> NDArray[np.uint8]:
    """Bring a decoded frame to 8 bits, grey or RGB."""
    photometric = str(header.PhotometricInterpretation)
    if photometric == _PALETTE:
        return _grey_if_grey(apply_palette(stored, header, little=little))
    if stored.ndim == 3:
        return _grey_if_grey(_eight_bits(stored, _all_bits(stored, header)))
    eight = stored.dtype == np.uint8 and _bits(stored, header) == 8
    grey = stored if eight else _eight_bits(_rescaled(stored, header), _shown(stored, header))
    return np.asarray(np.invert(grey) if photometric == _INVERTED else grey, np.uint8)


def _eight_bits(values: NDArray[Any], shown: tuple[float, float]) -> NDArray[np.uint8]:
    low, high = shown
    if values.dtype == np.uint8 and shown == (0.0, 255.0):
        return np.asarray(values, np.uint8)
    scaled = (values.astype(np.float32) - low) * (255.0 / max(high - low, 1e-6))
    return np.asarray(np.clip(np.rint(scaled), 0, 255), np.uint8)


def _rescaled(stored: NDArray[Any], header: Dataset) -> NDArray[Any]:
    """Apply the modality transformation (PS3.3 C.11.1), and leave out bits above those stored: overlays lie there."""
    bits = _bits(stored, header)
    if np.issubdtype(stored.dtype, np.unsignedinteger) and bits < 8 * stored.dtype.itemsize:
        stored = stored & stored.dtype.type(2**bits - 1)
    slope, intercept = _rescale(header)
    return stored if (slope, intercept) == (1.0, 0.0) else stored.astype(np.float32) * slope + intercept


def _rescale(header: Dataset) -> tuple[float, float]:
    slope, intercept = _first(header.get("RescaleSlope")), _first(header.get("RescaleIntercept"))
    return slope or 1.0, intercept or 0.0


def _shown(stored: NDArray[Any], header: Dataset) -> tuple[float, float]:
    """Values shown as black and white: the window where the header has one, else all stored bits."""
    centre, width = _first(header.get("WindowCenter")), _first(header.get("WindowWidth"))
    if centre is not None and width is not None and width > 1:
        return centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2  # PS3.3 C.11.2.1.2.1
    slope, intercept = _rescale(header)
    low, high = (value * slope + intercept for value in _all_bits(stored, header))
    return min(low, high), max(low, high)


def _all_bits(stored: NDArray[Any], header: Dataset) -> tuple[float, float]:
    bits = _bits(stored, header)
    if np.issubdtype(stored.dtype, np.signedinteger):
        return -float(2 ** (bits - 1)), float(2 ** (bits - 1) - 1)
    return 0.0, float(2**bits - 1)


def _bits(stored: NDArray[Any], header: Dataset) -> int:
    most = 8 * stored.dtype.itemsize
    return min(int(header.get("BitsStored") or most), most)


def _first(value: Any) -> float | None:
    """First of one or several decimal strings, if it is a finite number."""
    if value in (None, ""):
        return None
    number = float(value[0] if isinstance(value, Sequence) or hasattr(value, "__getitem__") else value)
    return number if np.isfinite(number) else None


def _grey_if_grey(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Drop the channels of a picture whose channels are all the same."""
    same = np.array_equal(frame[..., 0], frame[..., 1]) and np.array_equal(frame[..., 0], frame[..., 2])
    return np.ascontiguousarray(frame[..., 0]) if same else frame
