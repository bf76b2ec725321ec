"""Backbones: pictures [N, 3, H, W] to features [N, C, h, w]."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from inference.contract import CHANNELS as INPUTS
from training.members.trunk import CHANNELS as TRUNK_CHANNELS
from training.members.trunk import STAGES, Lite0, pretrained_trunk

TIMM: Final = "timm/"
IMAGENET: Final = "imagenet"
STAGE_CHANNELS: Final = tuple(channels for *_, channels, blocks in STAGES for _ in range(blocks))
"""Of the trunk's features behind each of its blocks."""


class Adapted(nn.Module):
    """A backbone behind a 1 × 1 convolution that brings our channels to its own.

    It starts as the stretched picture in every colour, which is what ImageNet weights know what to do with; grey values
    as displayed and the sector come in as far as learning wants them.
    """

    def __init__(self, backbone: nn.Module, colours: int, channels: int) -> None:
        super().__init__()
        self.colours = nn.Conv2d(len(INPUTS), colours, 1)
        self.backbone = backbone
        self.channels = channels
        nn.init.zeros_(self.colours.bias)
        with torch.no_grad():
            self.colours.weight.zero_()
            self.colours.weight[:, INPUTS.index("contrast")] = 1.0

    def forward(self, pictures: Tensor) -> Tensor:
        """Return the features."""
        return self.backbone(self.colours(pictures))


class Back(nn.Module):
    """The trunk behind its frozen front, for the kept output of both grey channels (`training.systems.fronts`).

    It starts from the stretched picture alone, as `Adapted` does.
    """

    def __init__(self, trunk: Lite0, frozen_blocks: int) -> None:
        super().__init__()
        front = STAGE_CHANNELS[frozen_blocks - 1]
        self.mix = nn.Conv2d(2 * front, front, 1, bias=False)
        self.blocks = nn.Sequential(*trunk._blocks[frozen_blocks:])
        self.channels = TRUNK_CHANNELS
        with torch.no_grad():
            self.mix.weight.zero_()
            self.mix.weight[:, :front, 0, 0] = torch.eye(front)

    def forward(self, features: Tensor) -> Tensor:
        """Return the trunk's features."""
        seen: Tensor = self.blocks(self.mix(features))
        return seen


class _Features(nn.Module):
    """A timm model up to its last feature map."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pictures: Tensor) -> Tensor:
        return self.model.forward_features(pictures)


def small_cnn() -> nn.Sequential:
    """Return five convolutions from nothing: what a baseline is."""
    layers: list[nn.Module] = []
    inputs = 1
    for channels in (16, 32, 64, 96, 128):
        layers += [nn.Conv2d(inputs, channels, 3, 2, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
        inputs = channels
    return nn.Sequential(*layers)


def build(name: str, weights: str = "", frozen_blocks: int = 0) -> Adapted | Back:
    """Return a backbone with weights.

    Parameters
    ----------
    name
        `small`, `lite0` (EfficientNet-Lite0 to stride 16), or `timm/` and a model of timm with a feature map.
    weights
        `imagenet`, a file, or empty.
    frozen_blocks
        Of `lite0` with weights: the first blocks, which are left out here because their output is kept.

    Raises
    ------
    ValueError
        The name is unknown, weights cannot be had, or timm is not installed.
    """
    if frozen_blocks and (name != "lite0" or not weights):
        raise ValueError(f"frozen_blocks is for lite0 with weights, not for {name!r} with weights {weights!r}.")
    if name == "small":
        if weights:
            raise ValueError("The small CNN starts from nothing; leave weights empty.")
        return Adapted(small_cnn(), 1, 128)
    if name == "lite0":
        trunk = pretrained_trunk(None if weights == IMAGENET else Path(weights)) if weights else Lite0()
        return Back(trunk, frozen_blocks) if frozen_blocks else Adapted(trunk, 1, TRUNK_CHANNELS)
    if name.startswith(TIMM):
        model = _timm_model(name.removeprefix(TIMM), weights)
        return Adapted(_Features(model), 3, int(model.num_features))
    raise ValueError(f"There is no backbone {name!r}; use small, lite0, or {TIMM}NAME.")


def to_fill(name: str, frozen_blocks: int = 0) -> Adapted | Back:
    """Return a backbone of random weights, for a state that was fitted; ImageNet's need not be had again."""
    return Back(Lite0(), frozen_blocks) if frozen_blocks else build(name)


def _timm_model(name: str, weights: str) -> Any:
    try:
        import timm
    except ImportError as error:
        raise ValueError(f"Backbone {name!r} needs timm: pip install 'steatosis-agent[training]'.") from error
    if name not in timm.list_models():
        raise ValueError(f"timm has no model {name!r}; timm.list_models() says which there are.")
    if weights and weights != IMAGENET and not Path(weights).is_file():
        raise ValueError(f"There is no file of weights {weights!r}.")
    file = {} if weights in ("", IMAGENET) else {"pretrained_cfg_overlay": {"file": weights}}
    try:
        return timm.create_model(name, pretrained=bool(weights), num_classes=0, global_pool="", **file)
    except (OSError, RuntimeError) as error:
        raise ValueError(
            f'The ImageNet weights of {name!r} cannot be fetched ({error}); give weights = "PATH" of a file.'
        ) from error
