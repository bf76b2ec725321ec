"""Doing a few things at once, with the results in the order of what was asked.

Decoders, NumPy and Pillow let go of the interpreter while they work, so threads are enough. Instances and the frames of
one instance have threads of their own: an instance that waits for its frames must not hold the thread that they need.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeVar

_Given = TypeVar("_Given")
_Made = TypeVar("_Made")
_MOST_THREADS: Final = 8
_CORES: Final = min(_MOST_THREADS, len(os.sched_getaffinity(0)))
INSTANCES: Final = ThreadPoolExecutor(_CORES, thread_name_prefix="instances")
FRAMES: Final = ThreadPoolExecutor(_CORES, thread_name_prefix="frames")


def in_order(pool: ThreadPoolExecutor, function: Callable[[_Given], _Made], items: Iterable[_Given]) -> Iterator[_Made]:
    """Apply a function to each item, a few ahead of who takes the results, so that memory stays bounded."""
    ahead: deque[Future[_Made]] = deque()
    try:
        for item in items:
            ahead.append(pool.submit(function, item))
            if len(ahead) > _CORES:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        for future in ahead:
            future.cancel()
