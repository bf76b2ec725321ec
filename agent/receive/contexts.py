"""What we accept: every storage SOP class in every transfer syntax of PS3.5 Annex A that a sender may use.

What cannot be decoded later is stored all the same and reported as not scorable: refusing it would lose it.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from typing import Final

from pynetdicom import AllStoragePresentationContexts
from pynetdicom.presentation import PresentationContext
from pynetdicom.service_class import StorageServiceClass
from pynetdicom.sop_class import register_uid, uid_to_service_class

_VERIFICATION: Final = "1.2.840.10008.1.1"
_STORAGE_COMMITMENT_PUSH_MODEL: Final = "1.2.840.10008.1.20.1"

RETIRED_ULTRASOUND: Final = {
    "1.2.840.10008.5.1.4.1.1.6": "RetiredUltrasoundImageStorage",
    "1.2.840.10008.5.1.4.1.1.3": "RetiredUltrasoundMultiFrameImageStorage",
}
"""Without an entry in pynetdicom's dictionary; old carts still send them."""

TRANSFER_SYNTAXES: Final = (
    "1.2.840.10008.1.2",  # Implicit VR Little Endian
    "1.2.840.10008.1.2.1",  # Explicit VR Little Endian
    "1.2.840.10008.1.2.1.99",  # Deflated Explicit VR Little Endian
    "1.2.840.10008.1.2.2",  # Explicit VR Big Endian
    "1.2.840.10008.1.2.5",  # RLE Lossless
    "1.2.840.10008.1.2.4.50",  # JPEG Baseline
    "1.2.840.10008.1.2.4.51",  # JPEG Extended
    "1.2.840.10008.1.2.4.57",  # JPEG Lossless
    "1.2.840.10008.1.2.4.70",  # JPEG Lossless SV1
    "1.2.840.10008.1.2.4.80",  # JPEG-LS Lossless
    "1.2.840.10008.1.2.4.81",  # JPEG-LS Near-lossless
    "1.2.840.10008.1.2.4.90",  # JPEG 2000 Lossless
    "1.2.840.10008.1.2.4.91",  # JPEG 2000
    "1.2.840.10008.1.2.4.201",  # HTJ2K Lossless
    "1.2.840.10008.1.2.4.202",  # HTJ2K Lossless RPCL
    "1.2.840.10008.1.2.4.203",  # HTJ2K
    "1.2.840.10008.1.2.4.110",  # JPEG XL Lossless
    "1.2.840.10008.1.2.4.111",  # JPEG XL JPEG Recompression
    "1.2.840.10008.1.2.4.112",  # JPEG XL
    "1.2.840.10008.1.2.4.100",  # MPEG2 MP@ML
    "1.2.840.10008.1.2.4.100.1",  # MPEG2 MP@ML, fragmentable
    "1.2.840.10008.1.2.4.101",  # MPEG2 MP@HL
    "1.2.840.10008.1.2.4.101.1",  # MPEG2 MP@HL, fragmentable
    "1.2.840.10008.1.2.4.102",  # MPEG-4 AVC/H.264 HP@4.1
    "1.2.840.10008.1.2.4.102.1",  # the same, fragmentable
    "1.2.840.10008.1.2.4.103",  # MPEG-4 AVC/H.264 BD
    "1.2.840.10008.1.2.4.103.1",  # the same, fragmentable
    "1.2.840.10008.1.2.4.104",  # MPEG-4 AVC/H.264 HP@4.2, 2D
    "1.2.840.10008.1.2.4.104.1",  # the same, fragmentable
    "1.2.840.10008.1.2.4.105",  # MPEG-4 AVC/H.264 HP@4.2, 3D
    "1.2.840.10008.1.2.4.105.1",  # the same, fragmentable
    "1.2.840.10008.1.2.4.106",  # MPEG-4 AVC/H.264 Stereo HP@4.2
    "1.2.840.10008.1.2.4.106.1",  # the same, fragmentable
    "1.2.840.10008.1.2.4.107",  # HEVC/H.265 MP@5.1
    "1.2.840.10008.1.2.4.108",  # HEVC/H.265 M10P@5.1
)


class SharedContexts(list[PresentationContext]):
    """Contexts that pynetdicom does not copy for each association (28 ms): negotiation only reads them."""

    def __deepcopy__(self, _memo: object) -> SharedContexts:
        return self


def supported_contexts(further: Sequence[str] = ()) -> SharedContexts:
    """List the contexts that the listener accepts: verification, storage, and reports of storage commitment.

    Parameters
    ----------
    further
        SOP classes of services that are offered besides.
    """
    return SharedContexts([*always_supported(), *(_context(uid, TRANSFER_SYNTAXES[:4]) for uid in further)])


@functools.cache
def always_supported() -> tuple[PresentationContext, ...]:
    """Build what every listener accepts, once for all that are forked from this process."""
    for uid, keyword in RETIRED_ULTRASOUND.items():
        if uid_to_service_class(uid) is not StorageServiceClass:
            register_uid(uid, keyword, StorageServiceClass)
    storage = [*(str(cx.abstract_syntax) for cx in AllStoragePresentationContexts), *RETIRED_ULTRASOUND]
    first = _context(storage[0], TRANSFER_SYNTAXES)
    others = [copy.copy(first) for _ in storage[1:]]  # with its list of syntaxes, each of which was checked once
    for context, uid in zip(others, storage[1:], strict=True):
        context.abstract_syntax = uid
    return (_context(_VERIFICATION, TRANSFER_SYNTAXES[:4]), _commitment(), first, *others)


def _commitment() -> PresentationContext:
    """Let an archive report on an association of its own, as SCP although it requests (PS3.4 J.3.3, PS3.7 D.3.3.4)."""
    context = _context(_STORAGE_COMMITMENT_PUSH_MODEL, TRANSFER_SYNTAXES[:4])
    context.scu_role = context.scp_role = True
    return context


def _context(abstract_syntax: str, transfer_syntaxes: Sequence[str]) -> PresentationContext:
    context = PresentationContext()
    context.abstract_syntax = abstract_syntax
    context.transfer_syntax = list(transfer_syntaxes)
    return context
