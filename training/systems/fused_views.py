"""Fusing the views of one study so that the gradient can be carried back, as Grad-CAM in the graph needs.

`training.systems.grader` fuses batches while fitting; here is the same for one study, with the gradient of each kind of
fusion. Serving has no autograd, so it is part of what is exported; tests hold it against torch's own.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.members.models import AttentionPool, Pooled
from training.systems.grader import HEADS, Grader, Transformer


class Fused(NamedTuple):
    """A study's embedding, its views' weights, and what the gradient needs again."""

    mean: Tensor
    """[..., W]."""
    weights: Tensor
    """[..., V]; 0 for views that do not count."""
    kept: object


class Fusion(nn.Module, ABC):
    """Views' embeddings [..., V, W] to one, of those that count, bool [V]."""

    @abstractmethod
    def forward(self, embedded: Tensor, counted: Tensor) -> Fused:
        """Fuse."""

    @abstractmethod
    def gradient(self, fused: Fused, upstream: Tensor) -> Tensor:
        """Carry gradients [G, W] with respect to one study's embedding back to its views, [V, G, W]."""


class Mean(Fusion):
    """The mean of those that count."""

    def forward(self, embedded: Tensor, counted: Tensor) -> Fused:
        """Fuse."""
        weights = counted.to(embedded.dtype) / counted.to(embedded.dtype).sum()
        weights = weights.expand(embedded.shape[:-1])
        return Fused((weights.unsqueeze(-1) * embedded).sum(dim=-2), weights, None)

    def gradient(self, fused: Fused, upstream: Tensor) -> Tensor:
        """Carry back."""
        return fused.weights[:, None, None] * upstream


class Attended(Fusion):
    """Attention pooling."""

    def __init__(self, pool: AttentionPool) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, embedded: Tensor, counted: Tensor) -> Fused:
        """Fuse."""
        pooled = self.pool(embedded, counted)
        return Fused(pooled.mean, pooled.weights.squeeze(-1), pooled)

    def gradient(self, fused: Fused, upstream: Tensor) -> Tensor:
        """Carry back."""
        return self.pool.gradient(cast(Pooled, fused.kept), upstream)


class _Normal(NamedTuple):
    """Tokens after layer normalisation, before its own scale, and what they were divided by."""

    tokens: Tensor
    inverse: Tensor


class _Layer(NamedTuple):
    """What the gradient of one layer of the encoder needs again."""

    first: _Normal
    queries: Tensor
    keys: Tensor
    values: Tensor
    attention: Tensor
    second: _Normal
    hidden: Tensor


class Encoded(Fusion):
    """The transformer: its own weights, each step written out."""

    def __init__(self, transformer: Transformer) -> None:
        super().__init__()
        self.summary = transformer.summary
        self.layers = transformer.layers.layers
        self.last = cast(nn.LayerNorm, transformer.layers.norm)

    def forward(self, embedded: Tensor, counted: Tensor) -> Fused:
        """Fuse."""
        summary = self.summary[0].expand(*embedded.shape[:-2], -1, -1)
        tokens = torch.cat([summary, embedded], dim=-2)
        seen = torch.cat([torch.ones_like(counted[:1]), counted])
        kept = []
        for layer in self.layers:
            tokens, own = _through(layer, tokens, seen)
            kept.append(own)
        normal = _normal(tokens, self.last)
        tokens = _scaled(normal, self.last)
        alike = (tokens[..., 1:, :] * tokens[..., :1, :]).sum(dim=-1) / tokens.shape[-1] ** 0.5
        weights = torch.softmax(alike.masked_fill(~counted, float("-inf")), dim=-1)
        return Fused(tokens[..., 0, :], weights, (kept, normal))

    def gradient(self, fused: Fused, upstream: Tensor) -> Tensor:
        """Carry back."""
        kept, normal = cast(tuple[list[_Layer], _Normal], fused.kept)
        others = upstream.unsqueeze(-2) * torch.zeros_like(normal.tokens[1:]).unsqueeze(0)  # of views: [G, V, W]
        gradient = torch.cat([upstream.unsqueeze(-2), others], dim=-2)
        gradient = _normal_gradient(normal, self.last, gradient)
        for layer, own in zip(reversed(list(self.layers)), reversed(kept), strict=True):
            gradient = _back_through(layer, own, gradient)
        return gradient[:, 1:].transpose(0, 1)


