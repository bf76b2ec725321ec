"""A system as a network: backbone, attention over space, fusion over views, clinical variables, two heads."""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from inference.contract import GRADES
from training.cohort.clinical import VARIABLES
from training.members.models import FAT_SCALE, AttentionPool
from training.systems.backbones import Adapted, Back
from training.systems.configuration import System

ATTENTION: Final = 48
HEADS, LAYERS = 4, 2
BLANKED: Final = 0.15
"""How often all clinical variables, or a view beside others, are left out in training: any may be missing later."""


class Answers(NamedTuple):
    """What a system says of B studies."""

    grade_logits: Tensor
    """[B, 4]."""
    fat_fraction: Tensor
    """[B], percent."""
    view_weights: Tensor
    """[B, V]; sums to 1 over the views that are there."""


class Transformer(nn.Module):
    """Views and one summary token attend to each other; views have no positions, so their order does not matter."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.summary = nn.Parameter(torch.zeros(1, 1, width))
        layer = nn.TransformerEncoderLayer(
            width, HEADS, 2 * width, dropout, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, LAYERS, nn.LayerNorm(width), enable_nested_tensor=False)

    def forward(self, views: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Fuse views [B, V, W] of which some are present, bool [B, V]; gives [B, W] and weights [B, V]."""
        tokens = torch.cat([self.summary.expand(len(views), -1, -1), views], dim=1)
        missing = torch.cat([torch.zeros_like(present[:, :1]), ~present], dim=1)
        fused = self.layers(tokens, src_key_padding_mask=missing)
        # The encoder does not tell its weights; how like the summary a view's token came out stands in for them.
        alike = (fused[:, 1:] * fused[:, :1]).sum(dim=-1) / fused.shape[-1] ** 0.5
        return fused[:, 0], torch.softmax(alike.masked_fill(~present, float("-inf")), dim=-1)


class Grader(nn.Module):
    """Grade and fat fraction of studies with any number of views and any clinical variables missing."""

    def __init__(self, system: System, backbone: Adapted | Back, dropout: float) -> None:
        super().__init__()
        width = system.width
        self.fuses, self.uses_clinical = system.fusion, system.clinical
        self.backbone = backbone
        self.spatial = AttentionPool(backbone.channels, ATTENTION) if system.attention else None
        self.embed = nn.Linear(backbone.channels, width)
        self.dropout = nn.Dropout(dropout)
        self.fusion = AttentionPool(width, ATTENTION) if system.fusion == "attention" else None
        self.transformer = Transformer(width, dropout) if system.fusion == "transformer" else None
        self.clinical = (
            nn.Sequential(nn.Linear(2 * len(VARIABLES), 32), nn.ReLU(), nn.Dropout(dropout), nn.Linear(32, width))
            if system.clinical
            else None
        )
        self.grade = nn.Linear(width, len(GRADES))
        self.fat = nn.Linear(width, 1)

    def forward(self, views: Tensor, present: Tensor, clinical: Tensor, known: Tensor) -> Answers:
        """Score studies.

        Parameters
        ----------
        views
            [B, V, 3, H, W], or what a frozen front made of them.
        present
            bool [B, V]; at least one view of each study.
        clinical, known
            [B, K] and bool [B, K], of `training.cohort.clinical`.
        """
        present = self._fewer(present)
        return self.judge(*self.fuse(self.look(views, present), present), clinical, known)

    def look(self, views: Tensor, present: Tensor) -> Tensor:
        """Embed the views that are there, [B, V, W]; the others are 0."""
        features = self.backbone(views[present])
        pooled = features.mean(dim=(2, 3))
        if self.spatial is not None:
            pooled = self.spatial(features.flatten(2).transpose(1, 2)).mean
        embedded = self.dropout(functional.relu(self.embed(pooled)))
        placed = embedded.new_zeros(*present.shape, embedded.shape[-1])
        placed[present] = embedded
        return placed

    def fuse(self, embedded: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Return the study's embedding [B, W] and the views' weights [B, V]."""
        if self.transformer is not None:
            return self.transformer(embedded, present)
        if self.fusion is not None:
            pooled = self.fusion(embedded, present)
            return pooled.mean, pooled.weights.squeeze(-1)
        weights = present.to(embedded.dtype) / present.sum(dim=1, keepdim=True)
        return (weights.unsqueeze(-1) * embedded).sum(dim=1), weights

    def judge(self, fused: Tensor, weights: Tensor, clinical: Tensor, known: Tensor) -> Answers:
        """Read grade and fat fraction from study embeddings and clinical variables."""
        if self.clinical is not None:
            known = self._blanked(known)
            told = torch.cat([clinical * known, known.to(clinical.dtype)], dim=1)
            # Nothing known adds nothing: such a study is scored on its pictures alone.
            fused = fused + self.clinical(told) * known.any(dim=1, keepdim=True)
        return Answers(
            grade_logits=self.grade(fused),
            fat_fraction=FAT_SCALE * functional.softplus(self.fat(fused)).squeeze(-1),
            view_weights=weights,
        )

    def _fewer(self, present: Tensor) -> Tensor:
        """Leave a view out now and then, never the last one."""
        if not self.training or self.fuses == "none":
            return present
        kept = present & (torch.rand(present.shape, device=present.device) >= BLANKED)
        return torch.where(kept.any(dim=1, keepdim=True), kept, present)

    def _blanked(self, known: Tensor) -> Tensor:
        if not self.training:
            return known
        return known & (torch.rand(len(known), 1, device=known.device) >= BLANKED)
