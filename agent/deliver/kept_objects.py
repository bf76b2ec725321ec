"""The bytes that leave are the bytes that the ledger knows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from pydicom.errors import InvalidDicomError

from agent.deliver.storage_scu import PartTenFile, read_part_ten
from agent.domain.errors import AgentError
from agent.domain.results import Delivery
from agent.store.layout import Layout
from agent.store.result_files import object_path

_THREADS: Final = 2


class KeptBytesError(AgentError):
    """A kept result object is missing or changed; the report must be built again, which makes the same bytes."""


class KeptObjects:
    """The kept files of some rows; their bytes are held against the ledger while an association is requested."""

    def __init__(self, layout: Layout, result_key: str, rows: Iterable[Delivery]) -> None:
        digests = {row.sop_instance_uid: row.sha256 for row in rows}
        paths = {uid: object_path(layout, result_key, uid) for uid in digests}
        pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="digests")  # hashing lets other threads run
        self._checks = [pool.submit(_check, paths[uid], uid, sha256) for uid, sha256 in digests.items()]
        pool.shutdown(wait=False)
        self.files: dict[str, PartTenFile] = {uid: _read(path, uid) for uid, path in paths.items()}
        """By SOP Instance UID."""

    def check(self) -> None:
        """Wait until every digest is known to be the ledger's: before that, nothing may be sent.

        Raises
        ------
        KeptBytesError
            One is not, or its file cannot be read.
        """
        for one in self._checks:
            one.result()


def _read(path: Path, uid: str) -> PartTenFile:
    try:
        return read_part_ten(path)
    except OSError as error:
        raise KeptBytesError(f"the kept result object {uid} cannot be read: {error.strerror}") from error
    except (ValueError, AttributeError, LookupError, InvalidDicomError) as error:
        raise KeptBytesError(f"the kept result object {uid} is no DICOM file any more") from error


def _check(path: Path, uid: str, sha256: str) -> None:
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise KeptBytesError(f"the kept result object {uid} cannot be read: {error.strerror}") from error
    if found != sha256:
        raise KeptBytesError(f"the kept result object {uid} differs from the ledger's digest")
