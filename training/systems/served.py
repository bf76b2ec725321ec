"""A fitted system as a member of a bundle: one study in, the contract's outputs out, with a shipped bundle's gate.

The gate, and with it which view is which, comes from members of a finished bundle, as a cohort holds no frames that are
no liver. Its members look at the study beside the system, at their own size.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from inference.contract import CHANNELS, VIEWS
from training.frames.data import MEAN, STD
from training.members.models import FAT_SCALE, Member, Outputs, evidence_gradient
from training.members.trunk import IMAGENET_MEAN, IMAGENET_STD, Lite0, fused
from training.systems.backbones import Adapted, Back
from training.systems.fronts import GREYS
from training.systems.fused_views import fusion_of
from training.systems.grader import Grader

LIKELY: Final = 1.0 / len(VIEWS)
"""Probability that a view is of a kind that a system learnt from, from which on it counts: as by chance."""


class Resized(nn.Module):
    """Square pictures resampled as preparing does, by Pillow's bilinear filter: a triangle, wider on shrinking."""

    def __init__(self, given: int, wanted: int) -> None:
        super().__init__()
        self.same = given == wanted
        self.register_buffer("matrix", _triangles(given, wanted))
        self.matrix: Tensor

    def forward(self, pictures: Tensor) -> Tensor:
        """Return pictures [V, C, S, S] at the wanted size."""
        return pictures if self.same else self.matrix @ pictures @ self.matrix.T


def _triangles(given: int, wanted: int) -> Tensor:
    """Return the weights [wanted, given] of each row; they sum to 1."""
    scale = given / wanted
    centres = (torch.arange(wanted, dtype=torch.float64) + 0.5) * scale
    apart = (torch.arange(given, dtype=torch.float64) + 0.5 - centres[:, None]).abs()
    weights = torch.relu(1.0 - apart / max(scale, 1.0))
    return (weights / weights.sum(dim=1, keepdim=True)).float()


class Gate(nn.Module):
    """Which view is which, and whether it is liver B-mode, by members of a finished bundle; their mean."""

    def __init__(self, members: Iterable[Member], given: int, wanted: int) -> None:
        super().__init__()
        self.resized = Resized(given, wanted)
        self.members = nn.ModuleList(members)

    def forward(self, views: Tensor) -> tuple[Tensor, Tensor]:
        """Return view logits [V, 4] and liver logits [V] of views [V, 3, S, S]."""
        shown = self.resized(views)
        named, liver = [], []
        for member in self.members:
            seen = member.look(shown)[1].mean
            named.append(member.view(seen))
            liver.append(member.liver(seen).squeeze(-1))
        if len(named) == 1:
            return named[0], liver[0]
        # Serving averages probabilities of views, and logits of the liver.
        return torch.stack(named).softmax(dim=-1).mean(dim=0).log(), torch.stack(liver).mean(dim=0)


class BehindFront(nn.Module):
    """A backbone that was fitted behind a frozen front, with that front before it again."""

    def __init__(self, front: Lite0, back: Back, frozen_blocks: int) -> None:
        super().__init__()
        trunk = copy.deepcopy(front)
        for place, block in enumerate(back.blocks):
            trunk._blocks[frozen_blocks + place] = copy.deepcopy(block)
        self.trunk, self.mix, self.frozen_blocks = fused(trunk), back.mix, frozen_blocks
        self.channels = back.channels

    def forward(self, views: Tensor) -> Tensor:
        """Return features [V, C, h, w] of views [V, 3, S, S]."""
        looks = []
        for grey in GREYS:
            channel = CHANNELS.index(grey)
            shown = views[:, channel : channel + 1] * STD[channel] + MEAN[channel]
            looks.append(self.trunk.front((shown - IMAGENET_MEAN) / IMAGENET_STD, self.frozen_blocks))
        return self.trunk.back(self.mix(torch.cat(looks, dim=1)), self.frozen_blocks)


def whole_backbone(backbone: Adapted | Back, front: Lite0 | None, frozen_blocks: int) -> nn.Module:
    """Return a fitted backbone that takes prepared views, its normalisations folded where that is known how."""
    if isinstance(backbone, Back):
        if front is None:
            raise ValueError("A backbone behind a frozen front needs that front.")
        return BehindFront(front, backbone, frozen_blocks)
    if isinstance(backbone.backbone, Lite0):
        backbone = copy.deepcopy(backbone)
        backbone.backbone = fused(backbone.backbone)
    return backbone


class Served(nn.Module):
    """A fitted system as the contract wants it (`inference.contract`).

    Parameters
    ----------
    grader
        Fitted; without clinical variables, which serving does not have.
    backbone
        Its own, as `whole_backbone` gives it.
    gate
        At the size of the bundle's input.
    kinds
        Views that it learnt from, of `inference.contract.VIEWS`. Others have no weight beside one of these; where a
        study has none of these, all count. Empty where the cohort did not name its views: then all always count.
        A view is another only where the gate finds these unlikelier than chance: in doubt it counts.
    given, size
        Rows and columns of the bundle's input, and of the pictures that the system was fitted to.

    Raises
    ------
    ValueError
        The system takes clinical variables.
    """

    def __init__(
        self, grader: Grader, backbone: nn.Module, gate: Gate, kinds: Sequence[str], *, given: int, size: int
    ) -> None:
        super().__init__()
        if grader.clinical is not None:
            raise ValueError("A system with clinical variables cannot be a member: its graph takes views alone.")
        self.gate, self.resized, self.backbone = gate, Resized(given, size), backbone
        self.spatial, self.embed = grader.spatial, grader.embed
        self.fusion = fusion_of(grader)
        self.grade, self.fat = grader.grade, grader.fat
        self.register_buffer("learnt", torch.tensor([float(not kinds or name in kinds) for name in VIEWS]))
        self.learnt: Tensor

    def forward(self, views: Tensor) -> Outputs:
        """Score one study of views [V, 3, S, S]."""
        named, liver = self.gate(views)
        features = self.backbone(self.resized(views))
        flat = features.flatten(2).transpose(1, 2)
        seen = None if self.spatial is None else self.spatial(flat)
        before = self.embed(flat.mean(dim=1) if seen is None else seen.mean)
        embedded = functional.relu(before)
        study = self.fusion(embedded, self.counted(named))
        alone = self.fusion(embedded.unsqueeze(1), torch.ones(1, dtype=torch.bool, device=views.device)).mean
        logits = self.grade(study.mean)
        upstream = evidence_gradient(logits) @ self.grade.weight
        of_embedding = self.fusion.gradient(study, upstream) * (before > 0).unsqueeze(-2)
        of_pooled = of_embedding @ self.embed.weight
        channels = of_pooled / flat.shape[1] if seen is None else self.spatial.mean_gradient(seen, of_pooled)
        return Outputs(
            grade_logits=logits,
            fat_fraction=(FAT_SCALE * functional.softplus(self.fat(study.mean))).reshape(1),
            view_weights=study.weights,
            saliency=functional.relu(channels @ features.flatten(2)).unflatten(-1, features.shape[2:]),
            view_grade_logits=self.grade(alone),
            view_logits=named,
            liver_logit=liver,
        )

    def counted(self, named: Tensor) -> Tensor:
        """Return which views count, bool [V], by their names' logits [V, 4]."""
        learnt = (named.softmax(dim=-1) @ self.learnt >= LIKELY).to(named.dtype)
        return learnt >= learnt.max()
