"""What a member takes, and boxes in pixels."""

from __future__ import annotations

from dataclasses import dataclass

Box = tuple[int, int, int, int]
"""x0, y0, x1, y1 in pixels, the end excluded."""


@dataclass(frozen=True, kw_only=True)
class InputGeometry:
    """What a member takes: channels, height and width in pixels, and the normalisation of a channel."""

    channels: int
    height: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
