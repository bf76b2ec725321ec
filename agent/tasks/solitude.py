"""A step under suspicion runs alone: were its worker to end again, whatever ran beside it would be blamed as well."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

SUSPECT_ATTEMPTS: Final = 2
"""A step that was begun so often without an end may be what ends its worker."""


class Solitude:
    """Rooms for the steps of one process: for several at once, or for one alone."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running, self._waiting = 0, 0
        self._is_alone = False

    @contextmanager
    def room(self, *, alone: bool) -> Iterator[None]:
        """Wait for a room; nobody who comes later goes before one who waits to be alone."""
        with self._changed:
            self._waiting += alone
            self._changed.wait_for(lambda: self._is_free(alone=alone))
            self._waiting -= alone
            self._running += 1
            self._is_alone = alone
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._is_alone = False
                self._changed.notify_all()

    def _is_free(self, *, alone: bool) -> bool:
        return self._running == 0 if alone else not self._is_alone and self._waiting == 0
