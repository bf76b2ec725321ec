"""Sending result objects by C-STORE exactly as they are kept."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pynetdicom import _config
from pynetdicom.dsutils import split_dataset

from agent.deliver.status import judge_store
from agent.domain.errors import AgentError, ArchiveError, ArchiveRefusedError
from agent.scu.association import Context, OpenAssociation
from agent.scu.config import ScuConfig, Timeouts
from agent.scu.outcomes import Verdict

__all__ = ["PartTenFile", "ScuConfig", "Timeouts", "read_part_ten", "storage_contexts", "store"]

_config.STORE_SEND_CHUNKED_DATASET = True
"""A path is then sent byte for byte from behind its file meta information; else pynetdicom would encode it anew."""


@dataclass(frozen=True, kw_only=True)
class PartTenFile:
    """A DICOM file (PS3.10) that may be sent as it is."""

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    offset: int
    """Bytes to the data set."""


def read_part_ten(path: Path) -> PartTenFile:
    """Read the file meta information of a file.

    Raises
    ------
    OSError
        It cannot be read.
    """
    meta, offset = split_dataset(path)
    return PartTenFile(
        path=path,
        sop_class_uid=str(meta.MediaStorageSOPClassUID),
        sop_instance_uid=str(meta.MediaStorageSOPInstanceUID),
        transfer_syntax_uid=str(meta.TransferSyntaxUID),
        offset=offset,
    )


def storage_contexts(files: Iterable[PartTenFile]) -> list[Context]:
    """One presentation context for each pair of SOP class and transfer syntax: no choice, so no encoding anew."""
    pairs = dict.fromkeys((file.sop_class_uid, file.transfer_syntax_uid) for file in files)
    return [Context(sop_class, (syntax,)) for sop_class, syntax in pairs]


def store(association: OpenAssociation, file: PartTenFile, message_id: int) -> str:
    """Send one object and wait for the answer.

    Returns
    -------
    str
        What the archive said, in words. It says that it has the object; whether that is so is for the proof.

    Raises
    ------
    ArchiveRefusedError
        It refuses this object, and will refuse it again.
    ArchiveError
        It failed in a way that may pass; `AbortedError` where the association is gone too.
    """
    association.require(file.sop_class_uid, file.transfer_syntax_uid)
    status = association.send_object(
        file.path, file.offset, file.sop_class_uid, file.sop_instance_uid, file.transfer_syntax_uid, message_id
    )
    rule = judge_store(status)
    if rule.verdict is Verdict.PASSED:
        return f"{status:04X} {rule.words}"
    kind: type[AgentError] = ArchiveError if rule.verdict is Verdict.RETRY else ArchiveRefusedError
    raise kind(f"{association.archive} answered C-STORE with {status:04X}: {rule.words}")
