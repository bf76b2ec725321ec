"""The bytes that leave are the bytes that the ledger knows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from pydicom.errors import InvalidDicomError

from agent.deliver.storage_scu import PartTenFile, read_part_ten
from agent.domain.errors import AgentError
from agent.domain.results import Delivery
from agent.store.layout import Layout
from agent.store.result_files import object_path


class KeptBytesError(AgentError):
    """A kept result object is missing or changed; the report must be built again, which makes the same bytes."""


class KeptObjects:
    """The kept files of some rows, each of which is what the ledger knows.

    Raises
    ------
    KeptBytesError
        One is not, or its file cannot be read: nothing may be sent.
    """

    def __init__(self, layout: Layout, result_key: str, rows: Iterable[Delivery]) -> None:
        paths: dict[str, Path] = {}
        for uid, sha256 in {row.sop_instance_uid: row.sha256 for row in rows}.items():
            paths[uid] = object_path(layout, result_key, uid)
            _check(paths[uid], uid, sha256)  # at once: threads would take longer to begin than to hash what is small
        self.files: dict[str, PartTenFile] = {uid: _read(path, uid) for uid, path in paths.items()}
        """By SOP Instance UID."""


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
