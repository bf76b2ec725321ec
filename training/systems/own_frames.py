"""An exported bundle on the cohort that it came from: what its gate takes, how it names views, and what is usual there.

None of it says how well it grades: the members learnt from these patients.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from inference.backends.registry import open_engine
from inference.bundle import Bundle
from inference.ensemble import combine
from training.bundle.drift_reference import write_drift_reference
from training.cohort.examples import Examples


def shown_of(examples: Examples) -> Iterator[np.ndarray]:
    """Give the views [V, 3, S, S] of each study."""
    for views, present in zip(examples.views, examples.present, strict=True):
        yield np.asarray(views[present], np.float32)


def gate_figures(bundle: Bundle, examples: Examples) -> dict[str, Any]:
    """Return how many frames the gate takes, and how many of those with a name it calls by the same."""
    engine = open_engine("onnxruntime", bundle.members)
    passed, right, named = 0, 0, 0
    for shown, names in zip(shown_of(examples), _names(examples), strict=True):
        told = combine(engine.run(shown), bundle.calibration)
        passed += int((told.liver_logits >= bundle.liver_logit_minimum).sum())
        named += sum(name != "" for name in names)
        right += sum(name == own for name, own in zip(told.view_names, names, strict=True) if own)
    frames = int(examples.present.sum())
    return {
        "frames": frames,
        "passed": passed / frames,
        "named": named,
        "named_right": right / named if named else None,
    }


def _names(examples: Examples) -> Iterator[Sequence[str]]:
    for names, present in zip(examples.names, examples.present, strict=True):
        yield [str(name) for name in names[present]]


def write_usual(folder: Path, examples: Examples) -> Path:
    """Write `reference.json` into a finished bundle, with which serving compares its studies."""
    return write_drift_reference(folder, shown_of(examples), f"{len(examples)} studies that it learnt from")
