"""Receivers to compare: each a real process of its own, in a folder of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final

import psutil
import pytest

from tests.peers.orthanc import Orthanc
from tests.support.ports import free_port

STORESCP: Final = Path("/usr/bin/storescp")
_START_SECONDS: Final = 30.0
_TICK: Final = 0.05
_NODELAY: Final = {"TCP_NODELAY": "1"}
"""For those made with DCMTK: with Nagle's algorithm their answers, of two segments each, wait for a delayed ACK."""


def put_aside(folder: Path) -> None:
    """Empty a receiver's files and move its folder out of the way; the next receiver starts with an empty one.

    They are not removed: ext4 passes over recently deleted inodes, one by one, whenever it makes a file, so that a
    receiver would pay for the files of those before it.
    """
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            os.truncate(path, 0)
    folder.rename(folder.with_name(f"{folder.name}-{time.time_ns()}"))


class Receiver(ABC):
    """A receiver under test; a context manager that starts and ends it."""

    name: str
    ae_title = "STEATOSIS"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.peak_bytes = 0
        self._processes: list[subprocess.Popen[bytes]] = []
        self._over = threading.Event()
        self._children_gone: dict[int, float] = {}

    @abstractmethod
    def commands(self) -> list[list[str]]:
        """What to run."""

    def environment(self) -> Mapping[str, str]:
        return {}

    def __enter__(self) -> Receiver:
        self.folder.mkdir(parents=True)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AGENT_")}
        environment |= _NODELAY | self.environment()
        with (self.folder / "log").open("wb") as log:
            for command in self.commands():
                process = subprocess.Popen(
                    command,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
                self._processes.append(process)
        self.await_port(self.port)
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, _kind: type | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        self._over.set()
        for process in self._processes:
            for child in _descendants(process.pid)[1:]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.send_signal(signal.SIGKILL)
            process.kill()
            process.wait()
        put_aside(self.folder)

    def roots(self) -> list[int]:
        return [process.pid for process in self._processes]

    def await_port(self, port: int) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(_TICK)
        raise RuntimeError(f"{self.name} does not listen: {(self.folder / 'log').read_text()[-2000:]}")

    def cpu_seconds(self) -> float:
        """Processor time so far, of its children too: a child that ended counts in its parent, or as a zombie."""
        total = 0.0
        for root in self.roots():
            for process in _descendants(root):
                try:
                    times = process.cpu_times()
                except psutil.Error:
                    continue
                total += times.user + times.system + times.children_user + times.children_system
        return total

    def _watch(self) -> None:
        while not self._over.wait(_TICK):
            resident = 0
            for root in self.roots():
                for process in _descendants(root):
                    try:
                        resident += process.memory_info().rss
                    except psutil.Error:
                        continue
            self.peak_bytes = max(self.peak_bytes, resident)


class Agent(Receiver):
    """`agent serve` with its listener processes alone, one a core."""

    name = "agent"
    settings: Mapping[str, str] = {}

    def commands(self) -> list[list[str]]:
        return [[sys.executable, "-m", "agent", "serve", "--role", "listener"]]

    def environment(self) -> Mapping[str, str]:
        return {
            "AGENT_STORAGE__DATA_DIR": str(self.folder / "var"),
            "AGENT_STORAGE__MIN_FREE_GB": "0.1",
            "AGENT_DICOM__PORT": str(self.port),
            "AGENT_BROKER__URL": "redis://127.0.0.1:1/0",  # listeners use none
            "AGENT_LOG__FORMAT": "json",
            **self.settings,
        }

    def __enter__(self) -> Receiver:
        receiver = super().__enter__()
        deadline = time.monotonic() + _START_SECONDS
        listeners = int(self.settings.get("AGENT_DICOM__LISTENERS", os.cpu_count() or 1))
        while not self._stands(listeners):
            assert time.monotonic() < deadline, (self.folder / "log").read_text()[-2000:]
            time.sleep(_TICK)
        return receiver

    def listeners(self) -> list[psutil.Process]:
        """Its listener processes."""
        return [child for child, name in self._children() if name.startswith("listener")]

    def _children(self) -> Iterator[tuple[psutil.Process, str]]:
        """Give its children by name; the rebuild may end between being listed and being asked."""
        for child in _descendants(self.roots()[0])[1:]:
            with contextlib.suppress(psutil.NoSuchProcess):
                yield child, child.name()

    def _stands(self, listeners: int) -> bool:
        """Whether all listen and the rebuild, which comes after, is over."""
        log = (self.folder / "log").read_text()
        if log.count('"listening"') < listeners or '"child": "rebuild"' not in log:
            return False
        return all(name != "rebuild" for _, name in self._children())


class StockPathAgent(Agent):
    """The agent with pynetdicom reading."""

    name = "agent, stock path"
    settings: Mapping[str, str] = {"AGENT_DICOM__RECEIVE_PATH": "stock"}


class Storescp(Receiver):
    """DCMTK's, as fast as it can be set up; it does not sync."""

    name = "storescp"

    def commands(self) -> list[list[str]]:
        if not STORESCP.exists():
            pytest.skip("storescp is not installed (on Debian: apt-get install dcmtk)")
        (self.folder / "stored").mkdir()
        options = ["--fork", "+B", "-pdu", "131072", "+xa", "-aet", self.ae_title, "-od", str(self.folder / "stored")]
        return [[str(STORESCP), *options, str(self.port)]]


class SyncingStorescp(Storescp):
    """The same, made to fdatasync what it closes."""

    name = "storescp, syncing"
    flags: tuple[str, ...] = ()

    def environment(self) -> Mapping[str, str]:
        return {"LD_PRELOAD": str(self._library())}

    def _library(self) -> Path:
        compiler = shutil.which("cc")
        if compiler is None:
            pytest.skip("no C compiler for the library that makes storescp sync")
        library = self.folder / "keep_at_close.so"
        source = Path(__file__).with_name("keep_at_close.c")
        command = [compiler, "-O2", "-shared", "-fPIC", *self.flags, "-o", str(library), str(source), "-ldl"]
        if not library.exists():
            subprocess.run(command, check=True)
        return library


class NamingStorescp(SyncingStorescp):
    """The same, made to promise what the agent does but for a row: named by SHA-256, its folder synced, too."""

    name = "storescp, naming"
    flags = ("-DNAMED",)


class StockPynetdicom(Receiver):
    """pynetdicom's own storage SCP; it does not sync."""

    name = "pynetdicom"

    def commands(self) -> list[list[str]]:
        (self.folder / "stored").mkdir()
        return [[sys.executable, "-m", "tests.load.stock_scp", str(self.port), str(self.folder / "stored")]]


class OrthancReceiver(Receiver):
    """Orthanc, quiet, with its own defaults for syncing (on)."""

    name = "Orthanc"
    ae_title = "ORTHANC"

    def commands(self) -> list[list[str]]:
        return []

    def __enter__(self) -> Receiver:
        options = {"MaximumPduLength": 131_072, "DicomThreadsCount": 4, "ConcurrentJobs": 2, "SaveJobs": False}
        self.folder.mkdir(parents=True)
        self._orthanc = Orthanc(self.folder, dicom_port=self.port, options=options, is_verbose=False)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TCP_NODELAY", "1")
            self._orthanc.start()
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, _kind: type | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        self._over.set()
        self._orthanc.stop()
        put_aside(self.folder)

    def roots(self) -> list[int]:
        return [self._orthanc.pid]


def _descendants(pid: int) -> list[psutil.Process]:
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.Error:
        return []
