"""Lossy compression of a source, which every picture made from it inherits (PS3.3 C.7.6.1.1.5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pydicom import uid

METHODS: Final = {
    uid.JPEGBaseline8Bit: "ISO_10918_1",
    uid.JPEGExtended12Bit: "ISO_10918_1",
    uid.JPEGLSNearLossless: "ISO_14495_1",
    uid.JPEG2000: "ISO_15444_1",
    uid.HTJ2K: "ISO_15444_15",
    uid.MPEG2MPML: "ISO_13818_2",
    uid.MPEG2MPHL: "ISO_13818_2",
    uid.MPEG4HP41: "ISO_14496_10",
    uid.MPEG4HP41BD: "ISO_14496_10",
    uid.MPEG4HP422D: "ISO_14496_10",
    uid.MPEG4HP423D: "ISO_14496_10",
    uid.MPEG4HP42STEREO: "ISO_14496_10",
    uid.HEVCMP51: "ISO_23008_2",
    uid.HEVCM10P51: "ISO_23008_2",
    uid.UID("1.2.840.10008.1.2.4.111"): "ISO_18181_1",
    uid.UID("1.2.840.10008.1.2.4.112"): "ISO_18181_1",
}
"""Transfer syntaxes that may lose information → Lossy Image Compression Method (0028,2114)."""

_MAY_BE_LOSSLESS: Final = frozenset(
    {uid.JPEGLSNearLossless, uid.JPEG2000, uid.HTJ2K, uid.UID("1.2.840.10008.1.2.4.112")}
)
"""Of those, the ones whose streams may still be lossless; the source's own flag decides."""

UNKNOWN_METHOD: Final = "UNKNOWN"
UNKNOWN_RATIO: Final = "1"
"""What is written where the source was compressed, says not how, and comes uncompressed: (0028,2112) is Type 1C."""


@dataclass(frozen=True, kw_only=True)
class LossyCompression:
    """Lossy Image Compression (0028,2110) with its ratios and methods, step by step."""

    lossy: bool
    ratios: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()

    @property
    def unstated(self) -> bool:
        """Whether ratio or method had to be written without knowing them."""
        return UNKNOWN_METHOD in self.methods


def lossy_compression(
    *,
    flag: str,
    ratios: Sequence[str],
    methods: Sequence[str],
    transfer_syntax_uid: str,
    native_bytes: int,
    encoded_bytes: int,
) -> LossyCompression | None:
    """Work out what a source went through; None where nobody can know.

    Parameters
    ----------
    flag, ratios, methods
        (0028,2110), (0028,2112) and (0028,2114) as the source has them; may be empty or bad.
    transfer_syntax_uid
        A JPEG Baseline source is lossy whatever its flag says.
    native_bytes, encoded_bytes
        Length of the pixels without and with compression; 0 where unknown.
    """
    method = METHODS.get(uid.UID(transfer_syntax_uid))
    always = method is not None and transfer_syntax_uid not in _MAY_BE_LOSSLESS
    if flag != "01" and not always:
        return LossyCompression(lossy=False) if flag == "00" else None
    steps = tuple(ratio for ratio in ratios if _is_ratio(ratio)) or (_measured(method, native_bytes, encoded_bytes),)
    known = tuple(value for value in methods if value)
    names = known if len(known) == len(steps) else (method or UNKNOWN_METHOD,) * len(steps)
    return LossyCompression(lossy=True, ratios=steps, methods=names)


def worst(sources: Sequence[LossyCompression | None]) -> LossyCompression | None:
    """Choose what a picture of several sources inherits: lossy if one is, unknown if any is unknown and none lossy."""
    lossy = [source for source in sources if source is not None and source.lossy]
    if lossy:
        return max(lossy, key=lambda source: max(float(ratio) for ratio in source.ratios))
    return None if None in sources or not sources else LossyCompression(lossy=False)


def compressed_again(before: LossyCompression | None, method: str, ratio: float) -> LossyCompression:
    """Add a step to what the sources went through (PS3.3 C.7.6.1.1.5.2); what nobody knows of them is not invented."""
    ratios, methods = ((), ()) if before is None else (before.ratios, before.methods)
    return LossyCompression(lossy=True, ratios=(*ratios, f"{max(1.0, ratio):.2f}"), methods=(*methods, method))


def _measured(method: str | None, native_bytes: int, encoded_bytes: int) -> str:
    if method is None or not native_bytes or not encoded_bytes:
        return UNKNOWN_RATIO
    return f"{max(1.0, native_bytes / encoded_bytes):.2f}"


def _is_ratio(text: str) -> bool:
    try:
        return 0 < float(text) < float("inf") and len(text) <= 16  # DS, PS3.5 section 6.2
    except ValueError:
        return False
