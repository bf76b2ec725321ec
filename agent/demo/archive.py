"""A small archive for the demonstration: C-ECHO, C-STORE into a folder, C-FIND at image level. Not for patients."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt

from agent.domain.identifiers import is_uid

AE_TITLE: Final = "DEMO-ARCHIVE"
_SUCCESS, _PENDING, _CANNOT_UNDERSTAND = 0x0000, 0xFF00, 0xC000  # PS3.4 B.2.3, C.4.1.1.4
_QUERY_AND_VERIFICATION: Final = ("1.2.840.10008.5.1.4.1.2.2.1", "1.2.840.10008.1.1")
_KEYS: Final = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")


class DemoArchive:
    """Keeps what it is sent in `folder`, as Part 10 files, until `stop`."""

    def __init__(self, folder: Path, port: int) -> None:
        self._folder, self._port = folder, port
        self._stored: dict[str, tuple[dict[str, str], Path]] = {}
        self._lock = threading.Lock()
        self._server: Any = None

    def start(self) -> None:
        """Listen on loopback."""
        self._folder.mkdir(parents=True, exist_ok=True)
        ae = AE(ae_title=AE_TITLE)
        ae.supported_contexts = AllStoragePresentationContexts
        for context in ae.supported_contexts:
            context.transfer_syntax = list(ALL_TRANSFER_SYNTAXES)
        for sop_class_uid in _QUERY_AND_VERIFICATION:
            ae.add_supported_context(sop_class_uid)
        handlers: list[Any] = [(evt.EVT_C_STORE, self._store), (evt.EVT_C_FIND, self._find)]
        self._server = ae.start_server(("127.0.0.1", self._port), block=False, evt_handlers=handlers)

    def stop(self) -> None:
        """Stop listening; the files stay."""
        if self._server is not None:
            self._server.shutdown()

    def of_study(self, study_instance_uid: str) -> list[Path]:
        """List the files of a study, in the order of arrival."""
        with self._lock:
            return [path for keys, path in self._stored.values() if keys["StudyInstanceUID"] == study_instance_uid]

    def _store(self, event: Any) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        if not is_uid(uid):
            return _CANNOT_UNDERSTAND
        path = self._folder / f"{uid}.dcm"
        path.write_bytes(event.encoded_dataset())
        header = dcmread(path, specific_tags=list(_KEYS), stop_before_pixels=True)
        with self._lock:
            self._stored[uid] = ({key: str(header.get(key, "")) for key in _KEYS}, path)
        return _SUCCESS

    def _find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        with self._lock:
            stored = [keys for keys, _ in self._stored.values()]
        for keys in stored:
            if all(_matches(event.identifier, key, keys[key]) for key in _KEYS):
                answer = Dataset()
                answer.QueryRetrieveLevel = "IMAGE"
                for key in _KEYS:
                    setattr(answer, key, keys[key])
                yield _PENDING, answer
        yield _SUCCESS, None


def _matches(identifier: Dataset, key: str, value: str) -> bool:
    """Single value, list of UID and universal matching (PS3.4 C.2.2.2)."""
    wanted = identifier.get(key)
    if wanted is None or wanted == "":
        return True
    return value in ([wanted] if isinstance(wanted, str) else list(wanted))
