"""What an engine does: takes the graphs of a bundle once, then runs them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from inference.contract import OUTPUTS
from inference.onnx_merge import merged
from inference.onnx_wire import OnnxFileError

_MOST_THREADS: Final = 8
"""More threads wait for each other longer than they compute: the members' layers are small."""

MemberOutputs = Mapping[str, NDArray[np.float32]]
"""Outputs of one member by the names of `inference.contract`."""


class BackendError(Exception):
    """An engine is missing here or cannot run the graphs; names the remedy."""


class Engine(Protocol):
    """Members of one bundle, ready to run."""

    name: str
    precision: str

    def run(self, views: NDArray[np.float32]) -> Sequence[MemberOutputs]:
        """Run every member on float32 [V, C, H, W].

        Raises
        ------
        BackendError
            The views have another shape than the graphs take, or the engine fails.
        """


@dataclass(frozen=True)
class Graphs:
    """What an engine is opened with.

    Parameters
    ----------
    members
        ONNX, checked to hold all their weights.
    threads
        Of a CPU engine; None takes the cores that this process may use.
    engines
        Folder that keeps what is compiled ahead of time; None keeps nothing.
    digest
        Of the bundle: names what is kept.
    shape
        Channels, rows and columns of a view; engines that are compiled for shapes need it.
    expected_views
        The number of views to be fastest at.
    progress
        Is told of work that takes long.
    """

    members: tuple[bytes, ...]
    threads: int | None = None
    engines: Path | None = None
    digest: str = ""
    shape: tuple[int, int, int] | None = None
    expected_views: int = 3
    progress: Callable[[str], None] = lambda _: None

    @cached_property
    def joint(self) -> bytes | None:
        """All members in one graph whose outputs have a first axis of members; None where they cannot be joined."""
        try:
            return merged(self.members)
        except OnnxFileError:
            return None

    @property
    def cores(self) -> int:
        """Threads that a CPU engine takes."""
        return self.threads or min(len(os.sched_getaffinity(0)), _MOST_THREADS)


def of_members(stacked: Mapping[str, NDArray[np.float32]]) -> list[MemberOutputs]:
    """Take the joint graph's outputs [M, ...] apart again, without copying."""
    members = len(stacked[OUTPUTS[0]])
    return [{name: stacked[name][member] for name in OUTPUTS} for member in range(members)]
