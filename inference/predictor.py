"""The one thing serving uses: a bundle opened on an engine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inference.backends.interface import Engine
from inference.backends.registry import AUTO, open_engine
from inference.bundle import Bundle
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

    Parameters
    ----------
    bundle
        Checked.
    engine
        Holding the bundle's members.
    """

    def __init__(self, bundle: Bundle, engine: Engine) -> None:
        self.bundle = bundle
        self.engine = engine

    @classmethod
    def open(cls, folder: Path, backend: str = AUTO, threads: int | None = None) -> Predictor:
        """Load a bundle.

        Raises
        ------
        BundleError
            The bundle is not whole.
        BackendError
            The engine is missing here or refuses the graphs.
        """
        bundle = Bundle.load(folder)
        return cls(bundle, open_engine(backend, bundle.members, threads))

    @property
    def identity(self) -> Identity:
        """Name, version, digest, engine and precision."""
        return Identity(
            name=self.bundle.name,
            version=self.bundle.version,
            digest=self.bundle.digest,
            backend=self.engine.name,
            precision=self.engine.precision,
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
            The engine fails, or a member gives values that are not finite.
        """
        return combine(self.engine.run(views), self.bundle.calibration)

    def warm_up(self) -> None:
        """Run once, so that the first study waits for nothing."""
        geometry = self.bundle.geometry
        shape = (self.bundle.expected_views, geometry.channels, geometry.height, geometry.width)
        self.predict(np.zeros(shape, np.float32))
