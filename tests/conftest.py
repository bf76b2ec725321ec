"""Fixtures that every suite shares."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

_DCMTK = (
    "dcmdump",
    "dsr2html",
    "dsrdump",
    "echoscu",
    "findscu",
    "getscu",
    "movescu",
    "storescp",
    "storescu",
    "wlmscpfs",
)
_WHERE = {name: (f"/usr/bin/{name}",) for name in _DCMTK} | {
    "Orthanc": ("/usr/sbin/Orthanc", "/usr/bin/Orthanc"),
    "chromium": ("/usr/bin/chromium",),
}
_IN_VENV = ("dciodvfy", "dcentvfy", "hadolint")


@pytest.fixture(scope="session")
def peer_tool() -> Callable[[str], Path]:
    """Find a peer's program; a missing one skips the test, or fails it where REQUIRE_PEERS=1.

    DCMTK is called by its full path: pynetdicom installs commands of the same names into the environment.
    """

    def find(name: str) -> Path:
        candidates = [Path(path) for path in _WHERE.get(name, ())]
        if name in _IN_VENV:
            candidates.append(Path(sys.executable).parent / name)
        if not candidates and (found := shutil.which(name)):
            candidates.append(Path(found))
        for candidate in candidates:
            if candidate.exists():
                return candidate
        message = f"{name} is not installed (on Debian: apt-get install dcmtk orthanc dicom3tools chromium prometheus)"
        if os.environ.get("REQUIRE_PEERS") == "1":
            pytest.fail(message)
        pytest.skip(message)

    return find


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """Find TCP ports that nobody listens on."""

    def find() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])

    return find
