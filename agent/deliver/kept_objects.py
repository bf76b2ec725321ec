"""The bytes that leave are the bytes that the ledger knows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from agent.deliver.storage_scu import PartTenFile, read_part_ten
from agent.domain.errors import AgentError
from agent.domain.results import Delivery
from agent.store.layout import Layout
from agent.store.result_files import object_path

_THREADS: Final = 2


class KeptBytesError(AgentError):
    """A kept result object is missing or changed; the report must be built again, which makes the same bytes."""


def kept_files(layout: Layout, result_key: str, rows: Iterable[Delivery]) -> dict[str, PartTenFile]:
    """Check the kept bytes of these rows against the ledger.

    Returns
    -------
    dict
        File by SOP Instance UID.

    Raises
    ------
    KeptBytesError
        A file is missing, or its digest is not the ledger's.
    """
    digests = {row.sop_instance_uid: row.sha256 for row in rows}
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="digests") as pool:  # hashing lets other threads run
        found = pool.map(lambda uid: _checked(object_path(layout, result_key, uid), uid, digests[uid]), digests)
        return dict(zip(digests, found, strict=True))


def _checked(path: Path, uid: str, sha256: str) -> PartTenFile:
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        kept = read_part_ten(path)
    except OSError as error:
        raise KeptBytesError(f"the kept result object {uid} cannot be read: {error.strerror}") from error
    if found != sha256:
        raise KeptBytesError(f"the kept result object {uid} differs from the ledger's digest")
    return kept
