"""A worker whose broker was lost starts anew.

Celery takes a lost connection up again by itself, but not always for good: an acknowledgement that failed at that
moment can leave a consumer that is connected and never hears another message. A new process has no such past, and
leases in the ledger bring back what the old one was doing.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

import redis
import structlog

WATCH_SECONDS: Final = 1.0
_ANSWER_SECONDS: Final = 5.0
_FINISH_SECONDS: Final = 30.0
"""What the steps at hand may still take; then the kernel ends them, as any kill would."""


class StepsAtHand:
    """How many steps this process is doing, and whether they are its last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self.are_last = False
        """No step is to begin any more, and no wake-up to be sent: each would wait for a broker that is gone."""

    @contextlib.contextmanager
    def one_more(self) -> Iterator[None]:
        """Count a step for as long as it takes."""
        with self._lock:
            self._count += 1
        try:
            yield
        finally:
            with self._lock:
                self._count -= 1

    def wait(self, seconds: float) -> None:
        """Wait until there is none, or until the time is over."""
        until = time.monotonic() + seconds
        while self._count and time.monotonic() < until:
            time.sleep(0.05)


class BrokerWatch:
    """Looks whether the broker is still the one that this process began with.

    Parameters
    ----------
    running
        Gives the identity of the running broker; None where it does not answer.
    end
        Called once it was lost.
    """

    def __init__(self, running: Callable[[], str | None], end: Callable[[], None]) -> None:
        self._running, self._end = running, end
        self._first: str | None = None

    def look(self) -> None:
        """Look once; a broker that has never answered is not lost yet."""
        found = self._running()
        if self._first is None:
            self._first = found
        elif found != self._first:
            self._end()


def running_broker(url: str) -> str | None:
    """Return the run id of the Redis or Valkey behind a URL, new at each of its starts; None where none answers."""
    plain = url.replace("redis+socket://", "unix://")
    try:
        with redis.Redis.from_url(plain, socket_timeout=_ANSWER_SECONDS, socket_connect_timeout=_ANSWER_SECONDS) as one:
            return str(one.info("server")["run_id"])
    except (redis.RedisError, OSError):
        return None


def end_worker(at_hand: StepsAtHand) -> None:
    """End this process once its steps are done; the supervisor starts another."""
    structlog.get_logger("worker").warning("broker lost: this worker starts anew")
    at_hand.are_last = True
    at_hand.wait(_FINISH_SECONDS)
    os._exit(1)  # Celery's own way out waits for a broker that may be gone
