"""The seam to pynetdicom: data set fragments of a C-STORE go to disk as they come, instead of into memory.

pynetdicom assembles a message in memory, or in a named temporary file that it places, writes and removes by its own
rules. This provider gives each C-STORE message a file of ours to write to. It relies on `DIMSEMessage._data_set_file`,
`Association.dimse` and one message per `DIMSEServiceProvider.message`; `tests/unit/receive` holds that they stand.

It runs in pynetdicom's reactor thread, which any exception would end without an A-ABORT: what cannot be understood
becomes event 19 of the state machine instead (PS3.8 Table 9-10: A-ABORT).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, Final

from pydicom.config import IGNORE
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.uid import UID
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import C_STORE_RQ, DIMSEMessage
from pynetdicom.pdu_primitives import P_DATA

from agent.domain.errors import IdentifierError, MismatchError, StorageFullError
from agent.domain.identifiers import checked_uid, is_uid
from agent.store.incoming_file import IncomingFile
from agent.store.instance_files import InstanceFiles

PLACEHOLDER_UID: Final = "2.25.0"
"""Stands in the answer for an instance UID that pynetdicom would abort over; the status is C000 in any case."""
_AFFECTED_SOP_CLASS_UID, _AFFECTED_SOP_INSTANCE_UID = 0x00000002, 0x00001000  # PS3.7 Annex E
_COMMAND: Final = 1  # message control header (PS3.8 Annex E.2)
MOST_COMMAND_BYTES: Final = 1 << 16
_MOST_OTHER_BYTES: Final = 1 << 24
"""A data set of any message but C-STORE is held in memory: storage commitment names many instances."""
_MOST_DROPPED_BYTES: Final = 1 << 30
"""What is refused is read on for this much, so that its sender gets a status; then A-ABORT."""
_PRIORITIES: Final = (0, 1, 2)  # PS3.7 Annex E: medium, high, low
_COMMAND_ERRORS: Final = (
    AttributeError,
    BytesLengthException,
    EOFError,
    InvalidDicomError,
    LookupError,
    NotImplementedError,
    TypeError,
    ValueError,
    struct.error,
)


class Arriving:
    """One C-STORE data set on its way: a file, or why there is none; to pynetdicom it looks like its own file."""

    def __init__(self, file: IncomingFile | None, error: Exception | None) -> None:
        self.incoming = file
        self.error = error
        self.name = "" if file is None else file.name
        self.file = self  # pynetdicom calls `.file.flush()` after each fragment
        self.kept = False
        self.is_over = False
        self._dropped = 0

    def write(self, data: bytes | memoryview) -> None:
        """Append a fragment; never raises."""
        if self.incoming is not None:
            self.incoming.write(data)
        self._count_dropped(data)

    @property
    def is_endless(self) -> bool:
        """Whether so much came after it was refused that its sender need not be waited for."""
        return self._dropped > _MOST_DROPPED_BYTES

    def write_borrowed(self, data: memoryview) -> None:
        """Append a fragment that stays as it is until `settle`; never raises."""
        if self.incoming is not None:
            self.incoming.write_borrowed(data)
        self._count_dropped(data)

    def _count_dropped(self, data: bytes | memoryview) -> None:
        if self.incoming is None or self.incoming.error is not None:
            self._dropped += len(data)

    def settle(self, executor: Callable[[], Executor] | None) -> bool:
        """Be done with what was borrowed; says whether another thread still needs it."""
        return self.incoming is not None and self.incoming.settle(executor)

    def flush(self) -> None:
        """Nothing is buffered."""

    def close(self) -> None:
        """Drop what was not kept; pynetdicom calls it after the handler."""
        self.is_over = True
        if self.incoming is not None and not self.kept:
            self.incoming.discard()


class SpoolingProvider(DIMSEServiceProvider):
    """pynetdicom's DIMSE provider, with C-STORE data sets written through an `InstanceFiles`."""

    def __init__(self, association: Any, files: InstanceFiles) -> None:
        super().__init__(association)
        self._files = files
        self._arriving: list[Arriving] = []
        self._context_id = 0
        self._held = 0

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take one P-DATA primitive, value by value, so that a file is there before the first data fragment."""
        for context_id, value in primitive.presentation_data_value_list:
            if not self._may_follow(context_id, value) or not self._take(context_id, value):
                self.dul.event_queue.put("Evt19")
                return

    def discard_all(self) -> None:
        """Drop every data set that is not kept: the association has ended."""
        for arriving in tuple(self._arriving):
            arriving.close()
        self._arriving.clear()

    def _may_follow(self, context_id: int, value: bytes) -> bool:
        """Whether a presentation data value fits what came before, and into memory (PS3.8 Annex E.1)."""
        if not value:
            return False  # not even a message control header
        if self.message is None:
            self._context_id, self._held = context_id, 0
        if not isinstance(self.message, C_STORE_RQ):
            self._held += len(value)
        is_command, has_command = bool(value[0] & _COMMAND), type(self.message) not in (type(None), DIMSEMessage)
        most = _MOST_OTHER_BYTES if has_command else MOST_COMMAND_BYTES
        return context_id == self._context_id and is_command != has_command and self._held <= most

    def _take(self, context_id: int, value: bytes) -> bool:
        part = P_DATA()
        part.presentation_data_value_list = [[context_id, value]]  # type: ignore[list-item]  # it wants lists
        try:
            super().receive_primitive(part)
        except _COMMAND_ERRORS:
            return False
        message = self.message
        if isinstance(message, C_STORE_RQ) and not isinstance(message.command_set.get("MessageID"), int):
            return False  # nobody could be answered
        if isinstance(message, C_STORE_RQ) and message._data_set_file is None:
            message._data_set_file = self._begin(message, context_id)  # type: ignore[assignment]
        return not any(arriving.is_endless for arriving in self._arriving)

    def open(self, sop_instance_uid: str, sop_class_uid: str, transfer_syntax_uid: str) -> Arriving:
        """Open a file for a data set whose command is as negotiated."""
        try:
            self._files.check_space()
        except StorageFullError as error:
            return self._followed(Arriving(None, error))
        file = self._files.begin(
            sop_class_uid=sop_class_uid, sop_instance_uid=sop_instance_uid, transfer_syntax_uid=transfer_syntax_uid
        )
        return self._followed(Arriving(file, file.error))

    def _followed(self, arriving: Arriving) -> Arriving:
        self._arriving = [other for other in self._arriving if not other.is_over]
        self._arriving.append(arriving)
        return arriving

    def _begin(self, message: C_STORE_RQ, context_id: int) -> Arriving:
        return self._begun(message.command_set, context_id)

    def _begun(self, command: Dataset, context_id: int) -> Arriving:
        context = self.assoc._accepted_cx.get(context_id)
        if context is None:
            return Arriving(None, None)  # pynetdicom aborts over it when the message is whole
        negotiated = str(context.abstract_syntax)
        said, instance = _plain(command, _AFFECTED_SOP_CLASS_UID), _plain(command, _AFFECTED_SOP_INSTANCE_UID)
        _make_answerable(command, negotiated, instance)
        try:
            sop_instance_uid = checked_uid(instance, "Affected SOP Instance UID")
            _check_class(said, negotiated)
        except (IdentifierError, MismatchError) as error:
            return self._followed(Arriving(None, error))
        return self.open(sop_instance_uid, negotiated, str(context.transfer_syntax[0]))


def _check_class(said: str, negotiated: str) -> None:
    if said != negotiated:
        raise MismatchError(f"SOP Class UID is {said[:64]!a} in the command, {negotiated} was negotiated")


def _plain(command: Dataset, tag: int) -> str:
    """Read a value without pydicom's opinion of it, which is a warning or an error."""
    found = command.get_item(tag)
    value = b"" if found is None else found.value
    return value.decode("ascii", "replace").strip(" \0") if isinstance(value, bytes) else str(value or "")


def _make_answerable(command: Dataset, negotiated: str, instance: str) -> None:
    """Let pynetdicom answer a C-STORE that it would abort over, or leave without an answer."""
    for tag, uid in (
        (_AFFECTED_SOP_CLASS_UID, negotiated),
        (_AFFECTED_SOP_INSTANCE_UID, instance if is_uid(instance) else PLACEHOLDER_UID),
    ):
        command[tag] = DataElement(tag, "UI", UID(uid, IGNORE), already_converted=True)
    if command.get("Priority") not in _PRIORITIES:
        command.Priority = 0
