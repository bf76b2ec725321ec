"""Why something is not scored: the error that carries the phrase, and what decoders raise."""

from __future__ import annotations

import struct
import zlib
from typing import Final

import av
from pydicom.errors import BytesLengthException, InvalidDicomError

_LONGEST: Final = 160

DECODING_ERRORS: Final = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    BytesLengthException,
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
    zlib.error,
    av.FFmpegError,
)
"""What readers and decoders raise for files that they cannot read; none of it may lose a study."""


_IN_WORDS: Final = {
    "cannot reshape array of size": "Pixel Data is shorter or longer than Rows, Columns and Number of Frames say",
}
"""What NumPy says of an array, as it is said of a file."""


class NotScorableError(Exception):
    """A frame or an instance cannot be scored; the message is the reason that `show` gives.

    Parameters
    ----------
    reason
        A short phrase without patient data.
    undecodable
        The fault lies in the file, rather than in what the picture shows.
    """

    def __init__(self, reason: str, *, undecodable: bool = False) -> None:
        super().__init__(reason)
        self.undecodable = undecodable


def cause_of(error: BaseException) -> str:
    """Name a decoder's cause in a few plain words; their texts name tags and plugins, never values."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # pydicom names the plugins it tried one a line, below a line that says only that all failed
    text = lines[1] if len(lines) > 1 and lines[0].endswith(":") else "".join(lines[:1])
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror  # without the path
    text = next((said for begins, said in _IN_WORDS.items() if text.startswith(begins)), text)
    plain = "".join(character for character in text if character.isascii() and character.isprintable())
    return plain[:_LONGEST] or type(error).__name__
