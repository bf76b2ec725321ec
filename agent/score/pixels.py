"""Decoding single frames of an instance into grey or RGB bytes, whatever the transfer syntax and photometric kind."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Any, BinaryIO, Final, TypeVar

import av
import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import generate_fragments, parse_basic_offsets, parse_fragments
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID, ExplicitVRBigEndian, JPEGBaseline8Bit, MPEGTransferSyntaxes

from agent.score.palette import apply_palette
from agent.score.parallel import FRAMES, in_order
from agent.score.reading import ImageFile
from agent.score.reasons import DECODING_ERRORS, NotScorableError, cause_of
from agent.store.quiet import quiet_pydicom

_PALETTE: Final = "PALETTE COLOR"
_INVERTED: Final = "MONOCHROME1"
_LARGEST_VIDEO: Final = 1 << 29
"""Bytes of a video file; it is read whole, since only decoding from the beginning finds a frame."""

_PIXEL_DATA_HEADER: Final = 12
"""Bytes of tag, VR, reserved field and length of encapsulated Pixel Data, always Explicit VR (PS3.5 A.4)."""
_ITEM_HEADER: Final = 8
_PREFERRED: Final = {JPEGBaseline8Bit: "pillow"}
"""Gives the same pixels as GDCM in half the time, and lets other threads work meanwhile."""
_Offsets = tuple[list[int], list[int]]
"""Of each frame the place of its item from the first one on, and its length."""
_Judged = TypeVar("_Judged")

Decoded = NDArray[np.uint8] | str
"""A frame, uint8 [rows, columns] grey or [rows, columns, 3] RGB; or in its place the reason why there is none."""


def read_frames(image: ImageFile, indices: Sequence[int]) -> Iterator[tuple[int, Decoded]]:
    """Decode some frames of an image, and say of each that cannot be decoded why; see `each_frame`."""
    yield from each_frame(image, indices, lambda index, frame: (index, frame))


def each_frame(image: ImageFile, indices: Sequence[int], judge: Callable[[int, Decoded], _Judged]) -> Iterator[_Judged]:
    """Decode some frames of an image and judge them, several at once; the others are not read.

    A video is decoded in one go, since only the frames before it give a frame; what is judged is judged meanwhile.

    Parameters
    ----------
    image
        Its header has been judged.
    indices
        0-based, ascending.
    judge
        Takes an index, and the frame or the reason why there is none; called from several threads.

    Yields
    ------
    object
        What `judge` gives, in the order of the indices; of a video first those that could be decoded.
    """
    if image.syntax in MPEGTransferSyntaxes:
        yield from in_order(FRAMES, lambda pair: judge(*pair), _video(image, indices))
        return
    offsets = _frame_offsets(image) if len(indices) > 1 else None
    yield from in_order(FRAMES, lambda index: judge(index, _frame(image, index, offsets)), indices)


def _frame(image: ImageFile, index: int, offsets: _Offsets | None) -> Decoded:
    """Decode one frame; pydicom reads no other, native or encapsulated."""
    options: dict[str, Any] = {} if offsets is None else {"extended_offsets": offsets}
    try:
        with quiet_pydicom(), image.open() as file:  # odd files warn; what matters is whether a picture comes out
            stored = _stored(file, image.syntax, {"index": index, "raw": False, **options})
            return _as_bytes(stored, image.header, little=image.syntax != ExplicitVRBigEndian)
    except DECODING_ERRORS as error:
        return _undecodable(image, error)


def _stored(file: BinaryIO, syntax: UID, options: dict[str, Any]) -> NDArray[Any]:
    """Decode with the plugin that is fastest for the syntax; what it cannot read goes to all others."""
    preferred = _PREFERRED.get(syntax)
    if preferred is not None:
        with suppress(*DECODING_ERRORS):
            return pixel_array(file, decoding_plugin=preferred, **options)
    return pixel_array(file, **options)


def _frame_offsets(image: ImageFile) -> _Offsets | None:
    """Find where each encapsulated frame lies, by its items' lengths, once for all frames that are wanted.

    Without this pydicom reads through all frames before the wanted one, since hardly any cine has an offset table.
    None where a frame has several fragments, or the items cannot be followed: pydicom then finds its own way.
    """
    if not image.syntax.is_encapsulated:
        return None
    try:
        with quiet_pydicom(), image.open() as file:
            dcmread(file, stop_before_pixels=True, specific_tags=["Rows"])
            file.seek(_PIXEL_DATA_HEADER, io.SEEK_CUR)
            parse_basic_offsets(file)
            first = file.tell()
            count, items = parse_fragments(file)
            end = file.seek(0, io.SEEK_END) if count else 0
    except DECODING_ERRORS:
        return None
    if count != int(image.header.get("NumberOfFrames") or 1):
        return None
    starts = [item - first for item in items]
    return starts, [after - start - _ITEM_HEADER for start, after in pairwise([*starts, end - first])]


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
                yield index, grey_if_grey(np.asarray(frame.to_ndarray(format="rgb24"), np.uint8))
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
        with quiet_pydicom():
            items = io.BytesIO(dcmread(file, specific_tags=["PixelData"]).PixelData)
            parse_basic_offsets(items)  # the table is no part of the stream; some write one for the only "frame"
            stream = b"".join(generate_fragments(items))
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
        return grey_if_grey(apply_palette(stored, header, little=little))
    if stored.ndim == 3:
        return grey_if_grey(_eight_bits(stored, _all_bits(stored, header)))
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


def grey_if_grey(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Drop the channels of a picture whose channels are all the same."""
    same = np.array_equal(frame[..., 0], frame[..., 1]) and np.array_equal(frame[..., 0], frame[..., 2])
    return np.ascontiguousarray(frame[..., 0]) if same else frame
