"""Logging through structlog, to standard error: a line an event, for people on a terminal, else JSON.

Our own events are written as soon as they are rendered. Only the libraries' take the way through `logging`, whose
record of an event, with the place it came from, costs more than the line itself: a listener writes one at every object.
"""

from __future__ import annotations

import functools
import logging
import sys
import traceback
import warnings
from collections.abc import MutableMapping
from typing import Any, Final, Literal, TextIO

import structlog

from agent.observe.scrubber import scrub, scrubbed_text

_LOUD: Final = {
    "alembic": logging.WARNING,
    "amqp": logging.WARNING,
    "celery": logging.WARNING,
    "httpx": logging.WARNING,
    "kombu": logging.WARNING,
    "PIL": logging.WARNING,
    "pydicom": logging.ERROR,  # its warnings quote element values
    "pynetdicom": logging.CRITICAL,  # its lines quote data sets; our handlers say what happened
    "sqlalchemy": logging.WARNING,
    "uvicorn": logging.WARNING,
    "highdicom": logging.ERROR,
}
"""Least level of other libraries' lines: below it they would drown ours or quote patients' data."""
_WARNINGS: Final = "py.warnings"
_LEVELS: Final = {name.lower(): level for name, level in logging.getLevelNamesMapping().items()}


def set_up_logging(
    format: Literal["console", "json", "auto"],
    *,
    role: str,
    level: str = "info",
    stream: TextIO | None = None,
) -> None:
    """Send every event of this process, ours and the libraries', through one chain.

    Parameters
    ----------
    format
        "auto" is console on a terminal, else json.
    role
        Named in each line: which process speaks.
    level
        Least level of our own events.
    stream
        Standard error by default: standard output is for data.
    """
    out = sys.stderr if stream is None else stream
    console = format == "console" or (format == "auto" and out.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _with_role(role),
        _told_error,
        scrub,
    ]
    renderer = structlog.dev.ConsoleRenderer(colors=out.isatty()) if console else structlog.processors.JSONRenderer()
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer]
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(formatter)
    handler.addFilter(_may_be_told)
    logging.captureWarnings(True)
    warnings.showwarning = _told_warning
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for name, least in _LOUD.items():
        logging.getLogger(name).setLevel(least)
    structlog.configure(
        processors=[_wanted, *shared, renderer],
        logger_factory=functools.partial(_Lines, handler),
        wrapper_class=structlog.make_filtering_bound_logger(logging.NOTSET),
        cache_logger_on_first_use=True,
    )


def _may_be_told(record: logging.LogRecord) -> bool:
    """Hold other libraries to their least level here, too: pydicom sets its own when it is imported."""
    return record.levelno >= _LOUD.get(record.name.partition(".")[0], logging.NOTSET)


def _told_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Say what kind of warning came and from where, never its words: pydicom's quote element values."""
    del message, file, line
    place = f"{'/'.join(filename.rsplit('/', 2)[-2:])}:{lineno}"
    logging.getLogger(_WARNINGS).warning("%s at %s", category.__name__, place)


class _Lines:
    """A logger that writes what is a line already, in turn with the handler of the libraries' events."""

    def __init__(self, handler: logging.StreamHandler[TextIO], *_name: str) -> None:
        self._handler = handler

    def write(self, line: str) -> None:
        """Write a line; where that fails nobody is left to be told."""
        self._handler.acquire()
        try:
            self._handler.stream.write(line + "\n")
            self._handler.flush()
        except (OSError, ValueError):
            return
        finally:
            self._handler.release()

    debug = info = warning = error = critical = write


def _wanted(_logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Drop an event below the level that is set now: a logger may be older than that."""
    if _LEVELS[method] < logging.getLogger().level:
        raise structlog.DropEvent
    return event


def _with_role(role: str) -> Any:
    def add(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event.setdefault("role", role)
        return event

    return add


def _told_error(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Write an exception as type, cleaned message and places; never with values of variables or source lines."""
    error = event.pop("exc_info", None)
    if error is True:
        error = sys.exc_info()[1]
    if isinstance(error, tuple):
        error = error[1]
    if isinstance(error, BaseException):
        frames = traceback.extract_tb(error.__traceback__)
        event["error"] = type(error).__name__
        event["error_text"] = scrubbed_text(str(error))
        event["places"] = [f"{frame.filename.rsplit('/', 2)[-1]}:{frame.lineno} {frame.name}" for frame in frames[-8:]]
    return event
