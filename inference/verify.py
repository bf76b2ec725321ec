"""Golden vectors: whether this engine on this machine computes what training computed."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from inference.backends.interface import Engine, MemberOutputs
from inference.bundle import Bundle
from inference.contract import OUTPUTS
from inference.description import BundleError


class Opened(Protocol):
    """A bundle on an engine."""

    @property
    def bundle(self) -> Bundle:
        """Holds the golden vectors."""

    @property
    def engine(self) -> Engine:
        """Is held against them."""


@dataclass(frozen=True, kw_only=True)
class Verification:
    """The largest deviation from the golden vectors, output by output."""

    deviations: Mapping[str, float]
    """Infinite where a value is not finite or has another shape."""
    tolerance: Mapping[str, float]

    @property
    def ok(self) -> bool:
        """Whether every output agrees within the bundle's tolerance; one without a tolerance must agree exactly."""
        return all(worst <= self.tolerance.get(name, 0.0) for name, worst in self.deviations.items())

    @property
    def worst(self) -> str:
        """The output that comes nearest to its tolerance, in words."""
        shares = {name: worst / max(self.tolerance.get(name, 0.0), 1e-30) for name, worst in self.deviations.items()}
        name = max(shares, key=lambda output: shares[output])
        return f"{name} deviates by {self.deviations[name]:.1e} (tolerance {self.tolerance.get(name, 0.0):.1e})"


def verify(opened: Opened) -> Verification:
    """Run the bundle's golden vectors.

    Keys of the archive: `case{k}_views` is an input, `case{k}_member{m}_{output}` what member m must give.

    Raises
    ------
    BundleError
        The bundle holds no golden case, or not all outputs of one.
    BackendError
        The engine cannot run a case.
    """
    deviations = dict.fromkeys(OUTPUTS, 0.0)
    try:
        with np.load(io.BytesIO(opened.bundle.golden_vectors), allow_pickle=False) as golden:
            for prefix, outputs in _runs(opened, golden):
                for name in OUTPUTS:
                    apart = _apart(outputs[name], golden[f"{prefix}_{name}"])
                    deviations[name] = max(deviations[name], apart)
    except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise BundleError(f"the golden vectors of {opened.bundle.folder} are not whole: {error}") from error
    return Verification(deviations=deviations, tolerance=opened.bundle.tolerance)


def _runs(opened: Opened, golden: Any) -> Iterator[tuple[str, MemberOutputs]]:
    cases = sorted(name.removesuffix("_views") for name in golden.files if name.endswith("_views"))
    if not cases:
        raise KeyError("no case")
    for case in cases:
        for index, outputs in enumerate(opened.engine.run(golden[f"{case}_views"])):
            yield f"{case}_member{index}", outputs


def _apart(given: Any, expected: Any) -> float:
    """Largest difference; infinite where the two cannot be compared, since a NaN would compare as agreement."""
    given, expected = np.asarray(given, np.float64), np.asarray(expected, np.float64)
    if given.shape != expected.shape or not np.isfinite(given).all():
        return float("inf")
    return float(np.abs(given - expected).max(initial=0.0))
