"""A member: trunk, spatial attention, view attention, heads, and the Grad-CAM maps in the same graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from inference.contract import GRADES, VIEWS
from training.members.profile import FIGURES, depth_profile
from training.members.trunk import Lite0, Trunk

FAT_SCALE: Final = 10.0
"""Percent of fat fraction per unit of the head's output."""
LEFT_OUT: Final = 0.25
"""How often a view is learnt without its texture, and how often without its depth profile."""
MOST_VIEWS: Final = len(VIEWS)
"""More views than members are fitted with make them no surer."""
_CLAIMED: Final = torch.tensor([[1.0, 0, 0, 0], [0, 1, 1, 1], [0, 0, 1, 1], [0, 0, 0, 1]])
"""[told, grade], 1 where the grade is part of what is claimed: S0 alone, else the grade told or more."""
_NEVER: Final = -1e4
"""Added to a logit, leaves its grade out of a softmax in any precision."""


class Outputs(NamedTuple):
    """Outputs of one study, in the order and the shapes of `inference.contract.OUTPUTS`."""

    grade_logits: Tensor
    fat_fraction: Tensor
    view_weights: Tensor
    saliency: Tensor
    view_grade_logits: Tensor
    view_logits: Tensor
    liver_logit: Tensor


class Lesson(NamedTuple):
    """Outputs of a batch of S studies with N views together, of E edited frames, and of M frames more, for fitting."""

    grade_logits: Tensor
    """[S, 4]."""
    fat_fraction: Tensor
    """[S]."""
    view_grade_logits: Tensor
    """[N, 4]."""
    view_fat_fraction: Tensor
    """[N]."""
    view_logits: Tensor
    """[N, 4]."""
    liver_logit: Tensor
    """[N + E + M]."""
    edit_grade_logits: Tensor
    """[E, 4]."""
    edit_fat_fraction: Tensor
    """[E]."""


@dataclass(frozen=True)
class Pooled:
    """What attention pooling gave, and what its gradient needs again."""

    items: Tensor
    hidden: Tensor
    weights: Tensor
    mean: Tensor


