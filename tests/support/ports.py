"""TCP ports for servers that a test starts."""

from __future__ import annotations

import os
import re
import socket
from itertools import count

_FIRST, _EACH, _SHARES = 12_000, 1_250, 15
"""Below 32768, where Linux begins to take ports for outgoing connections (ip(7), ip_local_port_range): a port
that is found free, closed and then opened by a server isn't taken by somebody's connection in between."""
_turns = count(os.getpid())


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on; tests that run side by side are given different ones."""
    worker = re.search(r"\d+$", os.environ.get("PYTEST_XDIST_WORKER", ""))
    first = _FIRST + _EACH * (int(worker[0]) % _SHARES if worker else _SHARES)
    for _ in range(_EACH):
        port = first + next(_turns) % _EACH
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError(f"no port is free from {first} to {first + _EACH - 1}")
