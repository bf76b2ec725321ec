"""Structured Reports made in a process of their own, while the score worker draws the pictures.

To compose a report takes highdicom the interpreter for as long as all pictures together take to be drawn, and threads
share one interpreter. The other process makes the same bytes by the same functions; where it is busy, slow or gone, the
report is made here.
"""

from __future__ import annotations

import gc
import os
import signal
import threading
from collections.abc import Callable
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Final, NoReturn

import structlog

from agent.domain.results import ResultObject
from agent.report.envelope import ReportedStudy
from agent.report.iod import known, requirements
from agent.report.report_study import composed
from agent.report.structured_report import SOP_CLASS
from agent.serve.forked import Forked
from agent.serve.supervisor import FORKED_NAME

_PATIENT_SECONDS: Final = 5.0
"""A report of many views takes a tenth of it."""
_NAMES: Final = [*FORKED_NAME, "score-composer"]
Compose = Callable[[ReportedStudy], ResultObject]


class Composer:
    """Makes Structured Reports beside this process; forked from it, so it is to be made before models are loaded."""

    def __init__(self, compose: Compose = composed, patient_seconds: float = _PATIENT_SECONDS) -> None:
        self._compose, self._patient_seconds = compose, patient_seconds
        self._lock = threading.Lock()
        requirements(SOP_CLASS), known(SOP_CLASS)  # tables of 66 MiB: read before the fork, they are shared
        self._pipe, theirs = Pipe()
        self._process: Forked | None = Forked(_NAMES, lambda: _serve(theirs, self._pipe, compose), {})
        theirs.close()

    def __call__(self, study: ReportedStudy) -> ResultObject:
        """Make the report of a study; raises as `composed` does."""
        made = None
        if self._lock.acquire(blocking=False):
            try:
                made = self._asked(study)
            finally:
                self._lock.release()
        return self._compose(study) if made is None else made

    def close(self) -> None:
        """End the other process; from now on reports are made here."""
        with self._lock:
            self._give_up()

    def _asked(self, study: ReportedStudy) -> ResultObject | None:
        """Ask the other process; None where it could not make the report, or is no more."""
        if self._process is None:
            return None
        try:
            self._pipe.send(study)
            if not self._pipe.poll(self._patient_seconds):
                raise TimeoutError("no answer in time")
            made: ResultObject | None = self._pipe.recv()
        except (OSError, EOFError) as error:
            structlog.get_logger("worker").warning("reports are composed here", cause=str(error) or "it ended")
            self._give_up()
            return None
        return made

    def _give_up(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            self._pipe.close()


def _serve(pipe: Connection, parents: Connection, compose: Compose) -> NoReturn:
    """Be the other process: answer until the worker is gone; it alone decides about its end."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    parents.close()
    gc.freeze()
    while True:
        try:
            study = pipe.recv()
        except EOFError:
            os._exit(0)
        try:
            made = compose(study)
        except Exception:  # noqa: BLE001 - it is made again there, where the cause is dealt with
            made = None
        pipe.send(made)
