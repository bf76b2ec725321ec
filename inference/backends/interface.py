"""What an engine does: takes the bytes of member graphs once, then runs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

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
