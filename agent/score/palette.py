"""Applying a palette (PS3.3 C.7.6.3.1.5 and C.7.6.3.1.6).

pydicom reads the tables in the machine's byte order and subtracts the first mapped value in the table's own width; both
garble real files, so tables that are not segmented are applied here.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut

_COLOURS: Final = ("Red", "Green", "Blue")
_ALL: Final = 1 << 16
"""Entries of a table whose descriptor says 0."""


def apply_palette(indices: NDArray[Any], header: Dataset, *, little: bool) -> NDArray[np.uint8]:
    """Turn indices [rows, columns] into RGB uint8 [rows, columns, 3].

    Parameters
    ----------
    indices
        Stored values.
    header
        With descriptors and tables.
    little
        Whether the data set is little endian.

    Raises
    ------
    ValueError
        A table is missing or shorter than its descriptor says.
    """
    if "SegmentedRedPaletteColorLookupTableData" in header:
        return _eight_bits(apply_color_lut(indices, header))
    return np.stack([_channel(indices, header, colour, little=little) for colour in _COLOURS], axis=-1)


def _channel(indices: NDArray[Any], header: Dataset, colour: str, *, little: bool) -> NDArray[np.uint8]:
    entries, first, _ = (int(value) for value in header[f"{colour}PaletteColorLookupTableDescriptor"].value)
    entries = entries % _ALL or _ALL
    if first >= 1 << 15 and np.issubdtype(indices.dtype, np.signedinteger):
        first -= _ALL  # written as unsigned by some, though the pixels are signed
    table = _table(header[f"{colour}PaletteColorLookupTableData"].value, entries, little=little)
    places = np.clip(indices.astype(np.int64) - first, 0, entries - 1)
    chosen: NDArray[np.uint8] = table[places]
    return chosen


def _table(encoded: bytes, entries: int, *, little: bool) -> NDArray[np.uint8]:
    """Read a table of 16-bit words, or of bytes where it is only long enough for those."""
    if len(encoded) >= 2 * entries:
        return _eight_bits(np.frombuffer(encoded, "<u2" if little else ">u2", entries))
    if len(encoded) < entries:
        raise ValueError("a palette is shorter than its descriptor says")
    # Two 8-bit entries lie in a word, the first in its lower half.
    swapped = encoded if little or len(encoded) % 2 else np.frombuffer(encoded, ">u2").astype("<u2").tobytes()
    return np.frombuffer(swapped, np.uint8, entries)


def _eight_bits(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Take the upper bytes of 16-bit colours, unless a vendor has left them empty."""
    if values.dtype.itemsize > 1 and values.max(initial=0) > np.iinfo(np.uint8).max:
        return (values >> 8).astype(np.uint8)
    return values.astype(np.uint8)
