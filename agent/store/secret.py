"""The installation's own secret: 32 random bytes in the data folder, made once, readable by this user only."""

from __future__ import annotations

import os
import secrets

from agent.store.durable import make_directory
from agent.store.layout import Layout

_BYTES = 32


def installation_secret(layout: Layout) -> bytes:
    """Read the secret, making it the first time; processes and hosts that share the folder get the same.

    It keys what the page must not reveal or let be forged: hashed patient ids, sessions, form tokens.
    """
    path = layout.secret
    if not path.exists():
        make_directory(path.parent)
        ours = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
        with os.fdopen(os.open(ours, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secrets.token_bytes(_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(ours, path)  # fails where another process was first: theirs counts
        except FileExistsError:
            pass
        finally:
            ours.unlink()
    return path.read_bytes()
