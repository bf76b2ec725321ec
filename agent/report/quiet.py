"""Reading and writing other people's values without pydicom telling the log about them."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Hold back pydicom's warnings of odd values.

    They may quote the value, which may be a patient's; what is odd about a source is shown on its arrival, and must
    not stop its report. For one thread at a time, as in the score worker.
    """
    logger = logging.getLogger("pydicom")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
