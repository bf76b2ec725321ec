"""Which DIMSE status answers which fault of a C-STORE (PS3.4 Table B.2-1, PS3.7 Annex C)."""

from __future__ import annotations

import errno
from typing import Final

from agent.domain.errors import LedgerError, RequestorError, StorageFullError

SUCCESS: Final = 0x0000
OUT_OF_RESOURCES: Final = 0xA700
PROCESSING_FAILURE: Final = 0x0110
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENFILE})


def status_of(error: Exception) -> int:
    """Choose the status: the sender's fault has its own; ours is A700 where it may pass, else 0110.

    All of ours let a sender try again: nothing was stored.
    """
    if isinstance(error, RequestorError):
        return error.status
    if isinstance(error, StorageFullError):
        return OUT_OF_RESOURCES
    if isinstance(error, OSError) and error.errno in _FULL:
        return OUT_OF_RESOURCES
    if isinstance(error, LedgerError):
        return OUT_OF_RESOURCES
    return PROCESSING_FAILURE
