"""A real Orthanc on loopback, in a temporary folder, for any test: `from tests.peers.orthanc import Orthanc`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import pytest

from tests.support.ports import free_port

_PROGRAMS: Final = ("/usr/sbin/Orthanc", "/usr/bin/Orthanc")
_START_SECONDS: Final = 30.0


class Orthanc:
    """One Orthanc server.

    Parameters
    ----------
    folder
        Holds its storage, database, settings and log; what it stored survives `stop` and `start`.
    modalities
        AE title to host and port: who may be the destination of its C-MOVE.
    ae_title
        Its own.
    dicom_port, http_port
        Free ones are chosen where None; they stay the same over `stop` and `start`.
    options
        Further keys of Orthanc's settings, for example {"DicomAlwaysAllowGet": False}.
    is_verbose
        Whether its log says what it does: not where its speed is measured.
    """

    def __init__(
        self,
        folder: Path,
        modalities: Mapping[str, tuple[str, int]] | None = None,
        *,
        ae_title: str = "ORTHANC",
        dicom_port: int | None = None,
        http_port: int | None = None,
        options: Mapping[str, Any] | None = None,
        is_verbose: bool = True,
    ) -> None:
        self.folder = folder / "orthanc"
        self.modalities = dict(modalities or {})
        self.ae_title = ae_title
        self.dicom_port = dicom_port or free_port()
        self.http_port = http_port or free_port()
        self.options = dict(options or {})
        self._verbose = ["--verbose"] if is_verbose else []
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def http_url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def archive(self) -> str:
        """As `results.destinations` and `archive.query` want it."""
        return f"{self.ae_title}@127.0.0.1:{self.dicom_port}"

    @property
    def log(self) -> str:
        return (self.folder / "orthanc.log").read_text(errors="replace")

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        settings = self.folder / "orthanc.json"
        settings.write_text(json.dumps(self._settings(), indent=1))
        with (self.folder / "orthanc.log").open("ab") as log:
            self._process = subprocess.Popen(
                [_program(), *self._verbose, str(settings)], stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        end = time.monotonic() + _START_SECONDS
        while time.monotonic() < end:
            if self._process.poll() is not None:
                raise RuntimeError(f"Orthanc ended:\n{self.log[-4000:]}")
            try:
                self.rest("/system")
            except (urllib.error.URLError, OSError):
                time.sleep(0.05)
            else:
                return
        self.stop()
        raise RuntimeError(f"Orthanc does not answer:\n{self.log[-4000:]}")

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError("Orthanc is not started")
        return self._process.pid

    def stop(self) -> None:
        """Stop it; its storage stays."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def rest(self, path: str, *, method: str = "GET", data: Any = None) -> Any:
        """Call the REST interface; JSON is decoded, anything else is returned as bytes.

        `data` is sent as JSON, or as it is where it is bytes.
        """
        body = data if data is None or isinstance(data, bytes) else json.dumps(data).encode()
        request = urllib.request.Request(self.http_url + path, data=body, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            content: bytes = answer.read()
            kind = answer.headers.get("Content-Type", "")
        return json.loads(content) if kind.startswith("application/json") else content

    def store(self, part_ten: bytes) -> str:
        """Put a DICOM file in by REST; returns Orthanc's own id of the instance."""
        return str(self.rest("/instances", method="POST", data=part_ten)["ID"])

    def instance_ids(self) -> list[str]:
        """Orthanc's own ids of everything it has."""
        return list(self.rest("/instances"))

    def files(self) -> dict[str, bytes]:
        """Every stored Part 10 file by SOP Instance UID."""
        return {
            self.rest(f"/instances/{one}")["MainDicomTags"]["SOPInstanceUID"]: self.rest(f"/instances/{one}/file")
            for one in self.instance_ids()
        }

    def delete_all(self) -> None:
        """Delete every patient."""
        for patient in self.rest("/patients"):
            self.rest(f"/patients/{patient}", method="DELETE")

    def __enter__(self) -> Orthanc:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _settings(self) -> dict[str, Any]:
        return {
            "Name": self.ae_title,
            "StorageDirectory": str(self.folder / "storage"),
            "IndexDirectory": str(self.folder / "storage"),
            "StorageCompression": False,
            "Plugins": [],
            "HttpPort": self.http_port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomAet": self.ae_title,
            "DicomPort": self.dicom_port,
            "DicomCheckCalledAet": True,
            "DicomAlwaysAllowEcho": True,
            "DicomAlwaysAllowStore": True,
            "DicomAlwaysAllowFind": True,
            "DicomAlwaysAllowGet": True,
            "DicomAlwaysAllowMove": True,
            "DicomModalities": {
                name: {
                    "AET": name,
                    "Host": host,
                    "Port": port,
                    "AllowEcho": True,
                    "AllowFind": True,
                    "AllowGet": True,
                    "AllowMove": True,
                    "AllowStore": True,
                }
                for name, (host, port) in self.modalities.items()
            },
            "UnknownSopClassAccepted": True,
            "DatabaseServerIdentifier": self.ae_title,
        } | self.options


def _program() -> str:
    """Find Orthanc; a missing one skips the test, or fails it where REQUIRE_PEERS=1."""
    for candidate in _PROGRAMS:
        if Path(candidate).exists():
            return candidate
    if found := shutil.which("Orthanc"):
        return found
    message = "Orthanc is not installed (on Debian: apt-get install orthanc)"
    if os.environ.get("REQUIRE_PEERS") == "1":
        pytest.fail(message)
    pytest.skip(message)
