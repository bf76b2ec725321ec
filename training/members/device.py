"""Where members are fitted: on the CPU in float32, or on a GPU with its trunk in bfloat16."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from typing import Final

import torch

DEVICES: Final = ("cpu", "cuda", "auto")


def device_of(name: str) -> torch.device:
    """Return the device of that name; `auto` is a GPU where there is one.

    Raises
    ------
    ValueError
        The name is unknown, or there is no GPU.
    """
    if name not in DEVICES:
        raise ValueError(f"There is no device {name!r}; use {', '.join(DEVICES)}.")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("torch finds no GPU; set device to auto or cpu.")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def mixed(device: torch.device) -> AbstractContextManager[None]:
    """Return the context that trunks are fitted in: bfloat16 on a GPU, else float32."""
    return torch.autocast("cuda", torch.bfloat16) if device.type == "cuda" else contextlib.nullcontext()


def words(device: torch.device) -> str:
    """Say what members were fitted on, for the card."""
    return f"one GPU ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else "the CPU"
