"""Result keys and the UIDs derived from them: the same inputs and model always name the same objects."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

REPORT_VERSION: Final = 6
"""Raised whenever the same score would be reported with other bytes."""


def result_key(group_id: str, digests: Iterable[str], bundle_digest: str, report_version: int = REPORT_VERSION) -> str:
    """Hash what a result depends on; the order of the digests does not matter.

    Parameters
    ----------
    group_id
        Study Instance UID, or the name of a patient-day group.
    digests
        sha256 of each instance that may be scored.
    bundle_digest
        sha256 of the model bundle.
    report_version
        Of the report's layout.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    parts = [group_id, *sorted(set(digests)), bundle_digest, str(report_version)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def derived_uid(key: str, kind: str, index: int = 0) -> str:
    """Make the UID of one object: `2.25.` and a 128-bit hash as an integer (PS3.5 B.2, X.667).

    Parameters
    ----------
    key
        The result key.
    kind
        What it names, e.g. "structured-report", "heatmap", "series:heatmap".
    index
        Which of several.
    """
    digest = hashlib.sha256(f"{key}\n{kind}\n{index}".encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16])}"
