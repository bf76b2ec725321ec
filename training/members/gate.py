"""The liver gate, fitted last: a logistic regression on a fitted member's pooled features.

In the joint fit the gate sees a few frames of each batch, and its features move while it learns. Once they stand still
the best line through them is a convex problem, and every frame that is not liver can count.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from training.bundle.configuration import Fit
from training.members.batches import Features
from training.members.models import Member

PHANTOMS: Final = 2400
"""Phantom livers it looks at; more of them teach it nothing."""
DECAY: Final = 1e-4
STEPS: Final = 60
_BATCH: Final = 64


def fit_gate(member: Member, fit: Fit, features: Features) -> None:
    """Fit `member.liver` to liver views, phantom and real, against the frames that are none; both sides weigh alike."""
    if not len(features.negatives):
        return
    views = features.views.reshape(-1, *features.views.shape[2:])
    edits = features.edits.reshape(-1, *features.edits.shape[2:])
    some = np.linspace(0, len(views) - 1, min(PHANTOMS, len(views))).astype(int)
    groups = [views[some], features.positives, edits[:: max(1, len(edits) // PHANTOMS)], features.negatives]
    *livers, others = (_pooled(member, fit, frames) for frames in groups if len(frames))
    line, offset = logistic(torch.cat(livers), others)
    with torch.no_grad():
        member.liver.weight.copy_(line[None])
        member.liver.bias.copy_(offset)


def _pooled(member: Member, fit: Fit, frames: np.ndarray) -> Tensor:
    member.eval()
    found = []
    with torch.no_grad():
        for start in range(0, len(frames), _BATCH):
            front = torch.from_numpy(frames[start : start + _BATCH].astype(np.float32))
            seen = member.trunk.back(front.contiguous(memory_format=torch.channels_last), fit.frozen_blocks)
            found.append(member.spatial(seen.flatten(2).transpose(1, 2)).mean)
    return torch.cat(found)


def logistic(livers: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Return the line [C] and the offset [1] that tell features [N, C] of livers from those [M, C] of others.

    The weighted log-loss is minimised on standardised features, and the standardisation folded into the line; both
    sides weigh alike, however many there are.
    """
    features = torch.cat([livers, others])
    truth = torch.cat([torch.ones(len(livers)), torch.zeros(len(others))])
    weights = torch.where(truth > 0, 0.5 / len(livers), 0.5 / len(others))
    mean, spread = features.mean(dim=0), features.std(dim=0).clamp(min=1e-4)
    standard = (features - mean) / spread
    line = torch.zeros(features.shape[1], requires_grad=True)
    offset = torch.zeros(1, requires_grad=True)
    optimiser = torch.optim.LBFGS([line, offset], max_iter=STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = functional.binary_cross_entropy_with_logits(standard @ line + offset, truth, weights, reduction="sum")
        value = value + DECAY * (line**2).sum()
        value.backward()
        return value

    optimiser.step(loss)
    return (line / spread).detach(), (offset - (line * mean / spread).sum()).detach()
