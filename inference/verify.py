"""Golden vectors: whether this engine on this machine computes what training computed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from inference.contract import OUTPUTS
from inference.predictor import Predictor


@dataclass(frozen=True, kw_only=True)
class Verification:
    """The largest deviation from the golden vectors, output by output."""

    deviations: dict[str, float]
    tolerance: dict[str, float]

    @property
    def ok(self) -> bool:
        """Whether every output agrees within the bundle's tolerance."""
        return all(worst <= self.tolerance[name] for name, worst in self.deviations.items() if name in self.tolerance)

    @property
    def worst(self) -> str:
        """The output that comes nearest to its tolerance, in words."""
        shares = {name: self.deviations[name] / limit for name, limit in self.tolerance.items() if limit > 0}
        if not shares:
            return "no tolerance is stated"
        name = max(shares, key=lambda output: shares[output])
        return f"{name} deviates by {self.deviations[name]:.1e} (tolerance {self.tolerance[name]:.1e})"


def verify(predictor: Predictor) -> Verification:
    """Run the bundle's golden vectors.

    Keys of the archive: `case{k}_views` is an input, `case{k}_member{m}_{output}` what member m must give.
    """
    deviations = dict.fromkeys(OUTPUTS, 0.0)
    with np.load(predictor.bundle.golden, allow_pickle=False) as golden:
        cases = sorted(
            name.removesuffix("_views") for name in golden.files if name.endswith("_views") and "_member" not in name
        )
        for case in cases:
            for index, outputs in enumerate(predictor.engine.run(golden[f"{case}_views"])):
                for name in OUTPUTS:
                    expected = golden[f"{case}_member{index}_{name}"]
                    apart = float(np.abs(np.asarray(outputs[name]) - expected).max(initial=0.0))
                    deviations[name] = max(deviations[name], apart)
    return Verification(deviations=deviations, tolerance=dict(predictor.bundle.tolerance))
