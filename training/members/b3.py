"""EfficientNet-B3, whole, as timm's `tf_efficientnet_b3` has it, with its weights folded to one grey channel.

Names, padding ("same", as TensorFlow's) and epsilons are that model's, so its state loads as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.members.trunk import IMAGENET_MEAN, IMAGENET_STD, SameConv2d, Trunk, batch_norm, read_weights

STEM_CHANNELS: Final = 40
STAGES: Final = (
    (1, 3, 1, 24, 2),
    (6, 3, 2, 32, 3),
    (6, 5, 2, 48, 3),
    (6, 3, 2, 96, 5),
    (6, 5, 1, 136, 5),
    (6, 5, 2, 232, 6),
    (6, 3, 1, 384, 2),
)
"""(expansion, kernel, stride, channels, blocks) of EfficientNet-B0 (Tan & Le 2019, Table 1), 1.2 times as wide and 1.4
times as deep."""
CHANNELS: Final = 1536
TIMM_NAME: Final = "tf_efficientnet_b3.in1k"
COLOUR_MEAN: Final = (0.485, 0.456, 0.406)
COLOUR_STD: Final = (0.229, 0.224, 0.225)
"""Input normalisation of timm's weights of that name."""
_LEFT_OUT: Final = "classifier."


class SqueezeExcite(nn.Module):
    """Scale each channel by what all of them say on average."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.conv_reduce = nn.Conv2d(channels, squeezed, 1)
        self.conv_expand = nn.Conv2d(squeezed, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Return the features, scaled."""
        gate = self.conv_reduce(features.mean(dim=(2, 3), keepdim=True))
        return features * torch.sigmoid(self.conv_expand(functional.silu(gate)))


