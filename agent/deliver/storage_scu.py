"""Sending result objects by C-STORE exactly as they are kept; pictures decoded where an archive takes no JPEG."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from pydicom import FileMetaDataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit
from pynetdicom import _config
from pynetdicom.dsutils import split_dataset

from agent.deliver.status import STORE_RULES
from agent.scu.association import Context, OpenAssociation
from agent.scu.config import ScuConfig, Timeouts
from agent.scu.outcomes import require_passed
from agent.store.quiet import quiet_pydicom

__all__ = ["PLAIN", "PartTenFile", "ScuConfig", "Timeouts", "read_part_ten", "storage_contexts", "store", "syntaxes"]

PLAIN: Final = str(ExplicitVRLittleEndian)
_DECODED_FOR_SOME: Final = str(JPEGBaseline8Bit)
"""What an archive that does not take it gets decoded."""

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


def syntaxes(kept: str) -> tuple[str, ...]:
    """Transfer syntaxes in which an object kept in this one may be sent, the first that is accepted."""
    return (kept, PLAIN) if kept == _DECODED_FOR_SOME else (kept,)


def storage_contexts(files: Iterable[PartTenFile]) -> list[Context]:
    """One presentation context for each pair of SOP class and transfer syntax: the archive answers to each."""
    kept = dict.fromkeys((file.sop_class_uid, file.transfer_syntax_uid) for file in files)
    pairs = dict.fromkeys((sop_class, syntax) for sop_class, own in kept for syntax in syntaxes(own))
    return [Context(sop_class, (syntax,)) for sop_class, syntax in pairs]


@contextmanager
def _in(syntax: str, file: PartTenFile) -> Iterator[tuple[BinaryIO, int]]:
    """Open a file in a transfer syntax of `syntaxes`, and say where its data set begins.

    What is decoded keeps its UID and says of itself what it lost (PS3.3 C.7.6.1.1.5); it has no name on the disk.
    """
    if syntax == file.transfer_syntax_uid:
        with file.path.open("rb", buffering=0) as body:
            yield body, file.offset
        return
    with tempfile.TemporaryFile() as body:
        with quiet_pydicom():  # it would quote a patient's odd values in the log
            read = dcmread(file.path)
            read.decompress(generate_instance_uid=False)
            read.preamble, read.file_meta = None, FileMetaDataset()  # the data set alone
            read.save_as(body, implicit_vr=False, little_endian=True)
        body.flush()
        yield body, 0


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
        It failed in a way that may pass; `OutOfResourcesError` where it has no room, `AbortedError` where the
        association is gone too.
    """
    accepted = association.accepted_syntaxes(file.sop_class_uid)
    syntax = next((one for one in syntaxes(file.transfer_syntax_uid) if one in accepted), file.transfer_syntax_uid)
    association.require(file.sop_class_uid, syntax)
    with _in(syntax, file) as (body, offset):
        status = association.send_object(body, offset, file.sop_class_uid, file.sop_instance_uid, syntax, message_id)
    rule = require_passed(STORE_RULES, status, f"{association.archive} answered C-STORE")
    return f"{status:04X} {rule.words}"
