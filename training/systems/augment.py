"""Augmentation of prepared views as tensors, on whatever device they are: as scanners and operators vary.

Random rotation, speckle and contrast are those of the published work; gain, depth attenuation, shadow, haze and crop
are how one patient looks on another scanner. All act on grey values before normalisation, alike in both grey channels.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from inference.contract import CHANNELS
from training.frames.data import MEAN, STD

_CONTRAST, _GREY, _SECTOR = (CHANNELS.index(name) for name in ("contrast", "grey", "sector"))
_BRIGHTEST: Final = 1.2
"""As in `inference.preprocess`."""
ROTATION: Final = math.radians(12.0)
ZOOM: Final = (0.85, 1.08)
SHIFT: Final = 0.06


def augment(views: Tensor, generator: torch.Generator) -> Tensor:
    """Return views [N, 3, H, W], each changed in its own way; the generator is of the CPU, so seeds hold anywhere."""
    moved = _moved(views, generator)
    sector = moved[:, _SECTOR : _SECTOR + 1]
    mean, std = (torch.tensor(part, device=views.device).view(1, -1, 1, 1) for part in (MEAN, STD))
    grey = (moved * std + mean)[:, [_CONTRAST, _GREY]]
    grey = _looked_at(grey, generator) * sector
    changed = torch.cat([grey, sector], dim=1)
    return (changed - mean) / std


def _uniform(count: int, low: float, high: float, generator: torch.Generator, like: Tensor) -> Tensor:
    return (low + (high - low) * torch.rand(count, 1, 1, 1, generator=generator)).to(like)


def _moved(views: Tensor, generator: torch.Generator) -> Tensor:
    """Rotate, zoom, shift and mirror; what comes in from outside is the padding that preparing gives."""
    count = len(views)
    angle = _uniform(count, -ROTATION, ROTATION, generator, views).flatten()
    zoom = _uniform(count, *ZOOM, generator, views).flatten()
    mirrored = 1.0 - 2.0 * (_uniform(count, 0.0, 1.0, generator, views).flatten() < 0.5).to(views)
    shift = torch.stack([_uniform(count, -SHIFT, SHIFT, generator, views).flatten() for _ in range(2)], dim=1)
    cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    turn = torch.stack([torch.stack([cos * mirrored, -sin], dim=1), torch.stack([sin * mirrored, cos], dim=1)], dim=1)
    grid = functional.affine_grid(torch.cat([turn, shift.unsqueeze(-1)], dim=2), list(views.shape), align_corners=False)
    padding = (torch.tensor([-m / s for m, s in zip(MEAN, STD, strict=True)], device=views.device)).view(1, -1, 1, 1)
    return functional.grid_sample(views - padding, grid.to(views.dtype), align_corners=False) + padding


def _looked_at(grey: Tensor, generator: torch.Generator) -> Tensor:
    """Change gain, contrast, attenuation, speckle, shadow and haze of grey values [N, 2, H, W]."""
    count, _, rows, columns = grey.shape
    down = torch.linspace(0.0, 1.0, rows, device=grey.device, dtype=grey.dtype).view(1, 1, -1, 1)
    across = torch.linspace(-1.0, 1.0, columns, device=grey.device, dtype=grey.dtype).view(1, 1, 1, -1)
    gamma = _uniform(count, 0.85, 1.2, generator, grey)
    gain = _uniform(count, -0.05, 0.05, generator, grey)
    attenuation = _uniform(count, -0.06, 0.06, generator, grey)
    changed = grey.clamp(min=1e-4) ** gamma * _uniform(count, 0.88, 1.12, generator, grey)
    changed = changed + gain + attenuation * (0.5 - down)
    fine = torch.randn(count, 1, rows, columns, generator=generator).to(grey)
    coarse = functional.avg_pool2d(torch.randn(count, 1, rows, columns, generator=generator).to(grey), 3, 1, 1) * 3.0
    changed = changed * (1.0 + _uniform(count, 0.0, 0.12, generator, grey) * (0.5 * fine + 0.5 * coarse))
    where = _uniform(count, -0.9, 0.9, generator, grey)
    width = _uniform(count, 0.04, 0.15, generator, grey)
    depth = _uniform(count, 0.0, 0.5, generator, grey) * (_uniform(count, 0.0, 1.0, generator, grey) < 0.3)
    changed = changed * (1.0 - depth * torch.exp(-0.5 * ((across - where) / width) ** 2))
    haze = _uniform(count, 0.0, 0.2, generator, grey) * (_uniform(count, 0.0, 1.0, generator, grey) < 0.3)
    changed = changed + haze * torch.exp(-(down / 0.2))
    return changed.clamp(0.0, _BRIGHTEST)
