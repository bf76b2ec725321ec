"""The one thing serving uses: a bundle opened on an engine."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inference.backends.interface import BackendError, Engine, Graphs
from inference.backends.registry import AUTO, LAST_RESORT, candidates, open_engine, opened
from inference.bundle import Bundle
from inference.choose import Choice, choose
from inference.ensemble import StudyPrediction, combine


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Which model answers, and with what."""

    name: str
    version: str
    digest: str
    backend: str
    precision: str


class Predictor:
    """A bundle whose members are loaded; open it once a process.

    An engine that fails on the way is replaced by the one that is always there, for the rest of the process: the study
    at hand is scored, and every result from then on says so.

    Parameters
    ----------
    bundle
        Checked.
    choice
        The engine that holds the bundle's members, and how it was chosen.
    threads
        Of the engine that replaces it.
    """

    def __init__(self, bundle: Bundle, choice: Choice, threads: int | None = None) -> None:
        self.bundle = bundle
        self.choice = choice
        self.fault: str | None = None
        """Why the chosen engine was given up."""
        self._threads = threads
        self._engine = choice.engine
        self._one_at_a_time = threading.Lock()

    @classmethod
    def open(
        cls,
        folder: Path,
        backend: str = AUTO,
        threads: int | None = None,
        engines: Path | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> Predictor:
        """Load a bundle.

        Parameters
        ----------
        folder
            Of the bundle.
        backend
            Name of an engine, or "auto".
        threads
            Of an engine on the CPU; None takes the cores that this process may use.
        engines
            Folder that keeps which engine is fastest and what engines compile. Without it nothing could be remembered,
            so "auto" tries nothing and takes the engine that is always there.
        progress
            Is told what is tried, and what came of it.

        Raises
        ------
        BundleError
            The bundle is not whole.
        BackendError
            The engine is missing here or refuses the graphs.
        """
        bundle = Bundle.load(folder)
        g = bundle.geometry
        graphs = Graphs(
            members=bundle.members,
            threads=threads,
            engines=engines,
            digest=bundle.digest,
            shape=(g.channels, g.height, g.width),
            expected_views=bundle.expected_views,
            progress=progress or (lambda _: None),
        )
        name = LAST_RESORT if backend == AUTO and engines is None else backend
        if name == LAST_RESORT:
            engine = opened(candidates(name)[-1], graphs)
            return cls(bundle, Choice(engine=engine, tried=(), remembered=False, agrees=True), threads)
        return cls(bundle, choose(bundle, graphs, name), threads)

    @property
    def engine(self) -> Engine:
        """The engine in use."""
        return self._engine

    @property
    def identity(self) -> Identity:
        """Name, version, digest, engine and precision; the engine says so where it stands in for another."""
        failed = "" if self.fault is None else f" ({self.choice.engine.name} failed)"
        return Identity(
            name=self.bundle.name,
            version=self.bundle.version,
            digest=self.bundle.digest,
            backend=self._engine.name + failed,
            precision=self._engine.precision,
        )

    def predict(self, views: NDArray[np.float32]) -> StudyPrediction:
        """Score one study from its prepared views; their order changes nothing but its own.

        Parameters
        ----------
        views
            float32 [V, C, H, W], V at least 1, C, H and W as the bundle's geometry says.

        Raises
        ------
        BackendError
            The views have another shape, or no engine gives values that are finite.
        """
        g = self.bundle.geometry
        if views.ndim != 4 or not len(views) or views.shape[1:] != (g.channels, g.height, g.width):
            raise BackendError(f"views of shape {views.shape} cannot run: the bundle takes another")
        with self._one_at_a_time:
            try:
                return combine(self._engine.run(views), self.bundle.calibration)
            except BackendError as error:
                self._give_up(error)
            return combine(self._engine.run(views), self.bundle.calibration)

    def warm_up(self) -> None:
        """Run once, so that the first study waits for nothing."""
        g = self.bundle.geometry
        self.predict(np.zeros((self.bundle.expected_views, g.channels, g.height, g.width), np.float32))

    def _give_up(self, error: BackendError) -> None:
        """Put the last resort in the engine's place; raises the error again where that is what failed."""
        if self._engine.name == LAST_RESORT:
            raise error
        self._engine = open_engine(LAST_RESORT, self.bundle.members, self._threads)
        self.fault = str(error)
