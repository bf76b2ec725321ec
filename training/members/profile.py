"""How bright a view is at each depth: the oldest sign of a fatty liver, kept where convolutions may lose it.

Mean brightness and its fall over depth carry over between scanners better than texture does. They are computed from the
grey values as displayed, in the graph, so that serving and training cannot differ.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from inference.contract import CHANNELS

DEPTHS: Final = 10
"""Steps of depth from the skin to the sector's lowest point."""
MIDDLE: Final = 0.22
"""Width of the column of lines that is looked at, as a share of the picture: sides are shadowed and cut most often."""
FIGURES: Final = 3 * DEPTHS + 2
_GREY, _SECTOR = CHANNELS.index("grey"), CHANNELS.index("sector")


def depth_profile(views: Tensor) -> Tensor:
    """Return [V, FIGURES] of views [V, 3, H, W]: mean and spread at each depth, its coverage, and of the whole sector.

    Depth is counted in the sector's own height, since centimetres are seldom known.
    """
    grey = views[:, _GREY]
    inside = (views[:, _SECTOR] > 0.5).to(grey.dtype)
    rows = inside.amax(dim=2)
    depth = torch.cumsum(rows, dim=1) / rows.sum(dim=1, keepdim=True).clamp(min=1.0) * DEPTHS
    centres = torch.arange(DEPTHS, dtype=grey.dtype) + 0.5
    at = torch.relu(1.0 - (depth[:, None, :] - centres[None, :, None]).abs()) * rows[:, None, :]
    across = torch.linspace(-0.5, 0.5, grey.shape[2], dtype=grey.dtype)
    looked_at = inside * torch.exp(-0.5 * (across / MIDDLE) ** 2)
    weight = torch.einsum("vdh,vhw->vd", at, looked_at)
    total = weight.clamp(min=1e-3)
    mean = torch.einsum("vdh,vhw->vd", at, looked_at * grey) / total
    square = torch.einsum("vdh,vhw->vd", at, looked_at * grey * grey) / total
    spread = torch.sqrt((square - mean * mean).clamp(min=1e-6))
    coverage = weight / total
    count = inside.sum(dim=(1, 2)).clamp(min=1.0)
    whole = (grey * inside).sum(dim=(1, 2)) / count
    whole_square = (grey * grey * inside).sum(dim=(1, 2)) / count
    whole_spread = torch.sqrt((whole_square - whole * whole).clamp(min=1e-6))
    return torch.cat([mean, spread, coverage, whole[:, None], whole_spread[:, None]], dim=1)
