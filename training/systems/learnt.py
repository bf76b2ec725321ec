"""What a run keeps beside weights and answers so that it can be exported: what it learnt from, and its frozen front.

Counts only: neither a picture nor a name of a patient leaves the cohort by way of a bundle.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import torch

from inference.contract import GRADES
from training.cohort.examples import Examples
from training.cohort.manifest import Frame
from training.keeping import reading, whole
from training.members.trunk import Lite0, pretrained_trunk
from training.systems.backbones import IMAGENET
from training.systems.configuration import Experiment

LEARNT: Final = "learnt.json"
FRONT: Final = "front.pt"


@dataclass(frozen=True, kw_only=True)
class Learnt:
    """Of the cohort that a run was fitted and tried on."""

    size: int
    """Rows and columns of the pictures."""
    patients: int
    studies: int
    grades: Mapping[str, int]
    """Studies of each grade."""
    measured: int
    """Studies with a fat fraction."""
    views: Mapping[str, int]
    """Views that the system was shown, by name; those without one by an empty name."""
    label_sources: Mapping[str, int] = field(default_factory=dict)
    """Frames by where their label comes from."""
    sites: int = 0
    scanners: int = 0


def learnt_from(experiment: Experiment, home: Examples, size: int, frames: Sequence[Frame] = ()) -> Learnt:
    """Return what a system is shown of a cohort; `frames` are those of its manifest, none for the benchmark."""
    shown = home.with_views(experiment.system.views)
    grades = Counter(np.asarray(home.grades, int).tolist())
    return Learnt(
        size=size,
        patients=len(set(home.patients.tolist())),
        studies=len(home),
        grades={name: grades[place] for place, name in enumerate(GRADES)},
        measured=int(np.isfinite(home.fat_fraction).sum()),
        views=dict(Counter(str(name) for name in shown.names[shown.present])),
        label_sources=dict(Counter(frame.label_source for frame in frames)) or {"phantom": len(home)},
        sites=len(set(home.sites.tolist()) - {""}),
        scanners=len(set(home.scanners.tolist()) - {""}),
    )


def keep_learnt(run: Path, experiment: Experiment, learnt: Learnt) -> None:
    """Write it into a run folder, and beside it the front that the run's networks share, where one is frozen."""
    with whole(run / LEARNT) as partial:
        partial.write_text(json.dumps(asdict(learnt), indent=1) + "\n", encoding="utf-8")
    if experiment.fit.frozen_blocks and not (run / FRONT).exists():
        weights = experiment.system.weights
        trunk = pretrained_trunk(None if weights == IMAGENET else Path(weights))
        with whole(run / FRONT) as partial:
            torch.save(trunk.state_dict(), partial)


def read_learnt(run: Path) -> Learnt:
    """Read what a run learnt from; raises FileNotFoundError where it was run before that was kept."""
    path = run / LEARNT
    with reading(path):
        return Learnt(**json.loads(path.read_text(encoding="utf-8")))


def read_front(run: Path) -> Lite0:
    """Return the trunk whose front a run's networks share; raises FileNotFoundError as `read_learnt` does."""
    trunk = Lite0()
    with reading(run / FRONT):
        trunk.load_state_dict(torch.load(run / FRONT, map_location="cpu", weights_only=True))
    return trunk.eval()
