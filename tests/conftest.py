"""Fixtures that every suite shares."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.peers.postgresql import Postgresql
from tests.support import steady_pynetdicom
from tests.support.ports import free_port

steady_pynetdicom.install()

ON_POSTGRESQL = os.environ.get("TEST_LEDGER") == "postgresql"

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


@pytest.fixture(scope="session", name="free_port")
def _free_port() -> Callable[[], int]:
    """Find TCP ports that nobody listens on."""
    return free_port


@pytest.fixture(scope="session")
def shared_database() -> Iterator[str | None]:
    """The URL of a PostgreSQL of this process's own for the ledgers of a `scene`; None gives each a file of SQLite."""
    if not ON_POSTGRESQL:
        yield None
        return
    with Postgresql(free_port()) as cluster:
        yield cluster.url


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On PostgreSQL only the tests of a ledger differ; the others have been run."""
    if not ON_POSTGRESQL:
        return
    others = [item for item in items if "shared_database" not in getattr(item, "fixturenames", ())]
    items[:] = [item for item in items if "shared_database" in getattr(item, "fixturenames", ())]
    config.hook.pytest_deselected(items=others)
