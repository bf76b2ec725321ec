"""What clinical variables contribute to a system's answers, by exact Shapley values, on patients left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from training.cohort.clinical import NAMES
from training.cohort.examples import Examples
from training.cohort.splits import folds
from training.explain.clinical import clinical_contributions
from training.members.models import steatosis_evidence
from training.systems.configuration import Experiment
from training.systems.fit import fitted_network
from training.systems.fronts import plain

REFERENCES: Final = 24
EXPLAINED: Final = 24


def explain_clinical(experiment: Experiment, home: Examples, count: int, run: Path) -> dict[str, Any]:
    """Return and keep the contributions to the log-odds of steatosis for patients of the first fold.

    Parameters
    ----------
    home, count, run
        As they were given to `training.systems.crossval.cross_validate`.

    Raises
    ------
    ValueError
        The system takes no clinical variables.
    """
    if not experiment.system.clinical:
        raise ValueError(f"{experiment.system.name} takes no clinical variables.")
    network = fitted_network(experiment, run / "fold-0" / "member-0")
    fold = folds([str(name) for name in home.patients], home.grades, count, seed=experiment.fit.seed)
    shown = plain(home.with_views(experiment.system.views))
    own, left_out = (
        shown.some(np.flatnonzero(fold != 0)[:REFERENCES]),
        shown.some(np.flatnonzero(fold == 0)[:EXPLAINED]),
    )

    def odds(fused: tuple[torch.Tensor, torch.Tensor], clinical: np.ndarray, mask: np.ndarray) -> float:
        variables = torch.from_numpy(clinical.astype(np.float32))[None], torch.from_numpy(mask)[None]
        with torch.no_grad():
            return float(steatosis_evidence(network.judge(*fused, *variables).grade_logits)[0])

    shares = []
    for index in range(len(left_out)):
        part = left_out.some(np.array([index]))
        present = torch.from_numpy(part.present)
        with torch.no_grad():
            fused = network.fuse(network.look(torch.from_numpy(part.views.astype(np.float32)), present), present)
        known = part.known[0]
        shares.append(
            clinical_contributions(odds, fused, part.clinical[0], known, NAMES, (own.clinical, own.known)).shares
        )
    found = {
        "names": list(NAMES),
        "mean_size": np.abs(shares).mean(axis=0).tolist(),
        "patients": [str(name) for name in left_out.patients],
        "shares": np.asarray(shares).tolist(),
    }
    (run / "clinical_contributions.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return found
