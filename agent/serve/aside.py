"""Settings read and checked in a process of its own, while this one loads what listeners need.

To read them takes pydantic, a fifth of what a start takes, and nothing of it is needed afterwards: what comes back are
plain values under the same names. On two cores a listener answers that much sooner.
"""

from __future__ import annotations

import os
import pickle
import select
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from agent.domain.errors import AgentError

if TYPE_CHECKING:
    from agent.settings import Settings


class SettingsAside:
    """Settings that another process reads.

    Parameters
    ----------
    config
        The settings file; None: the environment alone.
    check
        Done with them there; what it raises is raised here.
    """

    def __init__(self, config: Path | None, check: Callable[[Settings], None]) -> None:
        self._config, self._check = config, check
        self._pipe, theirs = os.pipe2(os.O_CLOEXEC)
        self._pid = os.fork()
        if self._pid == 0:
            _answer(theirs, config, check)
        os.close(theirs)

    @property
    def are_there(self) -> bool:
        """Whether they have been read, so that to take them is not to wait."""
        return bool(select.select([self._pipe], [], [], 0)[0])

    def take(self) -> Settings:
        """Wait for them.

        Raises
        ------
        SettingsError
            They cannot be used.
        """
        with os.fdopen(self._pipe, "rb") as pipe:
            answered = pipe.read()
        os.waitpid(self._pid, 0)
        try:
            answer = pickle.loads(answered)  # noqa: S301 - from our own process
        except (EOFError, pickle.UnpicklingError):  # it was killed, or has a fault: then they are read here
            answer = _read(self._config, self._check)
        if isinstance(answer, AgentError):
            raise answer
        return cast("Settings", answer)


def plain(section: Any) -> SimpleNamespace:
    """Copy settings, or a section of them, without pydantic."""
    from pydantic import BaseModel

    return SimpleNamespace(**{name: plain(value) if isinstance(value, BaseModel) else value for name, value in section})


def _read(config: Path | None, check: Callable[[Settings], None]) -> SimpleNamespace | AgentError:
    from agent.settings import load_settings

    try:
        settings = load_settings(config, os.environ)
        check(settings)
    except AgentError as error:
        return error
    return plain(settings)


def _answer(pipe: int, config: Path | None, check: Callable[[Settings], None]) -> None:
    """Be the other process, to its end; whatever is no error of ours ends it without an answer."""
    try:
        answer = pickle.dumps(_read(config, check))
        with os.fdopen(pipe, "wb") as file:
            file.write(answer)
    finally:
        os._exit(0)