class FirstBlock(nn.Module):
    """Filter each channel by itself, squeeze and excite, project; with a shortcut where shapes allow."""

    FOLDS: Final = (("conv_dw", "bn1"), ("conv_pw", "bn2"))

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv_dw = SameConv2d(inputs, inputs, kernel, stride, groups=inputs, bias=False)
        self.bn1 = batch_norm(inputs)
        self.se = SqueezeExcite(inputs, inputs // 4)
        self.conv_pw = SameConv2d(inputs, outputs, 1, bias=False)
        self.bn2 = batch_norm(outputs)
        self.has_shortcut = stride == 1 and inputs == outputs

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the block's channels and stride."""
        hidden = self.se(functional.silu(self.bn1(self.conv_dw(features))))
        hidden = self.bn2(self.conv_pw(hidden))
        return hidden + features if self.has_shortcut else hidden


class Block(nn.Module):
    """Expand, filter each channel by itself, squeeze and excite, project; with a shortcut where shapes allow."""

    FOLDS: Final = (("conv_pw", "bn1"), ("conv_dw", "bn2"), ("conv_pwl", "bn3"))

    def __init__(self, inputs: int, outputs: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        middle = inputs * expansion
        self.conv_pw = SameConv2d(inputs, middle, 1, bias=False)
        self.bn1 = batch_norm(middle)
        self.conv_dw = SameConv2d(middle, middle, kernel, stride, groups=middle, bias=False)
        self.bn2 = batch_norm(middle)
        self.se = SqueezeExcite(middle, inputs // 4)
        self.conv_pwl = SameConv2d(middle, outputs, 1, bias=False)
        self.bn3 = batch_norm(outputs)
        self.has_shortcut = stride == 1 and inputs == outputs

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the block's channels and stride."""
        hidden = functional.silu(self.bn1(self.conv_pw(features)))
        hidden = self.se(functional.silu(self.bn2(self.conv_dw(hidden))))
        hidden = self.bn3(self.conv_pwl(hidden))
        return hidden + features if self.has_shortcut else hidden


class B3(Trunk):
    """EfficientNet-B3, [N, 1536, H / 32, W / 32]; 300² gives 10²."""

    title = "EfficientNet-B3"
    channels = CHANNELS
    stride = 32

    def __init__(self) -> None:
        super().__init__()
        self.conv_stem = SameConv2d(1, STEM_CHANNELS, 3, 2, bias=False)
        self.bn1 = batch_norm(STEM_CHANNELS)
        stages, inputs = [], STEM_CHANNELS
        for expansion, kernel, stride, channels, repeats in STAGES:
            stage: list[nn.Module] = []
            for repeat in range(repeats):
                step = stride if repeat == 0 else 1
                stage.append(
                    FirstBlock(inputs, channels, kernel, step)
                    if expansion == 1
                    else Block(inputs, channels, expansion, kernel, step)
                )
                inputs = channels
            stages.append(nn.Sequential(*stage))
        self.blocks = nn.Sequential(*stages)
        self.conv_head = SameConv2d(inputs, CHANNELS, 1, bias=False)
        self.bn2 = batch_norm(CHANNELS)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                _draw(module)

    def stem_modules(self) -> list[nn.Module]:
        """Return the modules that `stem` uses."""
        return [self.conv_stem, self.bn1]

    def stem(self, pictures: Tensor) -> Tensor:
        """Return what comes before the first block."""
        return functional.silu(self.bn1(self.conv_stem(pictures)))

    def blocks_in_order(self) -> list[nn.Module]:
        """Return the blocks of all stages."""
        return [block for stage in self.blocks for block in stage.children()]

    def top_modules(self) -> list[nn.Module]:
        """Return the modules that `top` uses."""
        return [self.conv_head, self.bn2]

    def top(self, features: Tensor) -> Tensor:
        """Return the trunk's features from those of its last block."""
        return functional.silu(self.bn2(self.conv_head(features)))

    def folds(self) -> Iterator[tuple[nn.Module, str, str]]:
        """Give (module, convolution, batch normalisation), by attribute, where one follows the other."""
        yield self, "conv_stem", "bn1"
        for block in self.blocks_in_order():
            yield from ((block, *pair) for pair in type(block).FOLDS)  # type: ignore[attr-defined]
        yield self, "conv_head", "bn2"


def _draw(convolution: nn.Conv2d) -> None:
    """Draw weights as EfficientNets start: torch's own draws fade through so many layers."""
    height, width = convolution.kernel_size
    ways = height * width * convolution.out_channels // convolution.groups
    nn.init.normal_(convolution.weight, std=(2.0 / ways) ** 0.5)
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)


def pretrained_b3(path: Path | None = None) -> B3:
    """Return an EfficientNet-B3 trunk with ImageNet weights.

    Parameters
    ----------
    path
        A state of timm's `tf_efficientnet_b3`, made for `COLOUR_MEAN` and `COLOUR_STD`; None asks timm for one.

    Raises
    ------
    ValueError
        The weights cannot be had, or lack one of the trunk; the message says what to do.
    """
    if path is None:
        state, mean, std = _from_timm()
    else:
        state, mean, std = read_weights(path), COLOUR_MEAN, COLOUR_STD
    return b3_of(state, mean, std)


def b3_of(state: Mapping[str, Tensor], mean: Sequence[float] = COLOUR_MEAN, std: Sequence[float] = COLOUR_STD) -> B3:
    """Return a trunk with a state of timm's `tf_efficientnet_b3`, made for colours of that mean and spread.

    A grey picture in our normalisation is each colour's in its own but for a factor and an offset. The factor goes into
    the stem's weights, the offset into its batch statistics, so all is as it was, but that the padding is our mean.

    Raises
    ------
    ValueError
        The state lacks a weight, or is that of another model.
    """
    trunk = B3()
    own = trunk.state_dict()
    kept = {name: value for name, value in state.items() if not name.startswith(_LEFT_OUT)}
    lacking = [name for name in own if name not in kept and not name.endswith("num_batches_tracked")]
    unknown = [name for name in kept if name not in own]
    if lacking or unknown:
        raise ValueError(f"These are not the weights of timm's tf_efficientnet_b3: {(lacking or unknown)[0]!r}.")
    spread = torch.tensor(std).reshape(1, -1, 1, 1)
    offset = (IMAGENET_MEAN - torch.tensor(mean).reshape(1, -1, 1, 1)) / spread
    stem = kept["conv_stem.weight"]
    kept["conv_stem.weight"] = (stem * (IMAGENET_STD / spread)).sum(dim=1, keepdim=True)
    kept["bn1.running_mean"] = kept["bn1.running_mean"] - (stem * offset).sum(dim=(1, 2, 3))
    try:
        trunk.load_state_dict({**own, **kept})
    except RuntimeError as error:  # a shape
        raise ValueError(f"These are not the weights of timm's tf_efficientnet_b3: {error}.") from error
    return trunk


def _from_timm() -> tuple[dict[str, Tensor], Sequence[float], Sequence[float]]:
    """Return the state, and the mean and spread of colours that it was made for."""
    told = 'give weights = "PATH" of a file with its state instead'
    try:
        import timm
    except ImportError as error:
        raise ValueError(
            f"EfficientNet-B3's ImageNet weights come through timm: pip install 'steatosis-agent[training]', or {told}."
        ) from error
    try:
        model: Any = timm.create_model(TIMM_NAME, pretrained=True)
    except (OSError, RuntimeError) as error:
        raise ValueError(f"The weights {TIMM_NAME} cannot be fetched ({error}); {told}.") from error
    return model.state_dict(), model.pretrained_cfg["mean"], model.pretrained_cfg["std"]
