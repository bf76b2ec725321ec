"""Reading and writing other people's values without pydicom telling the log about them."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

_LOCK: Final = threading.Lock()
_INSIDE: Final[list[tuple[warnings.catch_warnings[Any], int]]] = []
"""How many are inside, and with the first of them what is put back by the last."""


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Hold back pydicom's warnings of odd values.

    They may quote the value, which may be a patient's; what is odd about a source is shown on its arrival, and must
    not stop its report. Python's filters are the process's, not the thread's: the first thread in sets them, the last
    one out puts them back, so that several studies may be worked on at once.
    """
    with _LOCK:
        _enter()
    try:
        yield
    finally:
        with _LOCK:
            _leave()


def _enter() -> None:
    logger = logging.getLogger("pydicom")
    filters = warnings.catch_warnings()
    _INSIDE.append((filters, logger.level))
    if len(_INSIDE) == 1:
        filters.__enter__()
        warnings.simplefilter("ignore")
        logger.setLevel(logging.ERROR)


def _leave() -> None:
    if len(_INSIDE) > 1:
        _INSIDE.pop()
        return
    filters, level = _INSIDE.pop()
    filters.__exit__(None, None, None)
    logging.getLogger("pydicom").setLevel(level)
