"""A real PostgreSQL of our own: a fresh cluster on a free port, which a test may stop, kill and start."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

_PASSWORD = "of-the-test-alone"


def _programs() -> Path:
    """Where initdb and pg_ctl lie; missing as any peer."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        message = "PostgreSQL is not installed (on Debian: apt-get install postgresql)"
        if os.environ.get("REQUIRE_PEERS") == "1":
            pytest.fail(message)
        pytest.skip(message)
    return found[-1].parent


class Postgresql:
    """One cluster in a folder of its own; run as `postgres` where we are root, which it refuses to be."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._programs = _programs()
        self._home = Path(tempfile.mkdtemp(prefix="steatosis-pg-"))
        self._data = self._home / "data"
        self.url = f"postgresql+psycopg://agent:{_PASSWORD}@127.0.0.1:{port}/postgres"

    def __enter__(self) -> Self:
        password = self._home / "password"
        password.write_text(_PASSWORD)
        if os.geteuid() == 0:
            shutil.chown(self._home, "postgres")
            shutil.chown(password, "postgres")
        chosen = ("--username=agent", "--auth=scram-sha-256", f"--pwfile={password}", "--no-sync")
        self._run("initdb", "-D", str(self._data), *chosen)
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop(check=False)
        shutil.rmtree(self._home, ignore_errors=True)

    def start(self) -> None:
        """Start and wait until it answers."""
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self._home}"
        log = str(self._home / "log")
        self._run("pg_ctl", "-D", str(self._data), "-w", "-l", log, "-o", options, "start")

    def stop(self, mode: str = "immediate", *, check: bool = True) -> None:
        """Stop; `immediate` is as a crash: it recovers from its log."""
        self._run("pg_ctl", "-D", str(self._data), "-m", mode, "-w", "stop", check=check)

    def _run(self, program: str, *arguments: str, check: bool = True) -> None:
        command = [str(self._programs / program), *arguments]
        user = "postgres" if os.geteuid() == 0 else None
        subprocess.run(command, user=user, check=check, cwd="/", stdout=subprocess.DEVNULL, timeout=60)
