"""Studies from somebody's disk: each file is taken whole, then sent to our own listener as a modality would."""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.templating import Jinja2Templates

from agent.domain.errors import AgentError, OutOfResourcesError
from agent.web.actions import Note
from agent.web.session import Session

_HEADER: Final = "x-form-token"
"""Carries the form token: the body is the file itself."""
_NOT_OURS, _TOO_LONG, _NO_DICOM, _REFUSED, _BROKEN, _NO_LISTENER, _FULL = 403, 413, 415, 422, 500, 502, 507
_IS_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENFILE})
"""What C-STORE answers A700 for."""
_MAKE_ROOM: Final = "make room in the data folder, then upload it again"


@dataclass(frozen=True, kw_only=True)
class Inlet:
    """Where uploads go.

    Parameters
    ----------
    folder
        For files while they come in; what a killed process leaves there is removed when the agent starts.
    max_bytes, least_free_bytes
        A longer file is refused, and any while less than this is free.
    push
        Sends a file to the listener. Returns its Study Instance UID (None: no DICOM object) and why it was refused
        (None: it is stored); raises AgentError where the listener cannot be reached.
    """

    folder: Path
    max_bytes: int
    least_free_bytes: float
    push: Callable[[Path], tuple[str | None, AgentError | None]]


class _RefusedError(Exception):
    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


class Uploads:
    """Answers `/upload`: GET shows the page, each POST takes one file as its body."""

    def __init__(self, inlet: Inlet | None, session: Session, templates: Jinja2Templates, note: Note) -> None:
        self._inlet, self._session, self._templates, self._note = inlet, session, templates, note

    async def answer(self, request: Request) -> Response:
        """Show the page, or take a file."""
        if self._inlet is None or not self._session.may_act:
            return PlainTextResponse(
                "set web.upload_to and web.token to upload studies, or use `agent push`", _NOT_OURS
            )
        if request.method == "GET":
            return self._templates.TemplateResponse(request, "upload.html")
        if not self._session.is_ours(request, {"form_token": request.headers.get(_HEADER, "")}):
            return _told(_NOT_OURS, "this page is not of this session: open it again")
        try:
            study = await self._take(self._inlet, request)
        except _RefusedError as refused:
            return _told(refused.status, str(refused))
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it
        peer = request.client.host if request.client else ""
        await run_in_threadpool(self._note, "upload", study, peer, {})
        return JSONResponse({"study_instance_uid": study})

    async def _take(self, inlet: Inlet, request: Request) -> str:
        try:
            if shutil.disk_usage(inlet.folder).free < inlet.least_free_bytes:
                raise _RefusedError(_FULL, f"less is free than storage.min_free_gb: {_MAKE_ROOM}")
            with tempfile.NamedTemporaryFile(dir=inlet.folder, prefix="upload-", suffix=".part") as file:
                await _write(request, file, inlet.max_bytes)
                return await run_in_threadpool(_send, inlet, Path(file.name))
        except OSError as error:  # closing the file may be what fails, too
            if error.errno in _IS_FULL:
                raise _RefusedError(_FULL, f"not written: {error.strerror}: {_MAKE_ROOM}") from error
            raise _RefusedError(_BROKEN, f"not written to {inlet.folder}: {error.strerror}: see to the disk") from error


async def _write(request: Request, file: IO[bytes], max_bytes: int) -> None:
    written = 0
    async for part in request.stream():
        written += len(part)
        if written > max_bytes:
            raise _RefusedError(_TOO_LONG, f"longer than dicom.max_object_gb allows ({max_bytes / 1e9:g} GB)")
        await run_in_threadpool(file.write, part)
    await run_in_threadpool(file.flush)


def _send(inlet: Inlet, path: Path) -> str:
    try:
        study, fault = inlet.push(path)
    except AgentError as error:
        raise _RefusedError(_NO_LISTENER, str(error)) from error
    if study is None:
        raise _RefusedError(_NO_DICOM, f"no DICOM object: {fault.cause if fault else ''}")
    if isinstance(fault, OutOfResourcesError):
        raise _RefusedError(_FULL, f"{fault.cause}: {_MAKE_ROOM}")
    if fault is not None:
        raise _RefusedError(_REFUSED, str(fault))
    return study


def _told(status: int, words: str) -> JSONResponse:
    return JSONResponse({"error": words}, status_code=status)
