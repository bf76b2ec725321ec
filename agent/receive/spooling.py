"""The seam to pynetdicom: data set fragments of a C-STORE go to disk as they come, instead of into memory.

pynetdicom assembles a message in memory, or in a named temporary file that it places, writes and removes by its own
rules. This provider gives each C-STORE message a file of ours to write to. It relies on `DIMSEMessage._data_set_file`,
`Association.dimse` and one message per `DIMSEServiceProvider.message`; `tests/unit/receive` holds that they stand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from pydicom.uid import UID
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.pdu_primitives import P_DATA

from agent.domain.errors import IdentifierError
from agent.domain.identifiers import checked_uid
from agent.store.instance_files import IncomingFile, InstanceFiles

_PLACEHOLDER: Final = UID("2.25.0")
"""Stands for a UID that pynetdicom would abort over; the answer is C000 in any case."""


class Arriving:
    """One C-STORE data set on its way: a file, or why there is none; to pynetdicom it looks like its own file."""

    def __init__(self, file: IncomingFile | None, error: Exception | None) -> None:
        self.incoming = file
        self.error = error
        self.name = "" if file is None else file.name
        self.file = self  # pynetdicom calls `.file.flush()` after each fragment
        self.kept = False

    def write(self, data: bytes) -> None:
        """Append a fragment; never raises, since that would end pynetdicom's reactor thread."""
        if self.incoming is not None:
            self.incoming.write(data)

    def flush(self) -> None:
        """Nothing is buffered."""

    def close(self) -> None:
        """Drop what was not kept; pynetdicom calls it after the handler."""
        if self.incoming is not None and not self.kept:
            self.incoming.discard()


class SpoolingProvider(DIMSEServiceProvider):
    """pynetdicom's DIMSE provider, with C-STORE data sets written through an `InstanceFiles`."""

    def __init__(self, association: Any, files: InstanceFiles) -> None:
        super().__init__(association)
        self._files = files
        self._arriving: list[Arriving] = []

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take one P-DATA primitive, value by value, so that a file is there before the first data fragment."""
        for context_id, value in primitive.presentation_data_value_list:
            if not value:
                # an empty value has no message control header (PS3.8 E.2); pynetdicom would end its thread over it
                self.dul.event_queue.put("Evt19")
                return
            part = P_DATA()
            part.presentation_data_value_list = [[context_id, value]]  # type: ignore[list-item]  # it wants lists
            super().receive_primitive(part)
            message = self.message
            if isinstance(message, C_STORE_RQ) and message._data_set_file is None:
                message._data_set_file = self._begin(message, context_id)  # type: ignore[assignment]

    def discard_all(self) -> None:
        """Drop every data set that is not kept: the association has ended."""
        for arriving in self._arriving:
            arriving.close()
        self._arriving.clear()

    def _begin(self, message: C_STORE_RQ, context_id: int) -> Arriving:
        self._arriving = [arriving for arriving in self._arriving if not arriving.kept]
        arriving = _begun(message, lambda: self._syntax(context_id), self._files)
        self._arriving.append(arriving)
        return arriving

    def _syntax(self, context_id: int) -> str:
        return str(self.assoc._accepted_cx[context_id].transfer_syntax[0])


def _begun(message: C_STORE_RQ, syntax: Callable[[], str], files: InstanceFiles) -> Arriving:
    command = message.command_set
    try:
        sop_class_uid = checked_uid(str(command.get("AffectedSOPClassUID") or ""), "Affected SOP Class UID")
        sop_instance_uid = checked_uid(str(command.get("AffectedSOPInstanceUID") or ""), "Affected SOP Instance UID")
        transfer_syntax_uid = syntax()
    except IdentifierError as error:
        for keyword in ("AffectedSOPClassUID", "AffectedSOPInstanceUID"):
            if len(str(command.get(keyword) or "")) not in range(1, 65):
                setattr(command, keyword, _PLACEHOLDER)
        return Arriving(None, error)
    except KeyError:
        cause = IdentifierError("the presentation context of the C-STORE was not accepted")
        return Arriving(None, cause)
    file = files.begin(
        sop_class_uid=sop_class_uid, sop_instance_uid=sop_instance_uid, transfer_syntax_uid=transfer_syntax_uid
    )
    return Arriving(file, file.error)
