"""Where a system is fitted: one CPU, one GPU, or several under `torchrun`."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """The device, and where a process stands among its peers."""

    device: torch.device
    rank: int = 0
    world: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    def say(self, text: str) -> None:
        """Print a line of progress, once however many processes there are."""
        if self.leads:
            print(text, flush=True)

    def precision(self, mixed: bool) -> AbstractContextManager[None]:
        """Return the context to compute in: half precision on GPUs if wanted, else float32."""
        if not mixed or self.device.type != "cuda":
            return contextlib.nullcontext()
        return torch.autocast("cuda", self.half)

    @property
    def half(self) -> torch.dtype:
        """bfloat16 where the GPU has it."""
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16

    def scaler(self, mixed: bool) -> torch.amp.GradScaler:
        """Return a gradient scaler, which does something for float16 only."""
        needed = mixed and self.device.type == "cuda" and self.half == torch.float16
        return torch.amp.GradScaler(self.device.type, enabled=needed)

    def agreed(self, value: float) -> float:
        """Return the leader's value in every process, so that all stop at the same epoch."""
        if self.world == 1:
            return value
        shared: Tensor = torch.tensor([value], dtype=torch.float64, device=self.device)
        distributed.broadcast(shared, 0)
        return float(shared)

    def wait(self) -> None:
        """Wait for the other processes."""
        if self.world > 1:
            distributed.barrier()


@contextlib.contextmanager
def runtime(device: str = "auto") -> Iterator[Runtime]:
    """Give the runtime of this process; under `torchrun` it joins its peers.

    Parameters
    ----------
    device
        `auto`, `cpu` or `cuda`.

    Raises
    ------
    ValueError
        A GPU is asked for and there is none.
    """
    cuda = torch.cuda.is_available()
    if device == "cuda" and not cuda:
        raise ValueError("There is no GPU that torch can use; use --device cpu.")
    kind = "cuda" if device == "cuda" or (device == "auto" and cuda) else "cpu"
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    place = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if kind == "cuda" else torch.device("cpu")
    if kind == "cuda":
        torch.cuda.set_device(place)
    if world > 1:
        distributed.init_process_group("nccl" if kind == "cuda" else "gloo")
    try:
        yield Runtime(device=place, rank=rank, world=world)
    finally:
        if world > 1:
            # A wrapped network in a cycle would keep the group's threads past its end, and they abort the process.
            gc.collect()
            distributed.destroy_process_group()
