"""What a frozen front makes of every view, made once: two CPU cores can then fit a comparison in minutes.

A front that never changes gives the same output for the same picture, in every fold, member and system. So some looks
of each view are augmented beforehand, and the front's output for them is kept; fitting draws one of them each time.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import torch

from inference.contract import CHANNELS
from training.cohort.examples import Examples
from training.frames.data import MEAN, STD
from training.members.features import front_features
from training.members.trunk import IMAGENET_MEAN, IMAGENET_STD, pretrained_trunk
from training.systems.augment import augment
from training.systems.backbones import IMAGENET
from training.systems.configuration import Experiment
from training.systems.runtime import Runtime

GREYS: Final = ("contrast", "grey")
"""The channels that the front sees of each view, each by itself: stretched, and as displayed."""


def with_fronts(experiment: Experiment, examples: Examples, looks: int, folder: Path, where: Runtime) -> Examples:
    """Return the examples with the front's output in place of views, or as they are where no front is frozen.

    Parameters
    ----------
    looks
        Augmented looks of each view beside the view itself.
    folder
        Where outputs are kept; read where an earlier run left them.

    The views given back are float16 [N, V, 1 + looks, 2 C, h, w], each view itself before its looks.
    """
    fit = experiment.fit
    if not fit.frozen_blocks:
        return examples
    digest = zlib.crc32(np.ascontiguousarray(examples.views))
    stem = f"{experiment.system.backbone}-{digest:08x}-{fit.frozen_blocks}-{looks}".replace("/", "-")
    if where.leads:
        _make(experiment, examples, looks, folder, stem)
    where.wait()
    kept = np.concatenate([np.load(folder / f"{stem}-{grey}.npy") for grey in GREYS], axis=1)
    return replace(examples, views=kept.reshape(*examples.present.shape, 1 + looks, *kept.shape[1:]))


def _make(experiment: Experiment, examples: Examples, looks: int, folder: Path, stem: str) -> None:
    """Write the front's output for every look, one file for each grey channel."""
    folder.mkdir(parents=True, exist_ok=True)
    if all((folder / f"{stem}-{grey}.done").exists() for grey in GREYS):
        return
    weights = experiment.system.weights
    trunk = pretrained_trunk(None if weights == IMAGENET else Path(weights)).eval()
    pictures = np.concatenate(list(_looks(examples.views, looks, experiment.fit.seed)))
    for grey in GREYS:
        channel = CHANNELS.index(grey)
        # Both go in as the trunk's weights know pictures; only the stretched one comes normalised so.
        shown = pictures[:, channel : channel + 1] * STD[channel] + MEAN[channel]
        shown = ((shown - IMAGENET_MEAN) / IMAGENET_STD).astype(np.float16)
        front_features(trunk, experiment.fit.frozen_blocks, shown, folder / f"{stem}-{grey}.npy", exact=True)


def _looks(views: np.ndarray, looks: int, seed: int) -> Iterator[np.ndarray]:
    """Give each study's views [V * (1 + looks), 3, S, S]: one after the other, itself and then its looks."""
    chance = torch.Generator().manual_seed(seed)
    for study in views:
        own = torch.from_numpy(study.astype(np.float32))
        made = torch.stack([own, *(augment(own, chance) for _ in range(looks))], dim=1)
        yield made.flatten(0, 1).numpy().astype(np.float16)


def has_looks(examples: Examples) -> bool:
    """Whether the views are a front's output, with several looks of each."""
    return examples.views.ndim == 6


def plain(examples: Examples) -> Examples:
    """Return the examples with each view itself, not augmented."""
    return replace(examples, views=examples.views[:, :, 0]) if has_looks(examples) else examples


def drawn(examples: Examples, rng: np.random.Generator) -> Examples:
    """Return the examples with one look of each view, drawn by chance."""
    count, views, looks = examples.views.shape[:3]
    look = rng.integers(0, looks, (count, views))
    rows, columns = np.indices((count, views))
    return replace(examples, views=examples.views[rows, columns, look])
