"""An archive in this process that is queried and fetched from, and fails on command."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.sop_class import (
    SecondaryCaptureImageStorage,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
    UltrasoundImageStorage,
)
from pynetdicom.transport import ThreadedAssociationServer

from agent.domain.identifiers import Archive
from tests.support.ports import free_port

_LEVELS = {
    "STUDY": ("StudyInstanceUID",),
    "SERIES": ("StudyInstanceUID", "SeriesInstanceUID"),
    "IMAGE": ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"),
}


@dataclass
class Manners:
    """How it answers."""

    get_offered: bool = True
    move_offered: bool = True
    tells_sop_class: bool = True
    tells_number: bool = True
    ignores_keys: bool = False
    """It answers each C-FIND with all that it has of the level."""
    withheld: set[str] = field(default_factory=set)
    """SOP Instance UIDs that it lists but does not send."""
    swapped: bytes | None = None
    """Sent in the place of everything."""
    get_status: int | None = None
    move_status: int | None = None


class WaywardSource:
    """Holds Part 10 files; `asked` collects the identifiers of C-GET and C-MOVE as (level, SOP Instance UIDs)."""

    def __init__(self, files: list[bytes], move_to: tuple[str, int] = ("127.0.0.1", 1)) -> None:
        self.manners = Manners()
        self.held = [pydicom.dcmread(io.BytesIO(encoded)) for encoded in files]
        self.move_to = move_to
        self.asked: list[tuple[str, tuple[str, ...]]] = []
        self.port = free_port()
        self._server: Any = None

    @property
    def archive(self) -> Archive:
        return Archive(ae_title="PACS", host="127.0.0.1", port=self.port)

    def start(self) -> WaywardSource:
        entity = AE("PACS")
        entity.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
        if self.manners.get_offered:
            entity.add_supported_context(StudyRootQueryRetrieveInformationModelGet)
        if self.manners.move_offered:
            entity.add_supported_context(StudyRootQueryRetrieveInformationModelMove)
        for sop_class in (UltrasoundImageStorage, SecondaryCaptureImageStorage):
            syntaxes = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
            entity.add_supported_context(sop_class, syntaxes, scu_role=True, scp_role=True)
            entity.add_requested_context(sop_class, syntaxes)
        handlers = [(evt.EVT_C_FIND, self._on_find), (evt.EVT_C_GET, self._on_get), (evt.EVT_C_MOVE, self._on_move)]
        address = ("127.0.0.1", self.port)
        self._server = entity.make_server(address, evt_handlers=handlers, server_class=ThreadedAssociationServer)
        entity._servers.append(self._server)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __enter__(self) -> WaywardSource:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()

    def _matching(self, query: Dataset) -> list[Dataset]:
        def fits(one: Dataset) -> bool:
            for keyword in _LEVELS["IMAGE"]:
                wanted = query.get(keyword) or ""
                wanted = [wanted] if isinstance(wanted, str) else list(wanted)
                if any(wanted) and one[keyword].value not in wanted:
                    return False
            return True

        return [one for one in self.held if fits(one)]

    def _on_find(self, event: evt.Event) -> Iterator[tuple[int, Dataset]]:
        query, seen = event.identifier, set()
        for one in self.held if self.manners.ignores_keys else self._matching(query):
            keys = _LEVELS[query.QueryRetrieveLevel]
            name = tuple(one[keyword].value for keyword in keys)
            if name in seen:
                continue
            seen.add(name)
            match = Dataset()
            match.QueryRetrieveLevel = query.QueryRetrieveLevel
            for keyword, value in zip(keys, name, strict=True):
                setattr(match, keyword, value)
            match.Modality = one.Modality
            match.ModalitiesInStudy = sorted({other.Modality for other in self.held})
            match.StudyDate = one.StudyDate
            if self.manners.tells_sop_class:
                match.SOPClassUID = one.SOPClassUID
            if self.manners.tells_number:
                match.NumberOfStudyRelatedInstances = len(self.held)
            yield 0xFF00, match

    def _sent(self, query: Dataset) -> list[Dataset]:
        uids = query.get("SOPInstanceUID") or []
        self.asked.append((query.QueryRetrieveLevel, (uids,) if isinstance(uids, str) else tuple(uids)))
        if self.manners.swapped is not None:
            return [pydicom.dcmread(io.BytesIO(self.manners.swapped))]
        return [one for one in self._matching(query) if one.SOPInstanceUID not in self.manners.withheld]

    def _on_get(self, event: evt.Event) -> Iterator[Any]:
        sent = self._sent(event.identifier)
        if self.manners.get_status is not None:
            yield 0
            yield self.manners.get_status, None
            return
        yield len(sent)
        for one in sent:
            yield 0xFF00, one

    def _on_move(self, event: evt.Event) -> Iterator[Any]:
        sent = self._sent(event.identifier)
        if self.manners.move_status is not None:
            yield None, None
            return
        yield self.move_to
        yield len(sent)
        for one in sent:
            yield 0xFF00, one