class AttentionPool(nn.Module):
    """Weighted mean of a set, weights by a small network (Ilse et al. 2018): order does not matter, any size does."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.look = nn.Linear(channels, hidden)
        self.judge = nn.Linear(hidden, 1, bias=False)

    def forward(self, items: Tensor, present: Tensor | None = None) -> Pooled:
        """Pool items [..., N, C] into [..., C]; those not present, bool [..., N], have no weight."""
        hidden = torch.tanh(self.look(items))
        scores = self.judge(hidden)
        if present is not None:
            scores = scores.masked_fill(~present.unsqueeze(-1), float("-inf"))
        weights = torch.softmax(scores, dim=-2)
        return Pooled(items, hidden, weights, (weights * items).sum(dim=-2))

    def gradient(self, pooled: Pooled, upstream: Tensor) -> Tensor:
        """Carry gradients [..., G, C] with respect to the mean back to the items, [..., N, G, C]."""
        gain = _gain(pooled, upstream).transpose(-1, -2).unsqueeze(-1)
        through = (self._through(pooled) @ self.look.weight).unsqueeze(-2)
        return pooled.weights.unsqueeze(-1) * (upstream.unsqueeze(-3) + gain * through)

    def mean_gradient(self, pooled: Pooled, upstream: Tensor) -> Tensor:
        """Return what `gradient` gives, averaged over the items, [..., G, C]: a fraction of the work."""
        through = _gain(pooled, upstream) @ (pooled.weights * self._through(pooled))
        return (upstream + through @ self.look.weight) / pooled.items.shape[-2]

    def _through(self, pooled: Pooled) -> Tensor:
        return (1.0 - pooled.hidden**2) * self.judge.weight


def _gain(pooled: Pooled, upstream: Tensor) -> Tensor:
    """Return how far the mean moves along gradients [..., G, C] when an item weighs more, [..., G, N]."""
    return upstream @ (pooled.items - pooled.mean.unsqueeze(-2)).transpose(-1, -2)


class Member(nn.Module):
    """One member of the ensemble.

    Each view's features are pooled over space and embedded together with its depth profile, and the views' embeddings
    pooled over views; grade and fat fraction are read from the pooled embedding. A view alone is the same path with one
    view, so views scored alone and studies share one head.
    """

    def __init__(
        self, trunk: Trunk | None = None, *, width: int = 128, attention: int = 48, dropout: float = 0.2
    ) -> None:
        super().__init__()
        self.trunk = Lite0() if trunk is None else trunk
        channels = self.trunk.channels
        self.spatial = AttentionPool(channels, attention)
        self.embed = nn.Linear(channels, width)
        self.profile = nn.Sequential(
            nn.BatchNorm1d(FIGURES), nn.Linear(FIGURES, attention), nn.ReLU(), nn.Linear(attention, width)
        )
        self.dropout = nn.Dropout(dropout)
        self.fusion = AttentionPool(width, attention)
        self.grade = nn.Linear(width, len(GRADES))
        self.surer = nn.Parameter(torch.tensor(0.3))
        self.fat = nn.Linear(width, 1)
        self.view = nn.Linear(channels, len(VIEWS))
        self.liver = nn.Linear(channels, 1)

    def look(self, views: Tensor) -> tuple[Tensor, Pooled]:
        """Return features [V, C, h, w] of views [V, 3, H, W] and their pooling over space."""
        features = self.trunk(views[:, :1])
        return features, self.spatial(features.flatten(2).transpose(1, 2))

    def learn(self, features: Tensor, profiles: Tensor, counts: list[int]) -> Lesson:
        """Score a batch of studies from trunk features [N + E + M, C, h, w].

        Parameters
        ----------
        features
            Of all views of all studies, one study after the other, behind them edited frames, then frames of no study.
        profiles
            Depth profiles [N + E, FIGURES] of views and edited frames.
        counts
            Number of views of each study.
        """
        seen = self.spatial(features.flatten(2).transpose(1, 2)).mean
        views = sum(counts)
        look, tell = self._either(self.embed(seen[: len(profiles)]), self.profile(profiles))
        embedding = self.dropout(functional.relu(look + tell))
        fused = torch.stack([self.fusion(study).mean for study in embedding[:views].split(counts)])
        return Lesson(
            grade_logits=self.grade(fused) * self.certainty(torch.tensor(counts).to(fused)).unsqueeze(-1),
            fat_fraction=self.fat_fraction(fused),
            view_grade_logits=self.grade(embedding[:views]),
            view_fat_fraction=self.fat_fraction(embedding[:views]),
            view_logits=self.view(seen[:views]),
            liver_logit=self.liver(seen).squeeze(-1),
            edit_grade_logits=self.grade(embedding[views:]),
            edit_fat_fraction=self.fat_fraction(embedding[views:]),
        )

    def _either(self, look: Tensor, tell: Tensor) -> tuple[Tensor, Tensor]:
        """Leave out one of the two sources now and then, so that neither leans on the other (modality dropout)."""
        if not self.training:
            return look, tell
        draw = torch.rand(len(look), 1, device=look.device)
        return look * (draw >= LEFT_OUT), tell * (draw < 1.0 - LEFT_OUT)

    def fat_fraction(self, embedding: Tensor) -> Tensor:
        """Return the fat fraction in percent, never negative, from embeddings [..., width]."""
        return FAT_SCALE * functional.softplus(self.fat(embedding)).squeeze(-1)

    def forward(self, views: Tensor) -> Outputs:
        """Score one study of views [V, 3, H, W]."""
        features, seen = self.look(views)
        before = self.embed(seen.mean) + self.profile(depth_profile(views))
        embedding = self.dropout(functional.relu(before))
        fused = self.fusion(embedding)
        certainty = self.certainty(torch.ones_like(fused.weights).sum())
        logits = self.grade(fused.mean) * certainty
        return Outputs(
            grade_logits=logits,
            fat_fraction=self.fat_fraction(fused.mean).reshape(1),
            view_weights=fused.weights.squeeze(-1),
            saliency=self.saliency(features, seen, before, fused, logits) * certainty,
            view_grade_logits=self.grade(embedding),
            view_logits=self.view(seen.mean),
            liver_logit=self.liver(seen.mean).squeeze(-1),
        )

    def certainty(self, views: Tensor) -> Tensor:
        """Return the factor on the logits of studies of so many views: 1 for one view, never less.

        A weighted mean of embeddings does not say how many there were; without this a study of one view would be as
        sure of its grade as one of four.
        """
        return 1.0 + self.surer**2 * torch.log(torch.clamp(views, max=float(MOST_VIEWS)))

    def saliency(self, features: Tensor, seen: Pooled, before: Tensor, fused: Pooled, logits: Tensor) -> Tensor:
        """Return Grad-CAM (Selvaraju et al. 2017) of the evidence for each grade, [V, 4, h, w], by the head's gradient.

        The evidence for S1 to S3 is the log-odds of that grade or more, since a grade in the middle is told as much by
        what lies above it as by itself; for S0 it is the log-odds against steatosis. Which grade is told is for the
        whole ensemble to say, so each has its map. Only the head lies between evidence and features, so its gradient is
        written out here, a row for each grade, and goes into the exported graph; tests hold it against autograd.
        """
        upstream = evidence_gradient(logits) @ self.grade.weight
        to_embedding = self.fusion.gradient(fused, upstream) * (before > 0).unsqueeze(-2)
        channel_weights = self.spatial.mean_gradient(seen, to_embedding @ self.embed.weight)
        return functional.relu(channel_weights @ features.flatten(2)).unflatten(-1, features.shape[2:])


def steatosis_evidence(grade_logits: Tensor) -> Tensor:
    """Return the log-odds of S1 or more from grade logits [..., 4]."""
    return torch.logsumexp(grade_logits[..., 1:], dim=-1) - grade_logits[..., 0]


def evidence_gradient(logits: Tensor) -> Tensor:
    """Return the gradient of each grade's evidence, a row for each, with respect to logits [4]: [4, 4]."""
    return torch.softmax(logits + _NEVER * (1.0 - _CLAIMED), dim=-1) - torch.softmax(logits + _NEVER * _CLAIMED, dim=-1)