def _normal(tokens: Tensor, norm: nn.LayerNorm) -> _Normal:
    centred = tokens - tokens.mean(dim=-1, keepdim=True)
    inverse = torch.rsqrt((centred * centred).mean(dim=-1, keepdim=True) + norm.eps)
    return _Normal(centred * inverse, inverse)


def _scaled(normal: _Normal, norm: nn.LayerNorm) -> Tensor:
    return normal.tokens * norm.weight + norm.bias


def _normal_gradient(normal: _Normal, norm: nn.LayerNorm, upstream: Tensor) -> Tensor:
    own = upstream * norm.weight
    along = (own * normal.tokens).mean(dim=-1, keepdim=True)
    return normal.inverse * (own - own.mean(dim=-1, keepdim=True) - normal.tokens * along)


def _heads(tokens: Tensor) -> Tensor:
    """[..., T, W] to [..., heads, T, W / heads]."""
    return tokens.unflatten(-1, (HEADS, tokens.shape[-1] // HEADS)).transpose(-2, -3)


def _joined(heads: Tensor) -> Tensor:
    return heads.transpose(-2, -3).flatten(-2)


def _through(layer: nn.Module, tokens: Tensor, seen: Tensor) -> tuple[Tensor, _Layer]:
    """Return what a layer of the encoder (normalisation first, GELU) makes of tokens, and what its gradient needs."""
    one = cast(nn.TransformerEncoderLayer, layer)
    attend = one.self_attn
    first = _normal(tokens, one.norm1)
    looked = functional.linear(_scaled(first, one.norm1), attend.in_proj_weight, attend.in_proj_bias)
    queries, keys, values = (_heads(part) for part in looked.chunk(3, dim=-1))
    scores = queries @ keys.transpose(-1, -2) / math.sqrt(queries.shape[-1])
    attention = torch.softmax(scores.masked_fill(~seen, float("-inf")), dim=-1)
    tokens = tokens + attend.out_proj(_joined(attention @ values))
    second = _normal(tokens, one.norm2)
    hidden = one.linear1(_scaled(second, one.norm2))
    tokens = tokens + one.linear2(functional.gelu(hidden))
    return tokens, _Layer(first, queries, keys, values, attention, second, hidden)


def _back_through(layer: nn.Module, kept: _Layer, upstream: Tensor) -> Tensor:
    """Carry gradients [G, T, W] back through a layer."""
    one = cast(nn.TransformerEncoderLayer, layer)
    attend = one.self_attn
    of_hidden = (upstream @ one.linear2.weight) * _gelu_gradient(kept.hidden)
    upstream = upstream + _normal_gradient(kept.second, one.norm2, of_hidden @ one.linear1.weight)
    of_heads = _heads(upstream @ attend.out_proj.weight)
    of_values = kept.attention.transpose(-1, -2) @ of_heads
    of_attention = of_heads @ kept.values.transpose(-1, -2)
    of_scores = kept.attention * (of_attention - (of_attention * kept.attention).sum(dim=-1, keepdim=True))
    of_scores = of_scores / math.sqrt(kept.queries.shape[-1])
    parts = (of_scores @ kept.keys, of_scores.transpose(-1, -2) @ kept.queries, of_values)
    looked = torch.cat([_joined(part) for part in parts], dim=-1)
    return upstream + _normal_gradient(kept.first, one.norm1, looked @ attend.in_proj_weight)


def _gelu_gradient(values: Tensor) -> Tensor:
    normal = torch.exp(-0.5 * values * values) / math.sqrt(2.0 * math.pi)
    return 0.5 * (1.0 + torch.erf(values / math.sqrt(2.0))) + values * normal


def fusion_of(grader: Grader) -> Fusion:
    """Return the fusion of a fitted system."""
    if grader.transformer is not None:
        return Encoded(grader.transformer)
    return Mean() if grader.fusion is None else Attended(grader.fusion)
