"""Reading an image's header, bounded whatever the file holds, and where its pixels can then be read."""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from agent.domain.errors import RequestorError
from agent.score.reasons import DECODING_ERRORS, NotScorableError
from agent.store.header import read_header
from agent.store.quiet import quiet_pydicom

_TAGS: Final = (
    "SOPClassUID",
    "ImageType",
    "BodyPartExamined",
    "AnatomicRegionSequence",
    "SyntheticData",
    "ViewCodeSequence",
    "SequenceOfUltrasoundRegions",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "WindowCenter",
    "WindowWidth",
    "RescaleIntercept",
    "RescaleSlope",
    *(f"{colour}PaletteColorLookupTableDescriptor" for colour in ("Red", "Green", "Blue")),
    *(f"{colour}PaletteColorLookupTableData" for colour in ("Red", "Green", "Blue")),
    *(f"Segmented{colour}PaletteColorLookupTableData" for colour in ("Red", "Green", "Blue")),
)
"""All that scoring looks at; other elements are skipped, however large or deep they are."""
_MOST_INFLATED: Final = 1 << 29
"""Bytes of a deflated data set; one that inflates to more is taken for a bomb."""
_EXPLICIT_LITTLE: Final = b"\0" * 128 + b"DICM\x02\x00\x10\x00UI\x14\x001.2.840.10008.1.2.1\0"
"""Preamble, prefix and Transfer Syntax UID (0002,0010) of what a deflated data set is once inflated (PS3.5 A.5)."""


@dataclass(frozen=True, kw_only=True)
class ImageFile:
    """An image whose header has been read."""

    header: Dataset
    """The elements of `_TAGS` that it has, and its file meta information."""
    syntax: UID
    """As received; what `source` holds of a deflated data set is Explicit VR Little Endian."""
    source: Path | bytes
    """The file, or a deflated file's content inflated."""

    def open(self) -> BinaryIO:
        """Open what pydicom can decode single frames from."""
        return io.BytesIO(self.source) if isinstance(self.source, bytes) else self.source.open("rb")


def read_image(path: Path) -> ImageFile:
    """Read the header of a Part 10 file.

    Raises
    ------
    NotScorableError
        It cannot be read, or there are no pixel data.
    """
    try:
        with path.open("rb") as file:
            _, transfer_syntax_uid, offset = read_header(file)
            syntax = UID(transfer_syntax_uid)
            inflated = _inflated(file, offset) if syntax == DeflatedExplicitVRLittleEndian else None
        source = path if inflated is None else _EXPLICIT_LITTLE + inflated
        image = ImageFile(header=Dataset(), syntax=syntax, source=source)
        with quiet_pydicom(), image.open() as file:  # odd headers warn; plan_frames judges them
            header = dcmread(file, stop_before_pixels=True, specific_tags=list(_TAGS))
            if not file.read(1):
                raise NotScorableError("no pixel data")
    except RequestorError as error:
        raise NotScorableError("the header cannot be read", undecodable=True) from error
    except DECODING_ERRORS as error:
        raise NotScorableError(f"the header cannot be read: {type(error).__name__}", undecodable=True) from error
    return ImageFile(header=header, syntax=syntax, source=source)


def _inflated(file: BinaryIO, offset: int) -> bytes:
    file.seek(offset)
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    content = inflater.decompress(file.read(_MOST_INFLATED), _MOST_INFLATED)
    if inflater.unconsumed_tail:
        raise NotScorableError(f"the data set inflates to more than {_MOST_INFLATED >> 20} MiB", undecodable=True)
    return content
