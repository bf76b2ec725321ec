"""The liver gate, fitted last, on a fitted member's pooled features.

In the joint fit the gate sees a few frames of each batch, and its features move while it learns. Once they stand still
every frame that is not liver can count, and all of them at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from training.bundle.configuration import Fit
from training.members.batches import Features
from training.members.models import BENDS, LiverGate, Member

PHANTOMS: Final = 2400
"""Phantom livers that the fit of members looks at; more of them teach it nothing."""
DECAY: Final = 1e-4
STEPS: Final = 300
SEED: Final = 1
_BATCH: Final = 64


class Lesson(NamedTuple):
    """Features [N, C] on both sides, their truth [N], 1 for liver, and what each weighs [N], 1 together."""

    features: Tensor
    truth: Tensor
    weights: Tensor


def fit_gate(member: Member, fit: Fit, features: Features) -> None:
    """Fit `member.liver` to liver views, phantom and real, against the frames that are none."""
    if not len(features.negatives):
        return
    views = features.views.reshape(-1, *features.views.shape[2:])
    edits = features.edits.reshape(-1, *features.edits.shape[2:])
    some = np.linspace(0, len(views) - 1, min(PHANTOMS, len(views))).astype(int)
    groups = [views[some], features.positives, edits[:: max(1, len(edits) // PHANTOMS)], features.negatives]
    *livers, others = (_pooled(member, fit, frames) for frames in groups if len(frames))
    member.liver.load_state_dict(fitted_gate(lesson(livers, [others])).state_dict())


def _pooled(member: Member, fit: Fit, frames: np.ndarray) -> Tensor:
    member.eval()
    found = []
    with torch.no_grad():
        for start in range(0, len(frames), _BATCH):
            front = torch.from_numpy(frames[start : start + _BATCH].astype(np.float32))
            seen = member.trunk.back(front.contiguous(memory_format=torch.channels_last), fit.frozen_blocks)
            found.append(member.spatial(seen.flatten(2).transpose(1, 2)).mean)
    return torch.cat(found)


def lesson(livers: Sequence[Tensor], others: Sequence[Tensor]) -> Lesson:
    """Return both sides' features [N, C] together.

    The two sides weigh alike, and so do the sets of each, however many frames they have; empty sets are left out.
    """
    parts: list[Lesson] = []
    for side, sets in ((1.0, livers), (0.0, others)):
        told = [part for part in sets if len(part)]
        for part in told:
            weight = 0.5 / len(told) / len(part)
            parts.append(Lesson(part, torch.full((len(part),), side), torch.full((len(part),), weight)))
    return Lesson(*(torch.cat(column) for column in zip(*parts, strict=True)))


def fitted_gate(taught: Lesson) -> LiverGate:
    """Return the gate that tells both sides apart.

    The weighted log-loss is minimised on standardised features, all of them at each step, and the standardisation
    folded into the weights. It starts from `SEED`: the same again of the same features.
    """
    mean, spread = taught.features.mean(dim=0), taught.features.std(dim=0).clamp(min=1e-4)
    standard = (taught.features - mean) / spread
    gate = _new_gate(taught.features.shape[1])
    optimiser = torch.optim.LBFGS(gate.parameters(), max_iter=STEPS, history_size=20, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        logits = gate(standard).squeeze(-1)
        value = functional.binary_cross_entropy_with_logits(logits, taught.truth, taught.weights, reduction="sum")
        value = value + DECAY * ((gate.hidden.weight**2).sum() + (gate.judge.weight**2).sum())
        value.backward()
        return value

    optimiser.step(loss)
    with torch.no_grad():
        gate.hidden.weight /= spread
        gate.hidden.bias -= gate.hidden.weight @ mean
    return gate


def _new_gate(channels: int) -> LiverGate:
    gate, rng = LiverGate(channels), torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        gate.hidden.weight.copy_((torch.randn(channels, BENDS, generator=rng) / channels**0.5).T)
        gate.judge.weight.copy_((torch.randn(BENDS, 1, generator=rng) / BENDS**0.5).T)
        gate.hidden.bias.zero_()
        gate.judge.bias.zero_()
    return gate
